"""A model of two replicas under load while something is killed, frozen or evicted, on a real kubelet.

    python -m benchmarks.live_faults --json build/live_faults.json     # root; forty minutes

Real kubelet, Triton, Envoy, Prometheus and operator; the operator asks the Prometheus, which runs beside the
node and scrapes the pods. The model sleeps 100 ms a request, so a replica bears ten requests a second, and
one alone does not bear the load. Each request comes on a connection of its own, and nobody tries again.
Where what is measured is wrong, the load falls meanwhile, so that an operator that believed it would take a
replica away; the row `control` is the same with everything right.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.autoscaling_live import a_node, host_of
from benchmarks.measures import table, write_rows
from localcluster.cluster import Cluster
from localcluster.demo.storm import kill, processes_of
from localcluster.errors import CommandFailed
from tests.faults.plain_api import POD, Obj
from tests.faults.prometheus_front import BY_MODEL, PrometheusFront, front, html
from tests.nlp_agent.open_loop import Asked, failures
from tests.node.models.install import install, make_place, measuring_by
from tests.node.models.place import POOL, Place, make_pool, until
from tests.node.models.sleeper import Load, make_sleeper, put_sleeper
from tests.prometheus_server import PrometheusServer, Target, following, prometheus

SLOTS = 4
STEADY, RUSH, LULL = 12.0, 27.0, 3.0
"""Requests a second: two replicas bear 20, four 40."""
TARGET_SECONDS = 1.0
MODEL = "steady"
FAULT_SECONDS = 60.0
BLIND_SECONDS = 420.0
"""Of wrong measurements: longer than known idleness takes to make a model smaller."""
WELL_SECONDS = 8.0
"""Without a late or failed request, and with all pods ready: then it is over."""
BOUNDED = 240.0
METRICS_PORT = 8002
OPERATOR_METRICS_PORT = 9090
TOLD = "nlp_operator_model_requests_per_second{"


@dataclass(frozen=True)
class Row:
    fault: str
    requests: int
    """That were under way in it, or came until it was over."""
    failed: int
    late: int
    """Of those that were answered."""
    scale_downs: int
    least_ready: int
    troubled_seconds: float
    """From the fault until the last request was sent that failed or was late; 0: none."""
    ready_after_seconds: float
    """From the fault until as many pods were ready as before; 0: they were all the time."""
    grown_after_seconds: float
    """Where the load rose: from the fault until more replicas were ready."""
    known_after_seconds: float
    """From the end of the fault until the operator told the load; 0: it was told when the fault ended."""
    note: str = ""


class Offered:
    """A load in a thread of its own, at a rate that may change."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.rate = STEADY
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._offer()), daemon=True)

    def moments(self) -> Iterator[float]:
        due = 0.0
        while not self._ended.is_set():
            due += 1 / self.rate
            yield due

    async def _offer(self) -> None:
        await self.load.offer(self.moments())

    def __enter__(self) -> Offered:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(120)

    def since(self, begun: float) -> list[Asked]:
        """Those that had not ended then."""
        return [one for one in self.load.asked if one.begun + one.took >= begun]


def bad(one: Asked) -> bool:
    return bool(one.failure) or one.took > TARGET_SECONDS


def some_failures(asked: Sequence[Asked]) -> str:
    """The most frequent, in short."""
    return "; ".join(f"{count} x {how[:80]}" for how, count in list(failures(asked).items())[:4])


