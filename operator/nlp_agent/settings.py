"""Settings, all from the environment, read once.

The image says where its programs are (`NLP_TRITON_*`, `NLP_ENVOY_BINARY`); the pod says the rest. The agent
therefore knows nothing of image flavours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nlp_agent.errors import SettingsInvalid
from nlp_bucket.address import Address, AddressInvalid, address_in

MEBIBYTE = 1024 * 1024

OTLP_PORT = 4318
"""Of OTLP over HTTP."""
TRACES_SHARE = 1.0

HOLD_HTTP_SOCKET = "hold-http.sock"
"""In the folder `run`; the longest name of a socket there."""
# sun_path holds 108 bytes with the closing zero.
LONGEST_SOCKET_PATH = 107


@dataclass(frozen=True)
class Programs:
    triton: Path
    """The `tritonserver` binary."""
    backends: Path
    """Triton's backend directory."""
    envoy: Path
    """The `envoy` binary."""


@dataclass(frozen=True)
class Ports:
    address: str = "0.0.0.0"  # noqa: S104 - the pod's own network namespace; what is reachable is Envoy's route list
    """Where Envoy, the metrics page and the report listen. Triton and Envoy's admin page never use it."""
    http: int = 8000
    grpc: int = 8001
    metrics: int = 8002
    agent: int = 8003


@dataclass(frozen=True)
class Limits:
    """What Envoy lets through."""

    body_bytes: int = 16 * MEBIBYTE
    """Largest request; a larger one gets 413 over HTTP."""
    header_kibibytes: int = 32
    """All headers of one request together."""
    connections: int = 4096
    """Open client connections of one pod; a guess that protects memory (about 100 KiB each)."""
    active_requests: int = 1024
    """Requests inside Triton or waiting for it; the next one gets 503. Triton's own queue limits make its
    batcher sleep half a second a request (measured), so the bound stands here.
    """
    request_seconds: float = 120.0
    """From the whole request to the end of a unary answer."""
    idle_seconds: float = 60.0
    """A client connection with no request on it is closed."""
    connection_seconds: float = 600.0
    """Oldest client connection, so that gRPC clients come to know new pods; an active request is finished
    first.
    """


@dataclass(frozen=True)
class Timing:
    """Seconds throughout."""

    look: float = 0.25
    """How often `server.json` and the backends' processes are looked at."""
    canary: float = 2.0
    """How often each serving model answers one of its examples."""
    answer: float = 30.0
    """Longest wait for one example; a canary later than this is slow, which is not an offence."""
    load: float = 600.0
    """Longest load of one model."""
    hang: float = 30.0
    """Silence of Triton or of the agent's own loop after which `/livez` turns 503."""
    drain_delay: float = 5.0
    """From SIGTERM to closing the door: the time until the endpoints are gone from every node's proxy."""
    drain_requests: float = 20.0
    """Longest wait for requests in flight after that."""
    hold: float = 20.0
    """How long a request waits for its backend or for Triton to come back; a reload takes a second or two."""
    triton_exit: float = 5.0
    """Longest orderly stop of Triton; after a backend was reloaded it always takes all of it (Triton 2.51).
    """
    first_retry: float = 5.0
    """First retry of a refused model; doubles."""
    longest_retry: float = 300.0
    longest_wait: float = 30.0
    """Between two tries of a store that gave no answer: asking costs nothing."""
    deaths_window: float = 300.0
    """`deaths_limit` deaths of one backend inside this window put its model in quarantine."""
    deaths_limit: int = 3
    measure: float = 10.0
    """How often memory is measured."""
    profile: float = 30.0
    """Longest delay of readiness for the profiles that `server.json` asks for, of all models together."""


@dataclass(frozen=True)
class Traces:
    """Spans of requests go to an OpenTelemetry collector, as OTLP over HTTP."""

    host: str
    port: int
    share: float
    """Of the requests, from 0 to 1. Envoy draws it by the trace's identifier, of those whose caller has not
    decided; Triton counts by itself, whatever its caller decided (2.51)."""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/v1/traces"


@dataclass(frozen=True)
class Settings:
    config: Path
    """`server.json`."""
    store: Path | Address
    """The artifact store, only read: a folder or a bucket."""
    work: Path
    """The only folder written besides /dev/shm: repository, verified copies, sockets, temporary files."""
    programs: Programs
    ports: Ports = field(default_factory=Ports)
    limits: Limits = field(default_factory=Limits)
    timing: Timing = field(default_factory=Timing)
    traces: Traces | None = None
    """`None`: no spans are made."""
    pod: str = ""
    """Its name: `server.json` may want another version of this very pod than of the others."""
    visible_devices: str = ""
    """`NVIDIA_VISIBLE_DEVICES`, which the device plugin or the container runtime sets."""
    envoy_workers: int = 1
    """Envoy's worker threads; one carries about 15,000 requests a second (0.06 CPU ms each, measured)."""

    @property
    def repository(self) -> Path:
        return self.work / "repository"

    @property
    def run(self) -> Path:
        return self.work / "run"

    @property
    def tmp(self) -> Path:
        return self.work / "tmp"

    @property
    def downloads(self) -> Path:
        """What came of artifacts that are not whole yet. It outlives the container, as the copies do."""
        return self.work / "downloads"


