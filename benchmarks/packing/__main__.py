"""How well and how fast models are packed: a row a number, with what it must be.

    python -m benchmarks.packing --json FILE
    python -m benchmarks.packing --seeds 1 --skip-bound        # seconds, without the linear programme

The code that is measured is `nlp_operator.planning.packing`. Times are CPU time of this process, which has
one thread, of the fastest of several runs: on a quiet machine that is how long it takes. Everything else is
the same on every machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.measures import write_rows
from benchmarks.packing.bound import lowest_price
from benchmarks.packing.instances import changed, mixture, planted
from benchmarks.packing.opponents import first_fit_decreasing, one_model_a_device
from nlp_operator.planning.packing.planner import fresh, plan, repack
from nlp_operator.planning.packing.problem import Plan, Problem, moved_by_model, price_micros
from nlp_operator.planning.packing.saving import next_saving

PLANTED = ((1, 150, 2, 4), (2, 150, 3, 8), (3, 100, 8, 12), (4, 300, 3, 3), (5, 60, 2, 20))
"""Seed, devices, fewest and most models on one. Three on each is known as hard."""
REPLICAS = (0.8, 0.15, 0.05)
"""Shares of models that ask for one, two and three, in the row with replicas."""


@dataclass(frozen=True)
class Row:
    name: str
    measured: float
    must: float | None = None
    """At most; `None` where nothing was asked."""
    note: str = ""

    @property
    def held(self) -> bool:
        return self.must is None or self.measured <= self.must


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.packing", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="of the mixture")
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--skip-bound", action="store_true", help="without the linear programme")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(words)
    rows: list[Row] = []
    for group in _groups(given.models, given.seeds, bound=not given.skip_bound):
        rows += group
        for row in group:
            must = "" if row.must is None else f"(at most {row.must:g}{'' if row.held else ', MISSED'})"
            print(f"{row.name:66} {row.measured:10.4g} {must} {row.note}".rstrip(), flush=True)
    write_rows(given.json, rows)
    return 0 if all(row.held for row in rows) else 1


def _groups(count: int, seeds: int, *, bound: bool) -> Iterator[list[Row]]:
    yield _planted()
    yield _times(count)
    yield _changes(count, seeds)
    with_replicas = mixture(1, count, replicas=REPLICAS)
    yield _mixture("mixture with replicas, seed 1", with_replicas, bound=False)
    for seed in range(1, seeds + 1):
        yield _mixture(f"mixture, seed {seed}", mixture(seed, count), bound=bound)


def _planted() -> list[Row]:
    rows = []
    for shape in PLANTED:
        case = planted(*shape)
        found = fresh(case.problem)
        ratio = price_micros(case.problem, found) / case.optimum_micros
        rows += [
            Row(f"planted: {case.name}", ratio, 1.05),
            _without_place(f"planted, seed {shape[0]}", found),
        ]
    return rows


def _without_place(name: str, *found: Plan) -> Row:
    """What is placed nowhere costs nothing, and takes no time to find a place for."""
    return Row(f"{name}: models without a place", sum(len(one.missing) for one in found), 0)


def _mixture(name: str, problem: Problem, *, bound: bool) -> list[Row]:
    found = fresh(problem)
    price = price_micros(problem, found)
    first_fit, alone = first_fit_decreasing(problem), one_model_a_device(problem)
    least = lowest_price(problem) if bound else max(float(price), 1.0)
    of, must = ("the bound", 1.10) if bound else ("the planner's", None)
    held = f"{_devices(found)} devices"
    greedy = f"{first_fit.devices} devices, {first_fit.without_place} without a place"
    return [
        Row(f"{name}: price", price / 1e6, None, held),
        _without_place(name, found),
        Row(f"{name}: servers busier than neighbours may keep them", crowded(problem, found), 0),
        Row(f"{name}: price by {of}", price / least, must, f"{of} is {least / 1e6:.2f}"),
        Row(f"{name}: first-fit-decreasing by {of}", first_fit.price_micros / least, None, greedy),
        Row(
            f"{name}: one model a device by {of}",
            alone.price_micros / least,
            None,
            f"{alone.devices} devices, as many in every pool as it takes",
        ),
    ]


def crowded(problem: Problem, found: Plan) -> int:
    """Servers in which somebody was put for want of another place. The bound knows of none."""
    count = 0
    for server in found.servers:
        needs = [problem.model[key].need(server.pool) for key in server.models]
        loads = [-(-need.load_millis // server.replicas) for need in needs]
        count += server.shared and sum(loads) > max(problem.settings.busy_millis * server.devices, *loads)
    return count


def _times(count: int) -> list[Row]:
    problem = mixture(1, count)
    size = f"{count} models x {len(problem.pools)} pools"
    running = fresh(problem)
    inserted = []
    for number in range(20):
        copy = replace(problem.models[number * 37 % count], name="new")
        more = replace(problem, models=(*problem.models, copy))
        inserted.append(_fastest(plan, more, running))
    anew, repacked = _fastest(fresh, problem), _fastest(repack, changed(problem, 1), running)
    return [
        Row(f"seconds for everything anew, {size}", anew.seconds, 2.0),
        Row(f"seconds for a global repack of what runs, {size}", repacked.seconds, 2.0),
        Row(
            f"milliseconds to insert one model, the slowest of 20, {size}",
            1000 * max(one.seconds for one in inserted),
            10.0,
        ),
        _without_place("in all of these", *(one.plan for one in (anew, repacked, *inserted))),
    ]


def _changes(count: int, seeds: int) -> list[Row]:
    problem = mixture(1, count)
    running = fresh(problem)
    total = sum(one.replicas for one in problem.models)
    moved = []
    for seed in range(1, 10 * seeds + 1):
        later = changed(problem, seed)
        moved.append(sum(moved_by_model(running, plan(later, running)).values()) / total)
    now, at = problem, running
    for seed in range(1, 51):
        now = changed(now, 1000 + seed)
        at = plan(now, at)
    drifted = price_micros(now, at) / price_micros(now, fresh(now))
    packed = repack(now, at)
    share = sum(moved_by_model(at, packed).values()) / sum(one.replicas for one in now.models)
    return [
        Row(f"share of replicas moved by a 1 % change, the worst of {len(moved)}", max(moved), 0.02),
        Row("price after 50 such changes, by that of everything anew", drifted),
        Row("the same after one global repack", price_micros(now, packed) / price_micros(now, fresh(now))),
        Row("share of replicas that it moved", share),
        _without_place("after these changes, and after the repack", at, packed),
        *_steps(now, at),
    ]


def _steps(problem: Problem, running: Plan) -> list[Row]:
    """As the operator moves what runs: a server, or a model of its own, at a time."""
    at = plan(problem, replace(running, leaving=()))
    steps, moved, slowest = 0, 0, 0.0
    while True:
        begun = time.process_time()
        found = next_saving(problem, at)
        slowest = max(slowest, time.process_time() - begun)
        if found is None:
            break
        at, steps, moved = plan(problem, replace(found.plan, leaving=())), steps + 1, moved + len(found.moved)
    return [
        Row(
            "the same after as many steps of the operator as save anything",
            price_micros(problem, at) / price_micros(problem, fresh(problem)),
            None,
            f"{steps} steps, {moved} models moved",
        ),
        Row("seconds to find a step, or that there is none, the slowest", slowest),
    ]


def _devices(found: Plan) -> int:
    return sum(one.devices * one.replicas for one in found.servers)


@dataclass(frozen=True)
class Timed:
    seconds: float
    """CPU time of the fastest."""
    plan: Plan


def _fastest(decide: Callable[..., Plan], problem: Problem, *running: Plan) -> Timed:
    """Each time with a problem that nothing has been asked of yet."""
    took = []
    for _ in range(5):
        new = replace(problem)
        began = time.process_time()
        made = decide(new, *running)
        took.append(time.process_time() - began)
    return Timed(min(took), made)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
