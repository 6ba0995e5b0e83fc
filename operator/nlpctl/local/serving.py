"""A server on this machine: the agent with Triton and Envoy, configured as its pod would be.

What differs from a pod: all ports are on loopback, the user's own processes are beside it, and nobody has to
be waited for before it stops.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from localcluster import paths
from localcluster.environments import code_path
from localcluster.ports import Ports
from localcluster.progress import Progress
from localcluster.serving_env import ServingEnvironment
from nlp_operator.api import names
from nlp_operator.api.objects import Obj, dig, listed, namespace, number, text
from nlp_operator.api.spec import CpuDevice, Device, PoolSpec
from nlp_operator.resources.server import ServedModel, instances_on, server_config
from nlpctl.errors import NotPossible, NotReady
from nlpctl.local import servers
from nlpctl.local.builds import Built
from nlpctl.local.processes import end_session, start
from nlpctl.local.servers import LocalServer

ADDRESS = "127.0.0.1"
SERVER = "local"
POOL = "this-machine"

LOOK_SECONDS = 0.1
WATCH_SECONDS = 1.0
DRAIN_SECONDS = 60
"""Longer than the agent takes to finish requests in flight (20 s) and to stop Triton."""
LOG_LINES = 20

MAY_PASS = ("LoadFailed", "BackendDied")
"""What a busy machine does to a good model, too: no answer in time. Other refusals come again as they are."""
ATTEMPTS = 3
"""So often such a model is refused before it is not waited for any longer; 15 s lie between them."""


@dataclass(frozen=True)
class Refusal:
    """Why the agent does not serve a model, and how often it has said so. It tries it again, ever less
    often."""

    reason: str
    message: str
    attempts: int

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"

    @property
    def may_pass(self) -> bool:
        """Whether the next attempt is worth waiting for."""
        return self.reason in MAY_PASS and self.attempts < ATTEMPTS


@dataclass
class Running:
    """A server that was started here."""

    server: LocalServer
    process: subprocess.Popen[bytes]
    progress: Progress
    digests: Mapping[str, str]
    start_seconds: float = 0.0
    refused: dict[str, Refusal] = field(default_factory=dict)
    """By model: those that the agent does not serve."""

    def report(self) -> Obj:
        """The agent's report; empty while it cannot be had."""
        status, body = get(self.server.agent, "/v1/status")
        found: Obj = json.loads(body) if status == 200 else {}
        return found

    def ready(self) -> bool:
        return get(self.server.agent, "/readyz")[0] == 200

    def wait_ready(self) -> None:
        """Until every model is proven or refused for good and at least one is proven. Raises NotReady."""
        started = time.monotonic()
        while True:
            ready = self.ready()
            self.note_refusals()
            waits = any(refusal.may_pass for refusal in self.refused.values())
            if ready and not waits:
                break
            if self.process.poll() is not None:
                raise NotReady(
                    f"The server ended with exit code {self.process.returncode}. {self.log_tail()}"
                )
            if len(self.refused) == len(self.server.models) and not waits:
                raise NotReady(" ".join(f"{name} is not served. {why}" for name, why in self.refused.items()))
            time.sleep(LOOK_SECONDS)
        self.start_seconds = time.monotonic() - started

    def note_refusals(self) -> None:
        """Look, and say what is new: that a model is tried again, and that it is served after all."""
        for model in listed(self.report(), "models"):
            name = text(model, "name")
            before = self.refused.pop(name, None)
            if text(model, "state") == "Quarantined":
                now = Refusal(text(model, "reason"), text(model, "message"), number(model, "attempts"))
                self.refused[name] = now
                if now.may_pass and before is None:
                    self.progress.say(f"  {name} is not served yet. {now} It is tried again.")
            elif before is not None and text(model, "state") == "Serving":
                self.progress.say(f"  {name} is served now.")

    def examples(self) -> dict[str, int]:
        """By model: how many recorded examples gave the recorded answers."""
        return {
            text(model, "name"): number(model, "examples")
            for model in listed(self.report(), "models")
            if text(model, "state") == "Serving"
        }

    def wait(self) -> None:
        """Until it ends by itself, which it should not. Raises NotReady; KeyboardInterrupt passes through."""
        while self.refused:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(WATCH_SECONDS)
                break
            self.note_refusals()
        self.process.wait()
        raise NotReady(f"The server ended with exit code {self.process.returncode}. {self.log_tail()}")

    def log_tail(self) -> str:
        path = Path(self.server.log)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        shown = "\n".join(f"    {line[:400]}" for line in lines[-LOG_LINES:])
        return f"Its log ({path}) ends with:\n{shown}"

    def end(self) -> None:
        """Finish requests in flight, then stop. A Ctrl-C meanwhile hurries; none of its processes stays."""
        for _ in range(2):
            try:
                self.process.send_signal(signal.SIGTERM)
                self.process.wait(DRAIN_SECONDS)
                break
            except KeyboardInterrupt:
                self.progress.say("  not waiting for requests in flight")
            except subprocess.TimeoutExpired:
                break
        end_session(self.process)


