"""Asks a served model over HTTP or gRPC, as any client does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient

from tests.nlp_agent.running import RunningAgent, make_wanted, running_agent


class Asked:
    """Sends one request and gives every output that comes back."""

    def __init__(self, server: RunningAgent, protocol: str, model: str) -> None:
        self._module = httpclient if protocol == "http" else grpcclient
        port = server.http if protocol == "http" else server.grpc
        self._model = model
        self.client = self._module.InferenceServerClient(f"127.0.0.1:{port}")

    def __call__(self, *, outputs: Sequence[str] = (), **columns: Sequence[Any]) -> dict[str, Any]:
        """A column is a value for each row, or a list of values of the same length for each."""
        inputs = []
        for name, rows in columns.items():
            lists = [list(row) if isinstance(row, list | tuple) else [row] for row in rows]
            datatype = "INT32" if isinstance(lists[0][0], int) else "BYTES"
            if datatype == "BYTES":
                lists = [[v if isinstance(v, bytes) else v.encode() for v in row] for row in lists]
            array = np.array(lists, dtype=np.int32 if datatype == "INT32" else np.object_)
            tensor = self._module.InferInput(name, list(array.shape), datatype)
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        wanted = [self._module.InferRequestedOutput(name) for name in outputs] or None
        answer = self.client.infer(self._model, inputs, outputs=wanted)
        response = answer.get_response()
        given = response["outputs"] if isinstance(response, dict) else response.outputs
        names = [one["name"] if isinstance(one, dict) else one.name for one in given]
        return {name: answer.as_numpy(name) for name in names}


class Streamed:
    """Streams of one model over gRPC, by the name of its Service."""

    def __init__(self, server: RunningAgent, model: str) -> None:
        self._model = model
        self._arrived: Queue[tuple[Any, Any]] = Queue()
        self.client = grpcclient.InferenceServerClient(
            f"127.0.0.1:{server.grpc}", channel_args=[("grpc.default_authority", f"{model}.demo.svc")]
        )

    def begin(self, text: str | bytes, beam_size: int | None = None, rows: int = 1) -> None:
        """Send one request, on a stream of its own."""
        arrived = self._arrived = Queue()  # what still comes of an earlier one is not looked at
        self.client.start_stream(lambda result, error: arrived.put((result, error)))
        content = text if isinstance(text, bytes) else text.encode()
        inputs = [grpcclient.InferInput("text", [rows, 1], "BYTES")]
        inputs[0].set_data_from_numpy(np.full((rows, 1), content, dtype=np.object_))
        if beam_size is not None:
            inputs.append(grpcclient.InferInput("beam_size", [rows, 1], "INT32"))
            inputs[1].set_data_from_numpy(np.full((rows, 1), beam_size, dtype=np.int32))
        self.client.async_stream_infer(self._model, inputs, enable_empty_final_response=True)

    def next(self) -> tuple[dict[str, Any], bool]:
        """The next response, and whether it is the last. Raises InferenceServerException."""
        result, error = self._arrived.get(timeout=60)
        if error is not None:
            raise error
        response = result.get_response()
        given = {one.name: result.as_numpy(one.name) for one in response.outputs}
        return given, response.parameters["triton_final_response"].bool_param

    def cancel(self) -> None:
        self.client.stop_stream(cancel_requests=True)

    def all(self, text: str | bytes, beam_size: int | None = None, rows: int = 1) -> list[dict[str, Any]]:
        """Every response to one request."""
        self.begin(text, beam_size, rows)
        try:
            found = [self.next()]
            while not found[-1][1]:
                found.append(self.next())
        finally:
            self.client.stop_stream()
        return [given for given, _ in found]


@contextmanager
def streaming(server: RunningAgent, model: str) -> Iterator[Streamed]:
    streamed = Streamed(server, model)
    with streamed.client:
        yield streamed


@contextmanager
def serving(model: str, artifact: Path, **wanted: int) -> Iterator[RunningAgent]:
    """An agent, with Envoy and the real Triton, that serves one artifact; `wanted`: batch, instances."""
    with serving_all({model: artifact}, **wanted) as agent:
        yield agent


@contextmanager
def serving_all(artifacts: Mapping[str, Path], **wanted: int) -> Iterator[RunningAgent]:
    """The same of several, by the names of their models."""
    with running_agent() as agent:
        for artifact in artifacts.values():
            shutil.copytree(artifact, agent.store / "artifacts" / artifact.name)
        agent.want(*(make_wanted(model, one.name, **wanted) for model, one in artifacts.items()))
        agent.start()
        agent.wait_ready()
        yield agent


@contextmanager
def asking(server: RunningAgent, protocol: str, model: str) -> Iterator[Asked]:
    asked = Asked(server, protocol, model)
    with asked.client:
        yield asked


def texts(tensor: Any) -> list[str]:
    return [value.decode() for value in tensor.reshape(-1)]
