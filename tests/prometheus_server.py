"""A real Prometheus (Debian's package, unpacked into the cache) that scrapes what a test serves."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localcluster import debian
from localcluster.ports import Ports
from tests.nlp_agent.running import wait_until

SCRAPE_SECONDS = 0.5


@dataclass(frozen=True)
class Target:
    """A pod as a PodMonitor would have it scraped."""

    address: str
    """With its port."""
    pod: str
    namespace: str = "demo"
    job: str = "servers"
    pool: str = "cpu"


@dataclass
class PrometheusServer:
    root: Path
    port: int
    targets: list[Target] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    every: float = SCRAPE_SECONDS
    """How often it scrapes, in seconds."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def scrape(self, *targets: Target) -> None:
        """From now on these; it looks at the file by itself."""
        groups = [
            {
                "targets": [one.address],
                "labels": {"namespace": one.namespace, "pod": one.pod, "via": one.job, "pool": one.pool},
            }
            for one in targets
        ]
        partial = self.root / "targets.new"
        partial.write_text(json.dumps(groups))
        partial.rename(self.root / "targets.json")

    def backfill(self, openmetrics: str) -> None:
        """What it is to remember from before its start: lines of OpenMetrics with timestamps."""
        program = debian.unpack(["prometheus"], ["prometheus"]).find("promtool")
        assert program is not None
        written = self.root / "past.om"
        written.write_text(f"{openmetrics}# EOF\n")
        command = [
            str(program),
            "tsdb",
            "create-blocks-from",
            "openmetrics",
            str(written),
            str(self.root / "data"),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        written.unlink()

    def start(self) -> None:
        program = debian.unpack(["prometheus"], ["prometheus"]).find("prometheus")
        assert program is not None
        configuration = {
            "global": {
                "scrape_interval": f"{self.every * 1000:.0f}ms",
                "scrape_timeout": f"{self.every * 800:.0f}ms",
            },
            "scrape_configs": [
                {
                    "job_name": "servers",
                    "honor_labels": True,
                    "file_sd_configs": [
                        {"files": [str(self.root / "targets.json")], "refresh_interval": "1s"}
                    ],
                }
            ],
        }
        (self.root / "prometheus.yml").write_text(json.dumps(configuration))
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(program),
                    f"--config.file={self.root / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self.root / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--log.level=warn",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.root,
            )
        wait_until("Prometheus is ready", self._ready)

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.root / "log").read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return int(answer.status) == 200
        except OSError:
            return False

    def query(self, text: str) -> list[Mapping[str, Any]]:
        """An instant query, for the test's own eyes."""
        words = urllib.parse.urlencode({"query": text})
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query?{words}", timeout=10) as answer:
                found: Sequence[Mapping[str, Any]] = json.load(answer)["data"]["result"]
        except urllib.error.URLError:
            return []
        return list(found)

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None


@contextlib.contextmanager
def prometheus(*targets: Target, past: str = "", every: float = SCRAPE_SECONDS) -> Iterator[PrometheusServer]:
    """`past`: see `backfill`."""
    ports, root = Ports(), Path(tempfile.mkdtemp(prefix="prometheus-"))
    server = PrometheusServer(root, ports.take(), every=every)
    server.scrape(*targets)
    try:
        if past:
            server.backfill(past)
        server.start()
        yield server
    finally:
        server.end()
        ports.release()
        shutil.rmtree(root)


@contextlib.contextmanager
def following(server: PrometheusServer, targets: Callable[[], Sequence[Target]]) -> Iterator[None]:
    """Once a second these are what is scraped, as discovery by the API server would have it."""
    ended = threading.Event()

    def follow() -> None:
        known: Sequence[Target] = ()
        while not ended.wait(1.0):
            found = targets()
            if found != known:
                server.scrape(*found)
                known = found

    thread = threading.Thread(target=follow, name="targets", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