class Stage:
    def __init__(
        self, cluster: Cluster, place: Place, server: PrometheusServer, asked: PrometheusFront
    ) -> None:
        self.cluster = cluster
        self.place = place
        self.server = server
        self.front = asked
        self.unscraped: frozenset[str] = frozenset()

    def pods(self) -> list[Obj]:
        return [
            pod
            for pod in self.place.pods(name=MODEL)
            if "deletionTimestamp" not in pod["metadata"] and (pod.get("status") or {}).get("podIP")
        ]

    def targets(self) -> list[Target]:
        return [
            Target(f"{pod['status']['podIP']}:{METRICS_PORT}", pod["metadata"]["name"], self.place.namespace)
            for pod in self.pods()
            if pod["metadata"]["name"] not in self.unscraped
        ]

    def replicas(self) -> int:
        (deployment,) = self.cluster.api.get(
            f"/apis/apps/v1/namespaces/{self.place.namespace}/deployments",
            labelSelector=f"nlp-operator.io/model={MODEL}",
        )["items"]
        return int(deployment["spec"]["replicas"])

    def operator_pods(self) -> list[Obj]:
        found: list[Obj] = self.cluster.api.get(
            POD.path("nlp-system"), labelSelector="app.kubernetes.io/name=nlp-operator"
        )["items"]
        return found

    def known(self) -> bool:
        """Whether the operator told the load at its last look."""
        for pod in self.operator_pods():
            address = f"http://{pod['status'].get('podIP')}:{OPERATOR_METRICS_PORT}/metrics"
            with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
                lines = answer.read().decode().splitlines()
                if any(line.startswith(TOLD) and f'model="{MODEL}"' in line for line in lines):
                    return True
        return False

    def measure(
        self,
        offered: Offered,
        fault: str,
        begin: Callable[[], str | None],
        end: Callable[[], object] = lambda: None,
        seconds: float = 0.0,
        rate: float = STEADY,
    ) -> Row:
        """`begin` may say something for the note. `end` comes `seconds` later; then it is waited until all is
        well."""
        if rate == LULL:  # so that there is something to take away
            offered.rate = RUSH
        needed = 2 if rate != LULL else 3
        until(lambda: self.well(offered, needed), "all is well before a fault", BOUNDED)
        until(self.known, "the load is known before a fault", BOUNDED)
        before, latest = self.place.ready(MODEL), self.replicas()
        begun = time.monotonic()
        offered.rate = rate
        note = begin() or ""
        least, falls, ready_after, grown_after, ended = before, 0, 0.0, 0.0, False
        known_after: float | None = None
        enough = before if rate != LULL else 2
        while True:
            now = time.monotonic() - begun
            ready, wanted = self.place.ready(MODEL), self.replicas()
            falls += wanted < latest
            latest, least = wanted, min(least, ready)
            if ready < before:
                ready_after = now
            if not grown_after and ready > before:
                grown_after = now
            if not ended and now >= seconds:
                known = self.known()
                end()
                ended, known_after = True, 0.0 if known and seconds else None
            if ended and known_after is None and self.known():
                known_after = max(now - seconds, 0.0)
            over = known_after is not None and (rate != RUSH or grown_after)
            if ended and over and now > seconds + WELL_SECONDS and self.well(offered, enough):
                break
            if now > seconds + BOUNDED:
                note = f"{note} Not over within {BOUNDED:.0f} s.".strip()
                break
            time.sleep(0.5)
        offered.rate = STEADY
        asked = offered.since(begun)
        return Row(
            fault,
            len(asked),
            sum(bool(one.failure) for one in asked),
            sum(not one.failure and one.took > TARGET_SECONDS for one in asked),
            falls,
            least,
            max((max(one.begun - begun, 0.0) for one in asked if bad(one)), default=0.0),
            ready_after,
            grown_after,
            math.inf if known_after is None else known_after,
            f"{note} {some_failures(asked)}".strip(),
        )

    def well(self, offered: Offered, ready: int) -> bool:
        since = time.monotonic() - WELL_SECONDS
        lately = offered.since(since)
        return self.place.ready(MODEL) >= ready and bool(lately) and not any(map(bad, lately))

    # -- faults --------------------------------------------------------------------------------------------

    def containers(self, pod: Obj) -> set[str]:
        statuses = pod["status"].get("containerStatuses", [])
        return {one["containerID"].rpartition("/")[2] for one in statuses if one.get("containerID")}

    def kill_program(self, program: str) -> str:
        pod = self.pods()[0]
        killed = self.place.processes(pod, program)
        for pid in killed:
            with contextlib.suppress(ProcessLookupError):  # it ended with one before
                os.kill(pid, signal.SIGKILL)
        return "" if killed else f"no process of {program} was there"

    def send_to_pod(self, number: signal.Signals) -> None:
        """To every process of one pod."""
        for pid in processes_of(self._frozen):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def freeze(self) -> None:
        self._frozen = self.containers(self.pods()[0])
        self.send_to_pod(signal.SIGSTOP)

    def kill_operator(self) -> str:
        """As soon as it has decided on more, before that is all written."""
        before = self.told()
        until(lambda: self.told() > before or self.replicas() > before, "a decision", BOUNDED)
        killed = sum(kill(self.containers(pod)) for pod in self.operator_pods())
        return f"decided: {before} to {self.told()}, {killed} processes killed"

    def told(self) -> int:
        scaling = (self.place.model(MODEL).get("status") or {}).get("scaling") or {}
        return int(scaling.get("desired") or 0)

    def drain(self) -> str:
        """As `kubectl drain` does: cordon, then evict what the budget allows."""
        nodes = self.cluster.api.get("/api/v1/nodes")["items"]
        self._node = nodes[0]["metadata"]["name"]
        self.cluster.kubectl("cordon", self._node)
        said = []
        for pod in self.pods():
            name = pod["metadata"]["name"]
            body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
            path = f"/api/v1/namespaces/{self.place.namespace}/pods/{name}/eviction"
            try:
                self.cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))
                said.append("evicted")
            except CommandFailed:
                said.append("refused")
        return f"evictions: {', '.join(said)}"

    def uncordon(self) -> None:
        self.cluster.kubectl("uncordon", self._node)

    def unscrape(self) -> None:
        pods = self.pods()
        self.unscraped = frozenset(pod["metadata"]["name"] for pod in pods[: len(pods) // 2])

    def scrape_all(self) -> None:
        self.unscraped = frozenset()

    def lie(self) -> None:
        """One kind of wrong answer after the other, each for its part of the time."""
        self._honest = threading.Event()
        self._liar = threading.Thread(target=self._lie, daemon=True)
        self._liar.start()

    def _lie(self) -> None:
        each = BLIND_SECONDS / (1 + len(WRONG))
        self.front.whole = html
        for what in WRONG:
            if self._honest.wait(each):
                return
            self.front.whole, self.front.by_model = (lambda answer: answer), {MODEL: BY_MODEL[what]}

    def be_honest(self) -> None:
        self._honest.set()
        self._liar.join()
        self.front.whole, self.front.by_model = (lambda answer: answer), {}


def faults(stage: Stage) -> Mapping[str, Callable[[Offered], Row]]:
    def of(
        name: str,
        begin: Callable[[], str | None],
        end: Callable[[], object] = lambda: None,
        seconds: float = 0.0,
        rate: float = STEADY,
    ) -> Callable[[Offered], Row]:
        return lambda offered: stage.measure(offered, name, begin, end, seconds, rate)

    def blind(
        name: str, begin: Callable[[], str | None], end: Callable[[], object]
    ) -> Callable[[Offered], Row]:
        return of(name, begin, end, BLIND_SECONDS, LULL)

    return {
        "backend": of("backend killed", lambda: stage.kill_program("triton_python_backend_stub")),
        "triton": of("Triton killed", lambda: stage.kill_program("tritonserver")),
        "drained": of("node drained", stage.drain, stage.uncordon, FAULT_SECONDS / 2),
        "frozen": of("pod frozen", stage.freeze, lambda: stage.send_to_pod(signal.SIGCONT), FAULT_SECONDS),
        "prometheus": of("Prometheus killed", stage.server.end, stage.server.start, FAULT_SECONDS),
        "operator": of("operator killed as it decides", stage.kill_operator, rate=RUSH),
        "control": blind("nothing is wrong, the load falls", lambda: None, lambda: None),
        "unscraped": blind("half the pods unscraped, the load falls", stage.unscrape, stage.scrape_all),
        "wrong": blind(
            f"Prometheus answers HTML, then {', '.join(WRONG)}, the load falls", stage.lie, stage.be_honest
        ),
    }


WRONG = ("NaN", "old timestamps", "future timestamps")
NAMES = (
    "backend",
    "triton",
    "drained",
    "frozen",
    "prometheus",
    "operator",
    "control",
    "unscraped",
    "wrong",
)


HEADS = (
    "fault", "requests", "failed", "late", "downs", "least ready", "troubled", "ready after", "grown after",
    "known after", "note",
)  # fmt: skip


def times_of(row: Row) -> tuple[float, ...]:
    return row.troubled_seconds, row.ready_after_seconds, row.grown_after_seconds, row.known_after_seconds


def said(row: Row) -> list[str]:
    return [
        row.fault,
        f"{row.requests:,}",
        str(row.failed),
        str(row.late),
        str(row.scale_downs),
        str(row.least_ready),
        *(f"{one:.0f} s" for one in times_of(row)),
        row.note,
    ]


def play(cluster: Cluster, wanted: Sequence[str]) -> list[Row]:
    install(cluster)
    pool = make_pool(POOL)
    pool["spec"]["maxDevices"] = SLOTS
    cluster.apply(pool)
    place = make_place(cluster)
    put_sleeper(place)
    rows: list[Row] = []
    with prometheus() as server, front(server.url, host_of(cluster)) as asked:
        stage = Stage(cluster, place, server, asked)
        with (
            following(server, stage.targets),
            measuring_by(cluster, "Prometheus", NLP_OPERATOR_PROMETHEUS_URL=asked.url),
        ):
            target = {"quantile": "0.95", "milliseconds": int(1000 * TARGET_SECONDS)}
            place.apply(make_sleeper(place, MODEL, minReplicas=2, maxReplicas=SLOTS, latencyTarget=target))
            place.wait_ready(MODEL)
            with Offered(Load(place, MODEL)) as offered:
                for name, play_one in faults(stage).items():
                    if name in wanted:
                        try:
                            row = play_one(offered)
                        except AssertionError as error:  # the others are not to be lost with it
                            print(f"{name}: {error}", flush=True)
                            continue
                        print(" | ".join(said(row)), flush=True)
                        rows.append(row)
    cluster.api.delete(f"/api/v1/namespaces/{place.namespace}")
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live_faults", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--faults", default=",".join(NAMES), help="some of them, with commas")
    options = parser.parse_args(arguments)
    wanted = options.faults.split(",")
    if unknown := set(wanted) - set(NAMES):
        parser.error(f"{', '.join(sorted(unknown))}: it must be some of {', '.join(NAMES)}")
    with a_node() as cluster:
        rows = play(cluster, wanted)
    print(table([HEADS, *map(said, rows)]))
    write_rows(options.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
