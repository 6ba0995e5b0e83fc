"""The shipped operator as a process of its own, started as an administrator would: settings and a
kubeconfig, nothing else."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ASK_SECONDS = 0.1
"""Between two looks at the operator's metrics. Writing that page is the operator's own time, some 4 ms."""


class OperatorFailedError(Exception):
    """The operator ended, or did not do in time what a measurement needs. The message has the end of its
    log."""


class OperatorProcess:
    """`python -m nlp_operator` under its own ServiceAccount's token."""

    def __init__(self, kubeconfig: Path, log: Path, **settings: str) -> None:
        self.log = log
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("NLP_OPERATOR_")},
            "NLP_OPERATOR_BUILDER_IMAGE": "nlp-operator/builder:benchmark",
            "NLP_OPERATOR_SERVING_IMAGE": "nlp-operator/serving:benchmark",
            "NLP_OPERATOR_KUBECONFIG": str(kubeconfig),
            # A container that is started again keeps its pod's name, and with it the lease.
            "NLP_OPERATOR_IDENTITY": "benchmark-0",
            "NLP_OPERATOR_LISTEN_ADDRESS": "127.0.0.1",
            "NLP_OPERATOR_HEALTH_PORT": "0",
            "NLP_OPERATOR_METRICS_PORT": "0",
            **{f"NLP_OPERATOR_{name.upper()}": value for name, value in settings.items()},
        }

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start the process; `time.monotonic()` of just before."""
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        started = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                # A benchmark that is killed takes the operator along.
                ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "nlp_operator"],
                env={**self._environment, "PYTHONPATH": str(ROOT / "operator")},
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )
        return started

    def check(self) -> None:
        """Raises `OperatorFailedError` when it does not run any more."""
        if self._process is None or self._process.poll() is not None:
            raise OperatorFailedError(f"The operator ended:\n{self.tail()}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def wait_until_steady(self, models: int, *, timeout_seconds: float = 300.0) -> float:
        """`time.monotonic()` of when every model was reconciled in this process and nothing waits any more.

        Asked of the operator's own metrics, because only it knows that it looked and found nothing to do.
        That it wrote nothing is not asked of it: the audit log says so.
        """
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            self.check()
            page = self.metrics()
            done = total(page, "nlp_operator_reconcile_seconds_count", 'kind="NLPModel"', 'result="done"')
            waiting = total(page, "nlp_operator_queue_depth") + total(page, "nlp_operator_queue_failing")
            if total(page, "nlp_operator_leader") == 1 and done >= models and waiting == 0:
                return time.monotonic()
            time.sleep(ASK_SECONDS)
        raise OperatorFailedError(f"Not steady within {timeout_seconds:g} s:\n{self.tail()}")

    def memory_megabytes(self) -> tuple[float, float]:
        """Resident memory now and its highest value so far, of this process, in MB (10^6 bytes)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        now, peak = (
            int(found.group(1)) * 1024 / 1e6
            for key in ("VmRSS", "VmHWM")
            if (found := re.search(rf"^{key}:\s+(\d+) kB", status, re.MULTILINE))
        )
        return now, peak

    def cpu_seconds(self) -> float:
        """CPU time used so far, user and system."""
        return cpu_seconds(self.pid)

    def tail(self, lines: int = 30) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def metrics(self) -> str:
        """The operator's page for Prometheus; empty while it does not answer."""
        port = self._port("metrics")
        if port is None:
            return ""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return ""

    def _port(self, what: str) -> int | None:
        if not self.log.exists():
            return None
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            for line in log:
                if line.startswith(b"{") and line.endswith(b"}\n"):
                    entry = json.loads(line)
                    if entry.get("message") == f"Listening for {what}.":
                        return int(entry["port"])
        return None


def cpu_seconds(pid: int) -> float:
    """CPU time a process has used so far, user and system; 0 when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def total(page: str, metric: str, *labels: str) -> float:
    """The sum of a metric's samples that carry all the labels, from Prometheus' text format; NaN with
    none."""
    return sum(
        float(line.rpartition(" ")[2])
        for line in page.splitlines()
        if re.match(rf"{metric}[{{ ]", line) and all(label in line for label in labels)
    )
