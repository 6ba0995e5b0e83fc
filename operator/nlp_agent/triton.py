"""Triton as a child process, and its control interface through tritonclient.

Triton listens on loopback only, and its control interface wants a random key of this start in a header. The
key stands on Triton's command line (it reads it nowhere else), so processes of the same user in the same pod
could read it there: model code is trusted as much as the agent, callers from outside are not.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import resource
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.utils import InferenceServerException

from nlp_agent.errors import Refused, RequestFailed, SettingsInvalid, TooSlow, TritonGone
from nlp_agent.examples import Answers, Example
from nlp_agent.settings import MEBIBYTE, Limits, Settings, Traces

KEY_HEADER = "nlp-agent-key"
# Everything but health, metadata and inference needs the key.
RESTRICTED = "model-repository,model-config,shared-memory,statistics,trace,logging"
GONE = ("StatusCode.UNAVAILABLE", "StatusCode.CANCELLED")
SLOW = ("StatusCode.DEADLINE_EXCEEDED", "StatusCode.RESOURCE_EXHAUSTED")
# These replace tritonclient's own. Its second between two attempts to connect would be most of a start.
CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 50),
]
PORTS = range(10000, 20000)
"""Neither ephemeral nor NodePorts, and below where programs beside it on one machine look for theirs."""
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
# Triton's Python backend makes /tmp/python_env_... whatever TMPDIR says (2.51), and aborts when it cannot.
TRITON_TMP = Path("/tmp")  # noqa: S108 - not our choice
# Health and control calls that do no work.
CALL_SECONDS = 10.0
# An orderly unload takes 1.3 s, that of a dead backend up to 10 s (measured); one that was killed in the
# middle of a request may hang for ever, while a new load of the same name works.
UNLOAD_SECONDS = 15.0


USUAL_STACK = 8 * MEBIBYTE
TRITON_SERVICE = "nlp-triton"
"""`service.name` of its spans."""
# One of so many requests is as good as none.
SELDOM = 2**31 - 1


@dataclass(frozen=True)
class TritonPorts:
    http: int
    grpc: int
    metrics: int


def pick_ports(settings: Settings) -> TritonPorts:
    """Free ports, and none that the agent or Envoy is still to open."""
    theirs = settings.ports
    taken = (theirs.http, theirs.grpc, theirs.metrics, theirs.agent)
    return TritonPorts(*free_ports(3, but=taken))


def free_ports(count: int, but: Collection[int] = ()) -> list[int]:
    """Different free ports of loopback, outside the range the kernel gives to outgoing connections: a port of
    that range may be taken before its owner binds it, and again whenever Triton is started anew.
    """
    low, high = (int(word) for word in EPHEMERAL.read_text().split())
    candidates = [port for port in PORTS if not low <= port <= high] or list(PORTS)
    candidates = [port for port in candidates if port not in but]
    random.shuffle(candidates)
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        for port in candidates:
            one = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                one.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
    raise SettingsInvalid(f"Triton needs {count} free ports of loopback; of {PORTS} none is left.")


def shm_prefix(work: Path) -> str:
    """Names Triton's shared memory after the work folder, which has one agent: what carries it at a start is
    refuse.
    """
    return "nlp_agent_" + hashlib.sha256(str(work).encode()).hexdigest()[:12] + "_"


def clean_shared_memory(work: Path, shm: Path = Path("/dev/shm")) -> int:  # noqa: S108 - the system's, by name
    """Remove the regions that an earlier, killed Triton of this work folder left; how many there were."""
    leftovers = list(shm.glob(shm_prefix(work) + "*"))
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def triton_arguments(settings: Settings, ports: TritonPorts, key: str) -> list[str]:
    return [
        str(settings.programs.triton),
        f"--model-repository={settings.repository}",
        f"--backend-directory={settings.programs.backends}",
        "--model-control-mode=explicit",
        # A failed load would otherwise turn the server's readiness off for ever, with good models loaded.
        "--strict-readiness=false",
        "--exit-on-error=false",
        # Ten times faster loads, and a configuration that is written out is not guessed.
        "--disable-auto-complete-config",
        f"--exit-timeout-secs={max(1, round(settings.timing.triton_exit))}",
        "--http-address=127.0.0.1",
        f"--http-port={ports.http}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={ports.grpc}",
        "--metrics-address=127.0.0.1",
        f"--metrics-port={ports.metrics}",
        f"--http-restricted-api={RESTRICTED}:{KEY_HEADER}={key}",
        f"--grpc-restricted-protocol={RESTRICTED}:{KEY_HEADER}={key}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix(settings.work)}",
        f"--backend-config=python,stub-timeout-seconds={round(settings.timing.load)}",
        "--metrics-config=summary_latencies=true",
        *(trace_arguments(settings.traces) if settings.traces is not None else ()),
    ]


def widen_stacks(limits: Limits) -> None:
    """Of the threads of children that are started from now on.

    Triton (2.51) copies a request in JSON onto the stack of a thread, more than once: with the usual 8 MiB
    one of 4 MiB ends it by a fault of memory. Room that nobody uses costs address space alone.
    """
    wanted = USUAL_STACK + 3 * limits.body_bytes
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft < wanted:
        # Without a limit a thread would get 2 MiB, which is not what unlimited says.
        resource.setrlimit(resource.RLIMIT_STACK, (wanted, hard))


def trace_arguments(traces: Traces) -> list[str]:
    """Its spans go on where Envoy's are; recorded questions, which do not pass Envoy, are traces of their
    own."""
    rate = min(round(1 / traces.share), SELDOM) if traces.share > 0 else SELDOM
    return [
        "--trace-config=mode=opentelemetry",
        f"--trace-config=opentelemetry,url={traces.url}",
        f"--trace-config=opentelemetry,resource=service.name={TRITON_SERVICE}",
        "--trace-config=level=TIMESTAMPS",
        f"--trace-config=rate={rate}",
    ]


def child_environment(settings: Settings, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """What Triton and Envoy get: ours, with temporary files in the work folder."""
    return {
        **({"OTEL_RESOURCE_ATTRIBUTES": f"k8s.pod.name={settings.pod}"} if settings.traces else {}),
        **(os.environ if env is None else env),
        "TMPDIR": str(settings.tmp),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


Found = TypeVar("Found")


class TritonClient:
    """The calls the agent makes to one start of Triton.

    Every method may raise `TritonGone`. A client belongs to one start: gRPC waits up to two minutes before it
    tries a lost connection again.
    """

    def __init__(
        self, ports: TritonPorts, key: str, on_ask: Callable[[str], None] = lambda model: None
    ) -> None:
        """`on_ask` is called with the model before each of our own requests."""
        self._closed = False
        self._on_ask = on_ask
        self._client = tritonclient.grpc.aio.InferenceServerClient(
            f"127.0.0.1:{ports.grpc}", channel_args=CHANNEL
        )
        # The prefix is Triton's own rule for gRPC metadata.
        self._headers = {f"triton-grpc-protocol-{KEY_HEADER}": key}

    async def close(self) -> None:
        self._closed = True
        await self._client.close()

    async def _call(self, call: Awaitable[Found]) -> Found:
        try:
            return await call
        except (asyncio.CancelledError, grpc.aio.UsageError) as error:
            # gRPC cancels what is under way when its connection is closed, and takes no more: that is no
            # wish that the task should end.
            task = asyncio.current_task()
            if not self._closed or (task is not None and task.cancelling()):
                raise
            raise TritonGone("Triton ended, and the connection to it was closed.") from error

    async def is_live(self, patience: float) -> bool:
        try:
            return bool(await self._client.is_server_live(client_timeout=patience))
        except InferenceServerException:
            return False

    async def version(self) -> str:
        try:
            metadata = await self._call(self._client.get_server_metadata(client_timeout=CALL_SECONDS))
        except InferenceServerException as error:
            raise TritonGone(str(error)) from error
        return str(metadata.version)

    async def load(self, name: str, patience: float) -> None:
        """Load, or load anew when the folder changed. Raises `Refused` (LoadFailed)."""
        try:
            await self._call(self._client.load_model(name, headers=self._headers, client_timeout=patience))
        except InferenceServerException as error:
            if error.status() in GONE:
                raise TritonGone(f"Triton ended while it loaded {name!r}.") from error
            if error.status() in SLOW:
                raise Refused("LoadFailed", f"Triton did not load it within {patience:g} s.") from error
            raise Refused("LoadFailed", f"Triton refused to load it: {error.message()}.") from error

    async def unload(self, name: str) -> None:
        """Unload and wait until it is gone: its memory is needed by what comes next."""
        try:
            await self._call(
                self._client.unload_model(name, headers=self._headers, client_timeout=CALL_SECONDS)
            )
        except InferenceServerException as error:
            if error.status() in GONE:
                raise TritonGone(str(error)) from error
            return  # not loaded
        deadline = asyncio.get_running_loop().time() + UNLOAD_SECONDS
        while await self._state(name) == "UNLOADING":
            if asyncio.get_running_loop().time() > deadline:
                return  # a hung instance; Triton never ends it
            await asyncio.sleep(0.05)

    async def _state(self, name: str) -> str:
        try:
            index = await self._call(
                self._client.get_model_repository_index(headers=self._headers, client_timeout=CALL_SECONDS)
            )
        except InferenceServerException as error:
            raise TritonGone(str(error)) from error
        return next((str(model.state) for model in index.models if model.name == name), "")

    async def executed(self, name: str) -> tuple[int, float]:
        """Executions of a model since it was loaded, and the seconds that they took together."""
        try:
            answer = await self._call(
                self._client.get_inference_statistics(
                    name, headers=self._headers, client_timeout=CALL_SECONDS
                )
            )
        except InferenceServerException as error:
            if error.status() in GONE:
                raise TritonGone(str(error)) from error
            raise RequestFailed(str(error.message())) from error
        count, nanoseconds = 0, 0
        for of_version in answer.model_stats:
            for batch in of_version.batch_stats:
                count += batch.compute_infer.count
                nanoseconds += batch.compute_input.ns + batch.compute_infer.ns + batch.compute_output.ns
        return count, nanoseconds / 1e9

    async def loaded_config(self, name: str) -> Any:
        """The ModelConfig as Triton completed it."""
        try:
            answer = await self._call(
                self._client.get_model_config(name, headers=self._headers, client_timeout=CALL_SECONDS)
            )
        except InferenceServerException as error:
            if error.status() in GONE:
                raise TritonGone(str(error)) from error
            raise Refused(
                "LoadFailed", f"Triton does not say how it loaded it: {error.message()}."
            ) from error
        return answer.config

    async def ask(self, model: str, example: Example, patience: float) -> Answers:
        """The responses to the recorded request. Raises `RequestFailed`, `TooSlow`."""
        inputs = []
        for tensor in example.inputs:
            one = tritonclient.grpc.InferInput(tensor.name, list(tensor.shape), tensor.datatype)
            one.set_data_from_numpy(np.ascontiguousarray(tensor.value))
            inputs.append(one)
        outputs = [tritonclient.grpc.InferRequestedOutput(name) for name in example.names]
        request = {"model_name": model, "inputs": inputs, "outputs": outputs}
        self._on_ask(model)
        try:
            if example.earlier is None:
                results = [await self._call(self._client.infer(**request, client_timeout=patience))]
            else:
                results = await self._call(self._stream(request, patience))
        except InferenceServerException as error:
            if error.status() in SLOW:
                raise TooSlow(f"No answer within {patience:g} s.") from error
            if error.status() in GONE:
                raise TritonGone(str(error)) from error
            raise RequestFailed(str(error.message())) from error
        return [{name: result.as_numpy(name) for name in example.names} for result in results]

    async def _stream(self, request: dict[str, Any], patience: float) -> list[Any]:
        """All responses to one request."""

        async def requests() -> AsyncIterator[dict[str, Any]]:
            yield request

        results = []
        async for result, error in self._client.stream_infer(requests(), stream_timeout=patience):
            if error is not None:
                raise error
            results.append(result)
        return results


def new_key() -> str:
    return secrets.token_hex(24)
