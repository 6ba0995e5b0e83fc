"""Scaling on a running cluster, and what the simulator says of the same requests.

    python -m benchmarks.autoscaling_live --json build/autoscaling_live.json     # root; about ten minutes
    python -m benchmarks.autoscaling_live --signals Prometheus ...               # the same

Real kubelet, Triton, Envoy and operator (`localcluster`), and a real Prometheus where one is to be asked; the
models sleep for a fixed time, so that replicas add capacity on two cores. Two models of different priority
share a pool that has more slots than they need, so that it is seen when too many are taken; with `--slots 4`
it has just enough, except in the contest, where both need three. Lateness is by the clients' clock. The
simulator serves the same moments by the same brain, which remembers nothing at its start.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.autoscaling import queueing
from benchmarks.autoscaling import world as simulator
from benchmarks.autoscaling.ours import Ours
from benchmarks.autoscaling.traces import Trace
from benchmarks.measures import write_rows
from localcluster import cluster as local
from localcluster.cluster import Cluster, UpOptions
from localcluster.progress import Progress
from nlp_operator.planning.scaling.capacity import ServiceCurve, late_shares
from nlp_operator.planning.scaling.observed import cold_start_seconds
from tests.faults.plain_api import Obj
from tests.faults.prometheus_front import front
from tests.nlp_agent.open_loop import Asked
from tests.node.models.install import install, make_place, measuring_by
from tests.node.models.place import POOL, Place, make_pool, until
from tests.node.models.sleeper import SERVICE_SECONDS, Load, make_sleeper, put_sleeper
from tests.prometheus_server import Target, following, prometheus

SLOTS = 8
"""More than both models need at most."""
TARGET_SECONDS = 1.0
QUANTILE = 0.95
QUIET, BUSY, STEADY, RIVAL = 6.0, 24.0, 3.0, 18.0
MAX_BATCH = 8
METRICS_PORT = 8002
PROMETHEUS_SECONDS = 10.0
"""How often it scrapes: as much as is asked of one in operations.md, or more."""
WARM_SECONDS = 240.0
"""How long a model may take until it is scaled."""


@dataclass(frozen=True)
class Phase:
    seconds: float
    begin: float
    """Requests a second; they change evenly to `end`."""
    end: float

    def rate(self, second: float) -> float:
        return self.begin + (self.end - self.begin) * second / self.seconds


SCENARIOS: Mapping[str, tuple[Phase, ...]] = {
    "step": (Phase(30, QUIET, QUIET), Phase(90, BUSY, BUSY)),
    "ramp": (Phase(30, QUIET, QUIET), Phase(60, QUIET, BUSY), Phase(45, BUSY, BUSY)),
    "spike": (Phase(30, QUIET, QUIET), Phase(30, BUSY, BUSY), Phase(60, QUIET, QUIET)),
    "contest": (Phase(150, QUIET, QUIET), Phase(90, BUSY, BUSY)),
}
"""What the model of higher priority is asked. In the contest the other has three replicas when it rises, and
has been watched for long enough that one may be taken."""


def moments(phases: Sequence[Phase], step: float = 0.01) -> Iterator[float]:
    """When requests come, in seconds from the beginning: evenly, as the rate has it."""
    begun, due = 0.0, 0.0
    for phase in phases:
        for number in range(round(phase.seconds / step)):
            due += phase.rate(number * step) * step
            if due >= 1.0:
                due -= 1.0
                yield begun + number * step
        begun += phase.seconds


@dataclass(frozen=True)
class Story:
    """One model of a scenario."""

    name: str
    priority: int
    phases: tuple[Phase, ...]


def rise_seconds(phases: Sequence[Phase]) -> float:
    """When the load begins to rise."""
    return phases[0].seconds


def stories(scenario: str) -> tuple[Story, Story]:
    phases = SCENARIOS[scenario]
    whole = sum(phase.seconds for phase in phases)
    priority, steady = (1000, RIVAL) if scenario == "contest" else (200, STEADY)
    return Story("first", priority, phases), Story("second", 100, (Phase(whole, steady, steady),))


@dataclass(frozen=True)
class Decision:
    at: float
    """Seconds from the beginning of the scenario."""
    replicas: int
    reason: str


@dataclass(frozen=True)
class Stated:
    """What was asked for."""

    signals: str = "Scrape"
    slots: int = SLOTS

    @property
    def delay_seconds(self) -> float:
        """How old a sample is at most when the operator looks: between two readings of a pod."""
        return 2.0 if self.signals == "Scrape" else PROMETHEUS_SECONDS


@dataclass(frozen=True)
class Failure:
    at: float
    """Seconds from the beginning of the scenario; below zero: before it, when the models were waited for."""
    took: float
    how: str


@dataclass(frozen=True)
class Row:
    scenario: str
    model: str
    source: str
    """`cluster` or `simulator`."""
    stated: Stated
    requests: int
    failures: int
    """Without those before the scenario."""
    late_share: float
    late_until_seconds: float
    """From the rise of the load until the last late request was sent; 0: none was late. The simulator knows
    it to ten seconds."""
    needed_replicas: int
    """For the highest rate, as `needed` has it."""
    most_replicas: int
    last_replicas: int
    start_seconds: float
    """What a replica took from the wish until it served, nine of ten at most."""
    decisions: tuple[Decision, ...] = ()
    failed: tuple[Failure, ...] = ()
    """Each of them."""

    @property
    def overshoot(self) -> int:
        return max(self.most_replicas - self.needed_replicas, 0)


def needed(phases: Sequence[Phase], slots: int = SLOTS) -> int:
    """The fewest replicas that keep the target at the highest rate for ever, by the formula of a queue."""
    rate = max(max(phase.begin, phase.end) for phase in phases)
    curve = ServiceCurve(base_seconds=0.001, item_seconds=SERVICE_SECONDS, max_batch=MAX_BATCH)
    shares = late_shares(curve, rate, TARGET_SECONDS, slots)
    return next((count for count, share in enumerate(shares) if share <= 1 - QUANTILE), slots)


# --- on the cluster ---


class Stage:
    def __init__(self, place: Place, stated: Stated) -> None:
        self.place = place
        self.stated = stated
        self.cast: Sequence[Story] = ()
        """Whose pods a Prometheus is to scrape."""

    def targets(self) -> list[Target]:
        return [
            Target(f"{address}:{METRICS_PORT}", pod["metadata"]["name"], self.place.namespace)
            for story in self.cast
            for pod in self.place.pods(name=story.name)
            if "deletionTimestamp" not in pod["metadata"]
            and (address := (pod.get("status") or {}).get("podIP"))
        ]

    def prepare(self, cast: Sequence[Story]) -> dict[str, Load]:
        """Fresh models, one replica each, that are ready."""
        target = {"quantile": str(QUANTILE), "milliseconds": int(1000 * TARGET_SECONDS)}
        for story in cast:
            scaling = {"minReplicas": 1, "maxReplicas": self.stated.slots, "priority": story.priority}
            self.place.apply(make_sleeper(self.place, story.name, **scaling, latencyTarget=target))
        self.cast = cast
        for story in cast:
            self.place.wait_ready(story.name)
        return {story.name: Load(self.place, story.name) for story in cast}

    def clear(self, cast: Sequence[Story]) -> None:
        for story in cast:
            self.place.kubectl("delete", f"nlp/{story.name}")
        until(lambda: not any(self.place.pods(name=one.name) for one in cast), "no pod is left", 120.0)

    def told(self, model: str) -> Obj:
        return dict((self.place.model(model).get("status") or {}).get("scaling") or {})

    def scaled(self, model: str) -> bool:
        return str(self.told(model).get("reason", "")).endswith(("is wanted.", "replicas are wanted."))

    async def warm(self, cast: Sequence[Story], loads: Mapping[str, Load]) -> dict[str, list[Asked]]:
        """Until both are scaled; what was asked meanwhile."""
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for story in cast:
                rate = story.phases[0].begin
                endless = (number / rate for number in range(10**6))
                group.create_task(loads[story.name].offer(endless, ended))

            def all_scaled() -> bool:
                return all(self.scaled(story.name) for story in cast)

            await asyncio.to_thread(until, all_scaled, "the models are scaled", WARM_SECONDS)
            ended.set()
        before = {name: list(load.asked) for name, load in loads.items()}
        for load in loads.values():
            load.asked.clear()
        return before

    async def watch(self, begun: float, seen: Mapping[str, list[Decision]]) -> None:
        """Until cancelled."""
        while True:
            for model, decisions in seen.items():
                told = await asyncio.to_thread(self.told, model)
                found = Decision(time.monotonic() - begun, told.get("desired", 0), told.get("reason", ""))
                if not decisions or decisions[-1].replicas != found.replicas:
                    decisions.append(found)
            await asyncio.sleep(0.5)

    async def play(self, scenario: str) -> list[Row]:
        cast = stories(scenario)
        loads = await asyncio.to_thread(self.prepare, cast)
        before = await self.warm(cast, loads)
        seen: dict[str, list[Decision]] = {story.name: [] for story in cast}
        begun = time.monotonic()
        watching = asyncio.create_task(self.watch(begun, seen))
        await asyncio.gather(*(loads[story.name].offer(moments(story.phases)) for story in cast))
        watching.cancel()
        starts = {story.name: cold_start_seconds(self.place.pods(name=story.name)) for story in cast}
        await asyncio.to_thread(self.clear, cast)
        return [
            measured(
                scenario,
                story,
                self.stated,
                before[story.name],
                loads[story.name].asked,
                begun,
                seen[story.name],
                starts[story.name],
            )
            for story in cast
        ]


def measured(
    scenario: str,
    story: Story,
    stated: Stated,
    before: Sequence[Asked],
    asked: Sequence[Asked],
    begun: float,
    decisions: Sequence[Decision],
    start_seconds: float,
) -> Row:
    late = [one for one in asked if one.failure or one.took > TARGET_SECONDS]
    last = max((one.begun - begun for one in late), default=-math.inf)
    return Row(
        scenario,
        story.name,
        "cluster",
        stated,
        len(asked),
        sum(bool(one.failure) for one in asked),
        len(late) / max(len(asked), 1),
        max(last - rise_seconds(story.phases), 0.0),
        needed(story.phases, stated.slots),
        max(one.replicas for one in decisions),
        decisions[-1].replicas,
        start_seconds,
        tuple(decisions),
        tuple(Failure(one.begun - begun, one.took, one.failure) for one in (*before, *asked) if one.failure),
    )


# --- simulated ---


def simulated(scenario: str, start_seconds: float, stated: Stated) -> list[Row]:
    cast = stories(scenario)
    times = tuple(np.array(list(moments(story.phases))) for story in cast)
    seconds = math.ceil(sum(phase.seconds for phase in cast[0].phases))
    counts = np.stack([np.histogram(one, bins=seconds, range=(0, seconds))[0] for one in times], axis=1)
    trace = Trace(tuple(story.name for story in cast), 1.0, counts.astype(float), times)
    models = [
        simulator.Model(
            story.name,
            base_seconds=0.001,
            item_seconds=SERVICE_SECONDS,
            max_batch=MAX_BATCH,
            floor_share=1.0,
            sigma=0.0,
            target_seconds=TARGET_SECONDS,
            replica_limit=1000,
            priority=story.priority,
            quantile=QUANTILE,
            highest=stated.slots,
        )
        for story in cast
    ]
    pools = [simulator.Pool(POOL, stated.slots, cold_start_seconds=start_seconds)]
    run = simulator.run(
        simulator.World(
            trace, models, pools, 1, simulator.Settings(metric_delay_seconds=stated.delay_seconds)
        ),
        Ours(),
        1,
        keep_ticks=True,
    )
    rows = []
    for m, story in enumerate(cast):
        late = [float(tick.counters[m][queueing.LATE]) for tick in run.ticks]
        grew = [
            tick.at
            for tick, before, after in zip(run.ticks[1:], late, late[1:], strict=False)
            if after > before
        ]
        rows.append(
            Row(
                scenario,
                story.name,
                "simulator",
                stated,
                len(times[m]),
                0,
                float(run.model_shares[m]),
                max(max(grew, default=0.0) - rise_seconds(cast[0].phases), 0.0),
                needed(story.phases, stated.slots),
                max(tick.granted[m] for tick in run.ticks),
                run.ticks[-1].granted[m],
                start_seconds,
            )
        )
    return rows


# --- both ---


def said(row: Row) -> str:
    late = f"{100 * row.late_share:5.1f} % late, the last {row.late_until_seconds:3.0f} s after the rise"
    replicas = (
        f"{row.needed_replicas} replicas needed, {row.most_replicas} at most (overshoot {row.overshoot}), "
        f"{row.last_replicas} at the end"
    )
    return (
        f"{row.scenario:7} {row.model:7} {row.stated.signals:10} {row.source:9} {row.requests:5} requests, "
        f"{row.failures} failed; {late}; {replicas}; a start took {row.start_seconds:.0f} s"
    )


def show(row: Row) -> None:
    print(said(row), flush=True)
    for decision in row.decisions:
        print(f"    {decision.at:5.1f} s: {decision.replicas}: {decision.reason}", flush=True)
    for one in row.failed:
        print(f"    failed at {one.at:.1f} s after {one.took:.2f} s: {one.how}", flush=True)


def host_of(cluster: Cluster) -> str:
    """An address of this machine that pods reach: that of the API server."""
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
    return str(cluster.api.get(path)["endpoints"][0]["addresses"][0])


@contextmanager
def measuring(cluster: Cluster, stage: Stage) -> Iterator[None]:
    with ExitStack() as entered:
        more = {}
        if stage.stated.signals == "Prometheus":
            server = entered.enter_context(prometheus(every=PROMETHEUS_SECONDS))
            asked = entered.enter_context(front(server.url, host_of(cluster)))
            entered.enter_context(following(server, stage.targets))
            more = {"NLP_OPERATOR_PROMETHEUS_URL": asked.url}
        entered.enter_context(measuring_by(cluster, stage.stated.signals, **more))
        yield


def play_all(cluster: Cluster, scenarios: Sequence[str], stated: Stated) -> list[Row]:
    install(cluster)
    pool = make_pool(POOL)
    pool["spec"]["maxDevices"] = stated.slots
    cluster.apply(pool)
    place = make_place(cluster)
    stage = Stage(place, stated)
    put_sleeper(place)
    rows: list[Row] = []
    with measuring(cluster, stage):
        for scenario in scenarios:
            played = asyncio.run(stage.play(scenario))
            played += simulated(scenario, max(row.start_seconds for row in played), stated)
            for row in played:
                show(row)
            rows += played
    cluster.api.delete(f"/api/v1/namespaces/{place.namespace}")
    return rows


@contextmanager
def a_node() -> Iterator[Cluster]:
    """The cluster that runs on this machine, or one that is ended afterwards."""
    running = local.find()
    try:
        yield running or local.up(UpOptions(yes=True), Progress())
    finally:
        if running is None:
            local.down(Progress())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.autoscaling_live", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help="some of them, with commas")
    parser.add_argument("--signals", choices=("Scrape", "Prometheus"), default="Scrape", help="who is asked")
    parser.add_argument("--slots", type=int, default=SLOTS, help="of the pool that both models share")
    options = parser.parse_args(arguments)
    scenarios = options.scenarios.split(",")
    if unknown := set(scenarios) - set(SCENARIOS):
        parser.error(f"{', '.join(sorted(unknown))}: it must be some of {', '.join(SCENARIOS)}")
    with a_node() as cluster:
        rows = play_all(cluster, scenarios, Stated(options.signals, options.slots))
    write_rows(options.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
