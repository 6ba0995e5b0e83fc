"""Sends real inference requests at a bounded rate and remembers every one that failed: the third witness.

It is a client like a user's: `tritonclient` over HTTP or gRPC to the model's Service. "No request failed"
is only worth something when enough were sent, so `assert_served` takes the number too. A wrong answer is a
failure as much as a refused connection.

The rate is a ceiling: a slow answer delays the next request of that worker and never makes requests pile up.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[Any]]


class ProbeFailed(AssertionError):
    """Requests failed, or too few were sent to say that none did."""


@dataclass(frozen=True)
class Attempt:
    """One request. `started` is `time.monotonic()`; `error` is empty when the right answer came."""

    number: int
    started: float
    seconds: float
    error: str = ""


class Ask(Protocol):
    """Sends one request on a connection of its own kind and returns the answer; raises on any failure."""

    def __call__(self) -> Tensors: ...

    def close(self) -> None: ...


TENSOR_TYPES: Mapping[str, str] = {
    "float32": "FP32",
    "float64": "FP64",
    "int32": "INT32",
    "int64": "INT64",
    "bool": "BOOL",
    "object": "BYTES",
}
"""numpy's names of the types and KServe v2's."""


def text(*values: str) -> NDArray[Any]:
    """A batch of strings as the request contract wants it: BYTES of shape [batch, 1]."""
    return np.array([[value.encode()] for value in values], dtype=np.object_)


class HttpAsk:
    """One keep-alive connection, as most clients hold one."""

    def __init__(self, address: str, model: str, inputs: Tensors, *, timeout_seconds: float = 5.0) -> None:
        import tritonclient.http as triton  # gevent comes with it; only probers pay for that

        self._triton = triton
        self._client = triton.InferenceServerClient(
            address, connection_timeout=timeout_seconds, network_timeout=timeout_seconds
        )
        self._model = model
        self._inputs = _requested(triton, inputs)

    def __call__(self) -> Tensors:
        answer = self._client.infer(self._model, self._inputs)
        return {
            output["name"]: answer.as_numpy(output["name"]) for output in answer.get_response()["outputs"]
        }

    def close(self) -> None:
        self._client.close()


class GrpcAsk:
    """One channel. The authority is the model's name, by which Envoy counts (`docs/serving.md`)."""

    def __init__(
        self, address: str, model: str, inputs: Tensors, *, timeout_seconds: float = 5.0, authority: str = ""
    ) -> None:
        import tritonclient.grpc as triton

        self._timeout = timeout_seconds
        # A channel that lost its server reconnects after 0.1 to 0.5 s, not gRPC's own 1 to 120 s: the
        # prober is to see when the service is back, not how patient its library is.
        options = [
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
        ]
        if authority:
            options.append(("grpc.default_authority", authority))  # type: ignore[arg-type]
        self._client = triton.InferenceServerClient(address, channel_args=options)
        self._model = model
        self._inputs = _requested(triton, inputs)

    def __call__(self) -> Tensors:
        answer = self._client.infer(self._model, self._inputs, client_timeout=self._timeout)
        return {output.name: answer.as_numpy(output.name) for output in answer.get_response().outputs}

    def close(self) -> None:
        self._client.close()


def _requested(triton: Any, inputs: Tensors) -> list[Any]:
    wanted = []
    for name, value in inputs.items():
        tensor = triton.InferInput(name, list(value.shape), TENSOR_TYPES[str(value.dtype)])
        tensor.set_data_from_numpy(value)
        wanted.append(tensor)
    return wanted


class Prober:
    """Use as a context manager: probes from entry to exit, from one thread.

    `connect` makes the connection (and is called again after a failure, as a user's client would reconnect);
    `check` returns what is wrong with an answer, or an empty string.
    """

    def __init__(
        self,
        connect: Callable[[], Ask],
        *,
        check: Callable[[Tensors], str] = lambda answer: "",
        per_second: float = 20.0,
        fresh_connections: bool = False,
    ) -> None:
        """With `fresh_connections` each request dials anew, as a client behind a new Service endpoint
        does."""
        self._connect = connect
        self._check = check
        self._period = 1.0 / per_second
        self._fresh = fresh_connections
        self._stop = threading.Event()
        self._attempts: list[Attempt] = []
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)

    def __enter__(self) -> Prober:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        ask: Ask | None = None
        due = time.monotonic()
        while not self._stop.is_set():
            started = time.monotonic()
            error = ""
            try:
                if ask is None:
                    ask = self._connect()
                error = self._check(ask())
            except Exception as problem:
                error = f"{type(problem).__name__}: {problem}"
            self._attempts.append(Attempt(len(self._attempts), started, time.monotonic() - started, error))
            if ask is not None and (error or self._fresh):
                ask.close()
                ask = None
            due = max(due + self._period, time.monotonic())
            self._stop.wait(max(0.0, due - time.monotonic()))
        if ask is not None:
            ask.close()

    @property
    def attempts(self) -> list[Attempt]:
        return list(self._attempts)

    @property
    def failures(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.error]

    def wait_for_success(self, *, after: float | None = None, timeout_seconds: float = 30) -> Attempt:
        """The first right answer to a request that started after a moment of `time.monotonic()` (default:
        now)."""
        moment = time.monotonic() if after is None else after
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            for attempt in self.attempts:
                if attempt.started >= moment and not attempt.error:
                    return attempt
            time.sleep(0.02)
        last = self._attempts[-1] if self._attempts else None
        raise ProbeFailed(f"No right answer within {timeout_seconds:g} s; the last attempt: {last}.")

    def longest_gap_seconds(self) -> float:
        """The longest time between two right answers (their ends), from the first one on; 0 with fewer than
        two."""
        ends = [attempt.started + attempt.seconds for attempt in self.attempts if not attempt.error]
        return max((later - earlier for earlier, later in itertools.pairwise(ends)), default=0.0)

    def assert_served(self, *, at_least: int) -> None:
        """Every request got the right answer, and there were at least so many."""
        attempts = self.attempts
        failures = [attempt for attempt in attempts if attempt.error]
        if failures:
            first = attempts[0].started
            shown = "; ".join(f"at {f.started - first:.2f} s: {f.error[:200]}" for f in failures[:5])
            raise ProbeFailed(f"{len(failures)} of {len(attempts)} requests failed: {shown}")
        if len(attempts) < at_least:
            raise ProbeFailed(f"Only {len(attempts)} requests were sent; {at_least} were due for a claim.")
