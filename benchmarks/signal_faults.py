"""What wrong answers of Prometheus do to the replicas of models: nothing, and how long it takes afterwards.

    python -m benchmarks.signal_faults --json build/signal_faults.json     # twenty minutes; no root

A real API server with controllers and the operator as a process; a real Prometheus, which a server in front
of it makes answer wrongly. Pods and their pages are emulated (kwok), so replicas need no machine. The models
have grown when the fault begins; then the load of some falls, which known would make them smaller within
five and a half minutes, and that of others rises.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.measures import table, write_rows
from tests.cluster.running.loaded import ByPrometheus, by_prometheus
from tests.cluster.running.rig import until
from tests.faults.prometheus_front import BY_MODEL, WHOLE

BUSY, QUIET, RUSH = 25.0, 1.0, 55.0
FALLS, RISES = "falls", "rises"
HELD_SECONDS = 420.0
"""Of a fault of single models: longer than what is not worth its price is kept (300 s) and the settling (120
s) together."""
EACH_SECONDS = 60.0
"""Of each fault of the whole Prometheus; all of them follow each other without a good answer between."""
BOUNDED = 300.0
"""For whatever has to happen at all."""


@dataclass(frozen=True)
class Row:
    fault: str
    load: str
    """What its load did meanwhile."""
    seconds: float
    before: int
    """Replicas when the fault began."""
    least: int
    """The fewest that its Deployment was to have while the fault lasted."""
    scale_downs: int
    """How often it was to have fewer than a second before."""
    unknown_after_seconds: float
    """From the fault until the operator told nothing of its load; -1: something was known all the time."""
    said: str
    """What its status said of its signals when the fault ended."""
    known_after_seconds: float
    """From the end of the fault until the load was known again; 300: it was not within that."""
    grown_after_seconds: float
    """From the end of the fault until it got more replicas; -1: nobody waited for that."""


@dataclass
class Watched:
    """One model while its fault lasts."""

    fault: str
    load: str
    before: int
    least: int
    latest: int
    scale_downs: int = 0
    unknown_after: float = -1.0
    said: str = ""
    known_after: float = -1.0
    grown_after: float = -1.0

    def row(self, seconds: float) -> Row:
        return Row(
            self.fault,
            self.load,
            seconds,
            self.before,
            self.least,
            self.scale_downs,
            self.unknown_after,
            self.said,
            self.known_after,
            self.grown_after,
        )


class Stage:
    def __init__(self, told: ByPrometheus) -> None:
        self.told = told
        self.signals = told.signals

    def grow(self, faults: Mapping[str, str], load: str) -> dict[str, Watched]:
        """Models by name, each with its fault, that have had load for three replicas."""
        for model in faults:
            self.signals.model(model, BUSY, scaling={"maxReplicas": 8})
        for model in faults:
            self.signals.scene.wait_ready(model, seconds=BOUNDED)
        until(lambda: all(self.ready(one) >= 3 for one in faults), "the models grow", seconds=BOUNDED)
        until(lambda: all(map(self.known, faults)), "their load is known", seconds=BOUNDED)
        return {
            model: Watched(fault, load, self.signals.replicas(model), *2 * (self.signals.replicas(model),))
            for model, fault in faults.items()
        }

    def ready(self, model: str) -> int:
        return int(self.signals.deployment(model)["status"].get("readyReplicas", 0))

    def known(self, model: str) -> bool:
        """Whether the operator told its load at its last look."""
        labels = f'{{model="{model}",namespace="signals"}}'
        return self.signals.operator.metric(f"nlp_operator_model_requests_per_second{labels}") >= 0

    def rate(self, models: Iterable[str], rate: float) -> None:
        self.signals.agents.rates.update(dict.fromkeys(models, rate))

    def watch(self, models: Mapping[str, Watched], seconds: float, begun: float) -> None:
        """`begun`: when the fault did."""
        until_then = time.monotonic() + seconds
        while time.monotonic() < until_then:
            for model, one in models.items():
                now = self.signals.replicas(model)
                one.scale_downs += now < one.latest
                one.latest, one.least = now, min(one.least, now)
                if one.unknown_after < 0 and not self.known(model):
                    one.unknown_after = time.monotonic() - begun
            time.sleep(1.0)
        for model, one in models.items():
            condition = self.signals.scene.condition(model, "SignalsAvailable") or {}
            one.said = f"{condition.get('reason')}: {condition.get('message')}"

    def recover(self, models: Mapping[str, Watched], healed: float) -> None:
        """Until each is known, and has grown under a load that is greater than ever."""
        while time.monotonic() - healed < BOUNDED:
            for model, one in models.items():
                if one.known_after < 0 and self.known(model):
                    one.known_after = time.monotonic() - healed
                if one.grown_after < 0 and self.signals.replicas(model) > one.before:
                    one.grown_after = time.monotonic() - healed
            if all(min(one.known_after, one.grown_after) >= 0 for one in models.values()):
                return
            time.sleep(0.5)
        for one in models.values():
            one.known_after = one.known_after if one.known_after >= 0 else BOUNDED
            one.grown_after = one.grown_after if one.grown_after >= 0 else BOUNDED


CONTROL = "none"
ONE, HALF = "one pod unscraped", "half the pods unscraped"


def of_single_models(stage: Stage, seconds: float) -> list[Row]:
    """Each model has a fault of its own, but for one that has none, and shrinks."""
    told = stage.told
    models = stage.grow(
        {f"fault-{number}": fault for number, fault in enumerate((CONTROL, ONE, HALF, *BY_MODEL))}, FALLS
    )
    by_fault = {one.fault: model for model, one in models.items()}
    one, half = (stage_pods(stage, by_fault[fault]) for fault in (ONE, HALF))
    told.unscraped = frozenset(one[:1] + half[: len(half) // 2])
    told.front.by_model = {by_fault[fault]: change for fault, change in BY_MODEL.items()}
    stage.rate(models, QUIET)
    stage.watch(models, seconds, time.monotonic())
    faulty = {model: one for model, one in models.items() if one.fault != CONTROL}
    stage.rate(faulty, RUSH)
    told.front.by_model, told.unscraped = {}, frozenset()
    stage.recover(faulty, time.monotonic())
    for model in models:
        stage.signals.plane.kubectl("-n", "signals", "delete", f"nlp/{model}")
    return [one.row(seconds) for one in models.values()]


def stage_pods(stage: Stage, model: str) -> list[str]:
    """Names of its server pods."""
    return [
        metadata["name"]
        for _, metadata in stage.signals.agents.pods()
        if metadata["labels"]["nlp-operator.io/model"] == model
    ]


def of_prometheus(stage: Stage, seconds: float) -> list[Row]:
    """One fault after the other with no good answer between; then Prometheus is killed, and started again."""
    front, server = stage.told.front, stage.told.server
    models = stage.grow({"falling": "", "rising": ""}, "")
    models["falling"].load, models["rising"].load = FALLS, RISES
    stage.rate(["falling"], QUIET)
    stage.rate(["rising"], RUSH)
    rows = []
    begun = time.monotonic()
    for fault, change in WHOLE.items():
        front.whole = change
        stage.watch(models, seconds, begun)
        rows += [replace(one.row(seconds), fault=fault) for one in models.values()]
    server.end()
    front.whole = lambda answer: answer
    stage.watch(models, seconds, begun)
    server.start()
    stage.rate(models, RUSH)
    stage.recover(models, time.monotonic())
    return [*rows, *(replace(one.row(seconds), fault="Prometheus killed") for one in models.values())]


def said(row: Row) -> list[str]:
    def seconds(value: float) -> str:
        if value >= BOUNDED:
            return f"not within {BOUNDED:.0f}"
        return "-" if value < 0 else f"{value:.0f}"

    return [
        row.fault,
        row.load,
        f"{row.seconds:.0f}",
        str(row.before),
        str(row.least),
        str(row.scale_downs),
        seconds(row.unknown_after_seconds),
        row.said.partition(":")[0],
        seconds(row.known_after_seconds),
        seconds(row.grown_after_seconds),
    ]


PARTS = ("models", "prometheus")
HEADS = (
    "fault", "load", "s", "before", "least", "downs", "unknown after", "said", "known after", "grown after",
)  # fmt: skip


def play(held: float, each: float, parts: Sequence[str] = PARTS) -> list[Row]:
    rows: list[Row] = []
    with by_prometheus("127.81.0.0/16") as told:
        stage = Stage(told)
        try:
            if "models" in parts:
                rows += of_single_models(stage, held)
                print(table([HEADS, *map(said, rows)]), flush=True)
            if "prometheus" in parts:
                rows += of_prometheus(stage, each)
        except BaseException:
            print(told.signals.operator.tail(), file=sys.stderr)
            raise
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.signal_faults", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--held", type=float, default=HELD_SECONDS, help="seconds of a model's own fault")
    parser.add_argument("--each", type=float, default=EACH_SECONDS, help="seconds of a fault of all")
    parser.add_argument("--parts", default=",".join(PARTS), help="faults of single models, of all, or both")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts.split(",")) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))}: it must be some of {', '.join(PARTS)}")
    rows = play(options.held, options.each, options.parts.split(","))
    print(table([HEADS, *map(said, rows)]))
    write_rows(options.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
