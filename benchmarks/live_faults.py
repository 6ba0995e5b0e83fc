"""A model of two replicas under load while something is killed, frozen or evicted, on a real kubelet.

    python -m benchmarks.live_faults --json build/live_faults.json     # root; forty minutes

Real kubelet, Triton, Envoy, Prometheus and operator; the operator asks the Prometheus, which runs beside the
node and scrapes the pods. The model sleeps 100 ms a request, so a replica bears ten requests a second, and
one alone does not bear the load. Each request comes on a connection of its own, and nobody tries again.
Where what is measured is wrong, the load falls meanwhile, so that an operator that believed it would take a
replica away; the row `control` is the same with everything right. Exit code 1 when something that must hold
did not (`broken_in`); each failed request is told with the moment, and what was answered.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.autoscaling_live import Failure, a_node, host_of
from benchmarks.measures import table, write_rows
from localcluster.cluster import Cluster
from localcluster.demo.storm import kill, processes_of
from localcluster.errors import CommandFailed
from tests.faults.plain_api import POD, Obj
from tests.faults.prometheus_front import BY_MODEL, PrometheusFront, front, html
from tests.nlp_agent.open_loop import Asked, failures
from tests.node.models.install import install, make_place, measuring_by
from tests.node.models.place import POOL, Place, make_pool, takes_requests, until
from tests.node.models.sleeper import Load, make_sleeper, put_sleeper
from tests.prometheus_server import PrometheusServer, Target, following, prometheus

SLOTS = 4
STEADY, RUSH, LULL = 12.0, 27.0, 3.0
"""Requests a second: two replicas bear 20, four 40."""
LEAST = 2
"""Replicas of the model; what a fault begins with, but where the load is to fall."""
TARGET_SECONDS = 1.0
MODEL = "steady"
FAULT_SECONDS = 60.0
BLIND_SECONDS = 420.0
"""Of wrong measurements: longer than known idleness takes to make a model smaller."""
WELL_SECONDS = 8.0
"""Without a late or failed request, and with all pods ready: then it is over."""
BOUNDED = 240.0
MOST_TOLD = 50
"""Failed requests of a fault that are kept one by one."""
CONTROL = "nothing is wrong, the load falls"
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
    replicas_before: int
    """That its Deployment was to have when the fault began."""
    replicas_after: int
    """And when all was well again."""
    ready_before: int
    least_ready: int
    troubled_seconds: float
    """From the fault until the last request was sent that failed or was late; 0: none."""
    ready_after_seconds: float
    """From the fault until as many pods were ready as before; 0: they were all the time."""
    grown_after_seconds: float
    """Where the load rose: from the fault until more replicas were ready."""
    known_after_seconds: float | None
    """From the end of the fault until the operator told the load; 0: it was told when the fault ended;
    `None`: it was not within four minutes."""
    over: bool
    """Within four minutes of its end all was well again."""
    note: str = ""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """How many failed how, the most frequent first."""
    failures: tuple[Failure, ...] = ()
    """The first of them, in seconds from the fault."""

    @property
    def recovered_seconds(self) -> float:
        """From the fault until nothing was late or failed any more, and as many pods were ready as before."""
        return max(self.troubled_seconds, self.ready_after_seconds)


@dataclass
class Watched:
    """The model while a fault lasts, look by look."""

    replicas_before: int
    ready_before: int
    replicas: int = field(init=False)
    least_ready: int = field(init=False)
    scale_downs: int = 0
    ready_after: float = 0.0
    grown_after: float = 0.0
    known_after: float | None = None

    def __post_init__(self) -> None:
        self.replicas, self.least_ready = self.replicas_before, self.ready_before

    def look(self, now: float, ready: int, replicas: int) -> None:
        """`now`: seconds from the fault."""
        self.scale_downs += replicas < self.replicas
        self.replicas, self.least_ready = replicas, min(self.least_ready, ready)
        if ready < self.ready_before:
            self.ready_after = now
        if not self.grown_after and ready > self.ready_before:
            self.grown_after = now

    def row(self, fault: str, asked: Sequence[Asked], begun: float, over: bool, note: str) -> Row:
        """`asked`: those that were under way in it, or came until it was over."""
        failed = sorted((one for one in asked if one.failure), key=lambda one: one.begun)
        return Row(
            fault,
            len(asked),
            len(failed),
            sum(not one.failure and one.took > TARGET_SECONDS for one in asked),
            self.scale_downs,
            self.replicas_before,
            self.replicas,
            self.ready_before,
            self.least_ready,
            max((max(one.begun - begun, 0.0) for one in asked if bad(one)), default=0.0),
            self.ready_after,
            self.grown_after,
            self.known_after,
            over,
            note,
            failures(asked),
            tuple(Failure(one.begun - begun, one.took, one.failure) for one in failed[:MOST_TOLD]),
        )


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


def begins(rate: float, replicas: int, ready: int) -> bool:
    """Whether a fault may, by the replicas that the model is to have and those that are ready."""
    if rate == LULL:
        return replicas > LEAST and ready > LEAST
    return replicas == ready == LEAST


class Stage:
    def __init__(
        self, cluster: Cluster, place: Place, server: PrometheusServer, asked: PrometheusFront
    ) -> None:
        self.cluster = cluster
        self.place = place
        self.server = server
        self.front = asked
        self.unscraped: frozenset[str] = frozenset()

    def allow(self, most: int) -> None:
        target = {"quantile": "0.95", "milliseconds": int(1000 * TARGET_SECONDS)}
        scaling = {"minReplicas": LEAST, "maxReplicas": most, "latencyTarget": target}
        self.place.apply(make_sleeper(self.place, MODEL, **scaling))

    def pods(self) -> list[Obj]:
        return [
            pod
            for pod in self.place.pods(name=MODEL)
            if "deletionTimestamp" not in pod["metadata"] and (pod.get("status") or {}).get("podIP")
        ]

    def serving(self) -> Obj:
        """One that takes requests: what is done to another shows nothing."""
        return next(pod for pod in self.pods() if takes_requests(pod))

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
        else:  # what was added in the fault before is not to bear this one
            self.allow(LEAST)
        until(
            lambda: begins(rate, self.replicas(), self.place.ready(MODEL)) and self.well(offered, LEAST),
            "all is well, with as many replicas as the fault is for",
            BOUNDED,
        )
        until(self.known, "the load is known before a fault", BOUNDED)
        seen = Watched(self.replicas(), self.place.ready(MODEL))
        self.allow(SLOTS)
        begun = time.monotonic()
        offered.rate = rate
        note = begin() or ""
        over = ended = False
        enough = seen.ready_before if rate != LULL else LEAST
        while not over:
            now = time.monotonic() - begun
            seen.look(now, self.place.ready(MODEL), self.replicas())
            if not ended and now >= seconds:
                known = self.known()
                end()
                ended, seen.known_after = True, 0.0 if known and seconds else None
            if ended and seen.known_after is None and self.known():
                seen.known_after = max(now - seconds, 0.0)
            settled = seen.known_after is not None and (rate != RUSH or seen.grown_after)
            over = bool(ended and settled and now > seconds + WELL_SECONDS and self.well(offered, enough))
            if now > seconds + BOUNDED:
                break
            time.sleep(0.5)
        offered.rate = STEADY
        return seen.row(fault, offered.since(begun), begun, over, note)

    def well(self, offered: Offered, ready: int) -> bool:
        since = time.monotonic() - WELL_SECONDS
        lately = offered.since(since)
        return self.place.ready(MODEL) >= ready and bool(lately) and not any(map(bad, lately))

    # -- faults --------------------------------------------------------------------------------------------

    def containers(self, pod: Obj) -> set[str]:
        statuses = pod["status"].get("containerStatuses", [])
        return {one["containerID"].rpartition("/")[2] for one in statuses if one.get("containerID")}

    def kill_program(self, program: str) -> str:
        pod = self.serving()
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
        self._frozen = self.containers(self.serving())
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
        "control": blind(CONTROL, lambda: None, lambda: None),
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
    "fault", "requests", "failed", "late", "downs", "replicas", "ready, fewest", "troubled", "ready after",
    "recovered", "grown after", "known after", "note",
)  # fmt: skip


def said(row: Row) -> list[str]:
    times = (row.troubled_seconds, row.ready_after_seconds, row.recovered_seconds, row.grown_after_seconds)
    return [
        row.fault,
        f"{row.requests:,}",
        str(row.failed),
        str(row.late),
        str(row.scale_downs),
        f"{row.replicas_before} to {row.replicas_after}",
        f"{row.ready_before}, {row.least_ready}",
        *(f"{one:.0f} s" for one in times),
        "never" if row.known_after_seconds is None else f"{row.known_after_seconds:.0f} s",
        row.note if row.over else f"{row.note} Not over within {BOUNDED:.0f} s.".strip(),
    ]


def said_of_failures(row: Row) -> list[str]:
    """What went wrong in it, a line each: how often, and the first ones."""
    often = [f"{count} failed: {how}" for how, count in row.reasons.items()]
    return often + [
        f"{one.at:.1f} s after the fault one failed, after {one.took:.2f} s: {one.how}"
        for one in row.failures[:3]
    ]


def broken_in(rows: Sequence[Row]) -> list[str]:
    """What must hold and did not, a sentence each. Where nothing is wrong and the load falls, the model is to
    become smaller, or the other rows show nothing."""
    broken = []
    for row in rows:
        if row.failed:
            broken.append(f"{row.fault}: {row.failed} of {row.requests} requests failed; it must be none.")
        if row.fault == CONTROL and not row.scale_downs:
            broken.append(f"{row.fault}: no scale-down; known, this load takes a replica away.")
        if row.fault != CONTROL and row.scale_downs:
            broken.append(f"{row.fault}: {row.scale_downs} scale-downs; it must be none.")
        if not row.over:
            broken.append(f"{row.fault}: not over within {BOUNDED:.0f} s.")
    return broken


def play(cluster: Cluster, wanted: Sequence[str]) -> tuple[list[Row], list[str]]:
    """Also the faults that were not played to their end, in a sentence each."""
    install(cluster)
    pool = make_pool(POOL)
    pool["spec"]["maxDevices"] = SLOTS
    cluster.apply(pool)
    place = make_place(cluster)
    put_sleeper(place)
    rows: list[Row] = []
    missing: list[str] = []
    with prometheus() as server, front(server.url, host_of(cluster)) as asked:
        stage = Stage(cluster, place, server, asked)
        with (
            following(server, stage.targets),
            measuring_by(cluster, "Prometheus", NLP_OPERATOR_PROMETHEUS_URL=asked.url),
        ):
            stage.allow(SLOTS)
            place.wait_ready(MODEL)
            with Offered(Load(place, MODEL)) as offered:
                for name, play_one in faults(stage).items():
                    if name in wanted:
                        try:
                            row = play_one(offered)
                        except AssertionError as error:  # the others are not to be lost with it
                            missing.append(f"{name}: {error}")
                            print(missing[-1], flush=True)
                            continue
                        print(" | ".join(said(row)), flush=True)
                        for line in said_of_failures(row):
                            print(f"    {line}", flush=True)
                        rows.append(row)
    cluster.api.delete(f"/api/v1/namespaces/{place.namespace}")
    return rows, missing


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live_faults", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--faults", default=",".join(NAMES), help="some of them, with commas")
    options = parser.parse_args(arguments)
    wanted = options.faults.split(",")
    if unknown := set(wanted) - set(NAMES):
        parser.error(f"{', '.join(sorted(unknown))}: it must be some of {', '.join(NAMES)}")
    with a_node() as cluster:
        rows, missing = play(cluster, wanted)
    print(table([HEADS, *map(said, rows)]))
    write_rows(options.json, rows)
    broken = [*broken_in(rows), *missing]
    for sentence in broken:
        print(sentence, file=sys.stderr)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
