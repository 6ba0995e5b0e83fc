"""Asks a served model over HTTP or gRPC, as any client does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
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
