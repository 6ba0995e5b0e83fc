"""One request to one model: which tensors to send, the call itself, and the answer as plain data.

The tensors follow the request contract of the architecture (docs/api/inference.md); what a model really
takes is read from its own metadata, so an architecture this version has never heard of can be asked too.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nlpctl.errors import ClusterUnreachable, NlpctlError, NotReady, RequestRefused, WrongUse

Protocol = Literal["http", "grpc"]

NUMPY_OF = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of a model's metadata; -1 in `shape` is a free size, the first of them the batch."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor of an answer: row-major `data`, text already decoded."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: tuple[Any, ...]


@dataclass(frozen=True)
class Answer:
    """What came back, and how long it took from sending to parsing."""

    model: str
    version: str
    seconds: float
    outputs: tuple[Tensor, ...]

    def output(self, name: str) -> Tensor | None:
        return next((tensor for tensor in self.outputs if tensor.name == name), None)


def choose_inputs(
    takes: Sequence[TensorSpec], given: Mapping[str, Sequence[str]]
) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays to send, one row each, from words; refuses a name the model does not take."""
    by_name = {spec.name: spec for spec in takes}
    unknown = [name for name in given if name not in by_name]
    if unknown:
        raise WrongUse(
            f"This model has no input {unknown[0]!r}; it takes {', '.join(by_name) or 'no inputs at all'}."
        )
    return {name: one_row(by_name[name], values) for name, values in given.items()}


def one_row(spec: TensorSpec, values: Sequence[str]) -> np.ndarray[Any, Any]:
    """One value fills the row; several go where the row has a free length."""
    batch, *sizes = spec.shape or (1,)
    if len(values) > 1 and sizes.count(-1) != 1:
        raise WrongUse(f"Input {spec.name!r} takes one value; {len(values)} are given.")
    shape = (1 if batch == -1 else batch, *(len(values) if size == -1 else size for size in sizes))
    elements = [_element(spec, value) for value in values]
    row: np.ndarray[Any, Any] = np.empty(
        shape, dtype=np.object_ if spec.datatype == "BYTES" else NUMPY_OF[spec.datatype]
    )
    if len(values) == 1:
        row.fill(elements[0])
    else:
        along = [len(values) if size == -1 else 1 for size in sizes]
        row[:] = np.array(elements, dtype=row.dtype).reshape(1, *along)
    return row


def _element(spec: TensorSpec, value: str) -> Any:
    if spec.datatype == "BYTES":
        return value.encode("utf-8")
    try:
        return NUMPY_OF[spec.datatype](value)
    except (KeyError, ValueError, OverflowError) as error:
        raise WrongUse(
            f"Input {spec.name!r} is {spec.datatype}; {value!r} is not a value of that type."
        ) from error