def read_settings(env: Mapping[str, str] | None = None) -> Settings:
    """Every wrong variable is named at once in the `SettingsInvalid` this raises."""
    env = os.environ if env is None else env
    wrong: list[str] = []

    def path(name: str, default: str = "") -> Path:
        value = env.get(name, default)
        if not value.startswith("/"):
            wrong.append(f"{name} is {value!r}; it must be an absolute path")
        return Path(value)

    def number(name: str, default: float, lowest: float, highest: float) -> float:
        text = env.get(name, "")
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not lowest <= value <= highest:
            wrong.append(f"{name} is {text!r}; it must be a number from {lowest:g} to {highest:g}")
            return default
        return value

    def port(name: str, default: int) -> int:
        return int(number(name, default, 1, 65535))

    def store() -> Path | Address:
        try:
            return address_in(env) or path("NLP_STORE", "/store")
        except AddressInvalid as error:
            wrong.append(str(error).rstrip("."))
            return Path()

    def traces() -> Traces | None:
        url = env.get("NLP_TRACES_URL", "")
        share = number("NLP_TRACES_SHARE", TRACES_SHARE, 0, 1)
        if not url:
            return None
        found = re.fullmatch(r"http://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::([0-9]{1,5}))?/?", url)
        if found is None:
            wrong.append(f"NLP_TRACES_URL is {url!r}; it must be http://host:port of a collector")
            return None
        return Traces(found[1], int(found[2] or OTLP_PORT), share)

    default = Timing()
    limits = Limits()
    settings = Settings(
        config=path("NLP_SERVER_CONFIG", "/etc/nlp/server.json"),
        store=store(),
        work=path("NLP_WORK", "/work"),
        programs=Programs(
            triton=path("NLP_TRITON_BINARY"),
            backends=path("NLP_TRITON_BACKENDS"),
            envoy=path("NLP_ENVOY_BINARY"),
        ),
        ports=Ports(
            address=env.get("NLP_LISTEN_ADDRESS", Ports.address),
            http=port("NLP_HTTP_PORT", 8000),
            grpc=port("NLP_GRPC_PORT", 8001),
            metrics=port("NLP_METRICS_PORT", 8002),
            agent=port("NLP_AGENT_PORT", 8003),
        ),
        limits=Limits(
            body_bytes=int(number("NLP_BODY_MEBIBYTES", limits.body_bytes / MEBIBYTE, 1, 1024) * MEBIBYTE),
            active_requests=int(number("NLP_ACTIVE_REQUESTS", limits.active_requests, 1, 1e6)),
            request_seconds=number("NLP_REQUEST_SECONDS", limits.request_seconds, 1, 86400),
        ),
        timing=Timing(
            canary=number("NLP_CANARY_SECONDS", default.canary, 0.1, 3600),
            load=number("NLP_LOAD_SECONDS", default.load, 1, 86400),
            hang=number("NLP_HANG_SECONDS", default.hang, 2, 3600),
            drain_delay=number("NLP_DRAIN_DELAY_SECONDS", default.drain_delay, 0, 600),
            drain_requests=number("NLP_DRAIN_REQUESTS_SECONDS", default.drain_requests, 0, 3600),
            hold=number("NLP_HOLD_SECONDS", default.hold, 0, 3600),
            triton_exit=number("NLP_TRITON_EXIT_SECONDS", default.triton_exit, 1, 3600),
            first_retry=number("NLP_FIRST_RETRY_SECONDS", default.first_retry, 0.1, 3600),
            measure=number("NLP_MEASURE_SECONDS", default.measure, 0.1, 3600),
            profile=number("NLP_PROFILE_SECONDS", default.profile, 0.1, default.profile),
        ),
        traces=traces(),
        pod=env.get("NLP_POD", ""),
        visible_devices=env.get("NVIDIA_VISIBLE_DEVICES", ""),
        envoy_workers=int(number("NLP_ENVOY_WORKERS", 1, 1, 256)),
    )
    socket = str(settings.run / HOLD_HTTP_SOCKET)
    if len(socket.encode()) > LONGEST_SOCKET_PATH:
        wrong.append(f"NLP_WORK is too long: {socket!r} must fit in {LONGEST_SOCKET_PATH} bytes")
    if wrong:
        raise SettingsInvalid("The environment is wrong: " + "; ".join(wrong) + ".")
    return settings