def get(address: str, path: str) -> tuple[int, bytes]:
    """Status and body of a page of the agent, whatever proxies are set; 0 when nobody answers."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def this_machine() -> PoolSpec:
    """The cores this process may use, as a pool of one device."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return PoolSpec(
        device=Device(type="Cpu", cpu=CpuDevice(cores=len(os.sched_getaffinity(0)))),
        memory_mebibytes=max(64, memory),
        max_devices=1,
    )


def config_of(built: Sequence[Built]) -> str:
    """`server.json` as the operator writes it, of all models together."""
    pool = this_machine()
    models = [
        ServedModel(
            name=one.model.name,
            digest=one.digest,
            max_batch_size=one.model.spec.serving.max_batch_size,
            instances=instances_on(pool, 1),
            responses=one.model.spec.serving.responses,
        )
        for one in built
    ]
    return server_config(SERVER, namespace(built[0].model.obj), POOL, pool, 1, models)


def choose_ports(wanted_http: int | None, ports: Ports, progress: Progress) -> dict[str, int]:
    """The pod's ports where they are free, else others, which is said; `wanted_http` is taken or refused.

    Raises NotPossible when the port the user named is in use.
    """
    usual = {
        "http": wanted_http or names.HTTP_PORT,
        "grpc": names.GRPC_PORT,
        "metrics": names.METRICS_PORT,
        "agent": names.AGENT_PORT,
    }
    chosen: dict[str, int] = {}
    for purpose, port in usual.items():
        if port not in chosen.values() and _is_free(port):
            chosen[purpose] = port
            continue
        if purpose == "http" and wanted_http is not None:
            raise NotPossible(
                f"Port {port} of {ADDRESS} is in use; name another with --port, or leave it out."
            )
        chosen[purpose] = ports.take(ADDRESS)
        progress.say(f"  port {port} is in use; {purpose} listens on {chosen[purpose]}")
    return chosen


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As Envoy does: connections of a former server that are not forgotten yet do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def serving(
    built: Sequence[Built],
    store: Path,
    environment: ServingEnvironment,
    progress: Progress,
    *,
    http_port: int | None = None,
) -> Iterator[Running]:
    """Start a server for these artifacts, ready at the beginning of the block and gone after it."""
    held = Ports()
    # In the scratch folder, whose path is short: Envoy's socket lies in it, and a socket's path is limited.
    work = Path(tempfile.mkdtemp(prefix="serve-", dir=paths.scratch_dir()))
    logs = paths.state_dir() / "serve"
    logs.mkdir(parents=True, exist_ok=True)
    record: Path | None = None
    running: Running | None = None
    try:
        ports = choose_ports(http_port, held, progress)
        # By the port, which no two running servers share; the log of an earlier one goes.
        log = logs / f"{built[0].model.name}-{ports['http']}.log"
        config = work / "config" / names.SERVER_CONFIG_KEY
        config.parent.mkdir()
        config.write_text(config_of(built), encoding="utf-8")
        address = {purpose: f"{ADDRESS}:{port}" for purpose, port in ports.items()}
        server = LocalServer(
            servers.this_process(),
            tuple(one.model.name for one in built),
            **address,
            work=str(work),
            log=str(log),
        )
        # Before the start: whoever finds us gone then knows what to take away.
        record = servers.record(server)
        with log.open("wb") as sink:
            process = start(
                environment.python,
                "nlp_agent",
                [],
                variables_of(built, environment, store, work, config, ports),
                stderr=sink,
            )
        running = Running(server, process, progress, {one.model.name: one.digest for one in built})
        with progress.step(f"start Triton and Envoy, prove {', '.join(server.models)}"):
            running.wait_ready()
        yield running
    finally:
        if running is not None:
            with progress.step("end the server"):
                running.end()
        if record is not None:
            record.unlink(missing_ok=True)
        shutil.rmtree(work, ignore_errors=True)
        held.release()


def variables_of(
    built: Sequence[Built],
    environment: ServingEnvironment,
    store: Path,
    work: Path,
    config: Path,
    ports: Mapping[str, int],
) -> dict[str, str]:
    """The agent's environment: what the models' own pods would have, then ours."""
    users = {one["name"]: str(one.get("value", "")) for model in built for one in _env_of(model)}
    return {
        **users,
        **environment.variables,
        "PYTHONPATH": str(code_path("nlp_agent", "nlp_bucket")),
        "NLP_SERVER_CONFIG": str(config),
        "NLP_STORE": str(store),
        "NLP_WORK": str(work / "w"),
        "NLP_LISTEN_ADDRESS": ADDRESS,
        "NLP_HTTP_PORT": str(ports["http"]),
        "NLP_GRPC_PORT": str(ports["grpc"]),
        "NLP_METRICS_PORT": str(ports["metrics"]),
        "NLP_AGENT_PORT": str(ports["agent"]),
        # No endpoint has to disappear first from any proxy.
        "NLP_DRAIN_DELAY_SECONDS": "0",
    }


def _env_of(built: Built) -> list[Obj]:
    return list(dig(built.model.obj, "spec", "serving", "pod", "env", default=[]))