def plain(values: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    """The elements, row-major, as Python values; bytes that are no UTF-8 become replacement characters."""
    return tuple(
        item.decode("utf-8", "replace") if isinstance(item, bytes) else item
        for item in values.reshape(-1).tolist()
    )


class Connection:
    """A client of one server for one model. `authority` is the host name its gRPC routes expect."""

    def __init__(self, address: str, protocol: Protocol, *, authority: str, timeout_seconds: float) -> None:
        self.address = address
        self.protocol = protocol
        self._timeout = timeout_seconds
        # Imported here: each of the two takes half a second to load, and most commands need neither.
        if protocol == "grpc":
            import tritonclient.grpc as triton

            # Without the second option gRPC would send requests for cluster addresses to $http_proxy.
            options = [("grpc.default_authority", authority), ("grpc.enable_http_proxy", 0)]
            self._client = triton.InferenceServerClient(url=address, channel_args=options)
        else:
            import tritonclient.http as triton

            self._client = triton.InferenceServerClient(
                url=address, connection_timeout=min(5.0, timeout_seconds), network_timeout=timeout_seconds
            )
        self._triton = triton

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def serves(self, model: str) -> bool:
        """True when whoever listens there has this model ready; False also when nobody does."""
        try:
            if self.protocol == "grpc":
                return bool(self._client.is_model_ready(model, client_timeout=self._timeout))
            return bool(self._client.is_model_ready(model))
        except (
            Exception
        ):  # tritonclient lets gevent's, socket's and HTTP parsers' errors through, each its own class
            return False

    def takes(self, model: str) -> tuple[TensorSpec, ...]:
        try:
            if self.protocol == "grpc":
                found = self._client.get_model_metadata(model, client_timeout=self._timeout)
                return tuple(TensorSpec(i.name, i.datatype, tuple(i.shape)) for i in found.inputs)
            found = self._client.get_model_metadata(model)
        except Exception as error:
            raise explain(error, model=model, address=self.address) from error
        return tuple(TensorSpec(i["name"], i["datatype"], tuple(i["shape"])) for i in found["inputs"])

    def ask(
        self, model: str, inputs: Mapping[str, np.ndarray[Any, Any]], takes: Sequence[TensorSpec]
    ) -> Answer:
        """Send one request and wait for its answer; raises RequestRefused, NotReady or ClusterUnreachable."""
        tensors = self._tensors(inputs, takes)
        started = time.perf_counter()
        try:
            if self.protocol == "grpc":
                result = self._client.infer(model, tensors, client_timeout=self._timeout)
                response = result.get_response()
                version = response.model_version
                names = [(output.name, output.datatype) for output in response.outputs]
            else:
                result = self._client.infer(model, tensors)
                response = result.get_response()
                version = response.get("model_version", "")
                names = [(output["name"], output["datatype"]) for output in response["outputs"]]
        except Exception as error:
            raise explain(error, model=model, address=self.address) from error
        return Answer(model, str(version), time.perf_counter() - started, _outputs(result, names))

    def stream(
        self, model: str, inputs: Mapping[str, np.ndarray[Any, Any]], takes: Sequence[TensorSpec]
    ) -> Iterator[Answer]:
        """Send one request and give each response as it comes; who ends before the last cancels the request.

        Over gRPC alone. Raises as `ask`, also when no response comes within the timeout.
        """
        arrived: queue.Queue[tuple[Any, Any]] = queue.Queue()
        started, last = time.perf_counter(), False
        try:
            self._client.start_stream(lambda result, error: arrived.put((result, error)))
            self._client.async_stream_infer(
                model, self._tensors(inputs, takes), enable_empty_final_response=True
            )
            while not last:
                result, error = arrived.get(timeout=self._timeout)
                if error is not None:
                    last = True
                    raise error
                response = result.get_response()
                last = response.parameters["triton_final_response"].bool_param
                names = [(output.name, output.datatype) for output in response.outputs]
                seconds = time.perf_counter() - started
                yield Answer(model, str(response.model_version), seconds, _outputs(result, names))
        except queue.Empty as error:
            raise RequestRefused(LATE.format(model=model, address=self.address)) from error
        except Exception as error:
            raise explain(error, model=model, address=self.address) from error
        finally:
            self._client.stop_stream(cancel_requests=not last)

    def _tensors(self, inputs: Mapping[str, np.ndarray[Any, Any]], takes: Sequence[TensorSpec]) -> list[Any]:
        datatypes = {spec.name: spec.datatype for spec in takes}
        tensors = []
        for name, values in inputs.items():
            tensor = self._triton.InferInput(name, list(values.shape), datatypes[name])
            tensor.set_data_from_numpy(values)
            tensors.append(tensor)
        return tensors


def _outputs(result: Any, names: Sequence[tuple[str, str]]) -> tuple[Tensor, ...]:
    found = []
    for name, datatype in names:
        values = result.as_numpy(name)
        found.append(Tensor(name, datatype, tuple(values.shape), plain(values)))
    return tuple(found)


LATE = "{model} at {address} did not answer in time; `--timeout` gives it longer."


def explain(error: Exception, *, model: str, address: str) -> NlpctlError:
    """The failure of a call as one of ours. A status is '400' over HTTP, 'StatusCode.X' over gRPC."""
    status_of = getattr(error, "status", None)
    status = str(status_of() if callable(status_of) else "")
    said = str(
        getattr(error, "message", lambda: "")() if callable(getattr(error, "message", None)) else error
    )
    said = said.strip().rstrip(".") or type(error).__name__
    if status in {"404", "StatusCode.NOT_FOUND", "503", "StatusCode.UNAVAILABLE"}:
        if "onnect" in said and "NOT_FOUND" not in status:
            return ClusterUnreachable(f"Nobody answers at {address}: {said}.")
        return NotReady(f"{model} is not served at {address}: {said}.")
    if status in {"StatusCode.DEADLINE_EXCEEDED", "499"}:
        return RequestRefused(LATE.format(model=model, address=address))
    if "decoupled transaction policy" in said:
        return RequestRefused(f"{model} answers token by token (responses: Streamed); ask it with --stream.")
    if status:
        return RequestRefused(f"{model} refused the request: {said}.")
    return ClusterUnreachable(f"The connection to {address} failed: {said}.")
