"""An agent as a process of its own, with the real Triton and the real Envoy."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from localcluster.ports import Ports
from localcluster.serving_env import serving_environment
from nlp_agent.triton import clean_shared_memory
from nlpctl.local.processes import session_members as session_members

SOURCES = Path(__file__).resolve().parents[2] / "operator"
# Generous, because the machine may be busy; nothing waits this long on a quiet one.
PATIENCE_SECONDS = 60.0


def wait_until(what: str, holds: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """Poll a real condition; what it gave when it became true."""
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"Not within {seconds:g} s: {what}")
        time.sleep(0.02)


@dataclass
class RunningAgent:
    root: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment beyond the defaults below."""
    gpus: bool = False
    """With the packages of the image of production."""

    def __post_init__(self) -> None:
        self.store = self.root / "store"
        self.work = self.root / "work"
        self.mount = self.root / "etc"
        self.store.mkdir(exist_ok=True)
        self.mount.mkdir(exist_ok=True)
        self.ports = Ports()
        self.http, self.grpc, self.metrics, self.port = (self.ports.take() for _ in range(4))
        self.log = self.root / "agent.log"
        self._revision = 0
        self.process: subprocess.Popen[bytes] | None = None

    # -- what the cluster does -------------------------------------------------------------------------------

    def want(
        self, *models: Mapping[str, Any], device: str = "cpu", devices: int = 1, raw: bytes | None = None
    ) -> None:
        """Write `server.json` as the kubelet does: a new folder, then one link swapped by rename."""
        document = {
            "version": 1,
            "server": "test-server",
            "namespace": "demo",
            "pool": "cpu",
            "device": device,
            "devices": devices,
            "models": list(models),
        }
        self._revision += 1
        folder = self.mount / f"..revision_{self._revision}"
        folder.mkdir()
        (folder / "server.json").write_bytes(raw if raw is not None else json.dumps(document).encode())
        link = self.mount / "..data_tmp"
        link.symlink_to(folder.name)
        link.rename(self.mount / "..data")
        if not (self.mount / "server.json").is_symlink():
            (self.mount / "server.json").symlink_to("..data/server.json")

    def start(self) -> None:
        environment = serving_environment(gpus=self.gpus)
        variables = {
            **environment.variables,
            "PYTHONPATH": str(SOURCES),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NLP_SERVER_CONFIG": str(self.mount / "server.json"),
            "NLP_STORE": str(self.store),
            "NLP_WORK": str(self.work),
            "NLP_LISTEN_ADDRESS": "127.0.0.1",
            "NLP_HTTP_PORT": str(self.http),
            "NLP_GRPC_PORT": str(self.grpc),
            "NLP_METRICS_PORT": str(self.metrics),
            "NLP_AGENT_PORT": str(self.port),
            "NLP_CANARY_SECONDS": "0.5",
            "NLP_DRAIN_DELAY_SECONDS": "0.3",
            **self.settings,
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(environment.python), "-m", "nlp_agent"],
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def terminate(self) -> int:
        """SIGTERM, as the kubelet does; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)

    def end(self) -> None:
        """Whatever state it is in: leave no process of it."""
        if self.process is not None:
            for pid in session_members(self.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(PATIENCE_SECONDS)
        self.ports.release()

    # -- what callers see ------------------------------------------------------------------------------------

    def get(self, path: str, port: int | None = None) -> tuple[int, str]:
        return call(f"http://127.0.0.1:{port or self.port}{path}")

    def infer(self, model: str, text: str, timeout: float = 30.0) -> tuple[int, Any]:
        body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [text]}]}
        status, answer = call(f"http://127.0.0.1:{self.http}/v2/models/{model}/infer", body, timeout)
        if status != 200:
            return status, answer
        return status, {output["name"]: output["data"] for output in json.loads(answer)["outputs"]}

    def ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def model(self, name: str) -> dict[str, Any]:
        status, body = self.get("/v1/status")
        if status != 200:
            return {}
        found: list[dict[str, Any]] = [model for model in json.loads(body)["models"] if model["name"] == name]
        return found[0] if found else {}

    def cores_each(self) -> float | None:
        """Cores that the server keeps busy for each execution; `None` while it does not know."""
        found: float | None = json.loads(self.get("/v1/status")[1])["coresEach"]
        return found

    def wait_ready(self) -> None:
        wait_until("the agent is ready", self.ready_or_fail)

    def ready_or_fail(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        return self.ready()

    def wait_model(self, name: str, **wanted: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def holds() -> bool:
            found.clear()
            found.update(self.model(name))
            return all(found.get(key) == value for key, value in wanted.items())

        try:
            wait_until(f"{name} is {wanted}", holds)
        except AssertionError as error:
            raise AssertionError(f"{error}; last seen {found}") from error
        return found

    def children(self, command: str) -> list[int]:
        """Pids in this agent's session whose program is called so."""
        return [pid for pid in session_members(self.pid) if program(pid) == command]

    def stubs(self, model: str) -> list[int]:
        marker = f"/repository/{model}/1/"
        return [pid for pid in session_members(self.pid) if marker in command_line(pid)]


def call(url: str, body: Mapping[str, Any] | None = None, timeout: float = 30.0) -> tuple[int, str]:
    """Status and body; 0 when there is no connection."""
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def metric(agent: RunningAgent, name: str, **labels: str) -> float:
    """The sum of the samples of this name and these labels on the metrics page."""
    _, page = agent.get("/metrics", agent.metrics)
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def state(pid: int) -> str:
    """As in /proc: R, S, Z...; empty when there is no such process."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        return text[text.rindex(")") + 2]
    return ""


def program(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(Path(f"/proc/{pid}/exe").readlink()).name
    return ""


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


@contextlib.contextmanager
def running_agent(**settings: str) -> Iterator[RunningAgent]:
    """Not started yet. Its folder has a short name: Envoy's socket lies in it."""
    root = Path(tempfile.mkdtemp(prefix="nlp-"))
    agent = RunningAgent(root, settings)
    try:
        yield agent
    finally:
        agent.end()
        clean_shared_memory(agent.work)
        if agent.log.exists():
            # pytest shows it when the test failed.
            print(agent.log.read_text(errors="replace"))
        shutil.rmtree(root)


def make_wanted(name: str, digest: str, batch: int = 8, instances: int = 1, **more: Any) -> dict[str, Any]:
    return {"name": name, "digest": digest, "maxBatchSize": batch, "instances": instances, **more}
