"""Every policy on the same requests: runs, the table's rows, and how sure they are."""

from __future__ import annotations

import copy
import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.autoscaling import traces
from benchmarks.autoscaling.baselines import Aiad, FairShare, FeedForward, Hpa, Keda, Kpa, OneShot, Wva
from benchmarks.autoscaling.oracle import Clairvoyant, Plan, Planned, solve
from benchmarks.autoscaling.ours import ALL_KNOWN, OPERATED, Knowing, Ours, cold_start_of, prior_of, remember
from benchmarks.autoscaling.traces import Floats, Trace
from benchmarks.autoscaling.world import Model, Policy, Pool, Result, Settings, World, run
from nlp_operator.planning.scaling import brain
from nlp_operator.planning.scaling.capacity import CapacityEstimate
from nlp_operator.planning.scaling.demand import DemandSettings

SEEDS = (24, 32, 40, 42, 62)
"""Those of the Faro artefact; more are counted on from there."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Case:
    """A day, what was before it, and the models that it is for."""

    trace: Trace
    past: Trace | None
    models: tuple[Model, ...]
    day: int = 0


def load(path: Path, day: int | None, minutes: int | None = None, mean_load: float | None = None) -> Case:
    """`mean_load`: how many replicas' work the whole trace is on average, a target of 4.7 times the service
    time kept. Where requests are counted, their number is multiplied; where their times are given, the
    service takes longer."""
    trace = traces.read(path, day)
    past = None
    number = 0
    if not trace.times and trace.bin_seconds == 60.0:
        days = traces.read_days(path)
        number = max(days) if day is None else day
        before = [days[one].counts for one in sorted(days) if one < number]
        past = Trace(trace.names, trace.bin_seconds, np.concatenate(before)) if before else None
    factor = 1.0
    if mean_load:
        factor = mean_load / (float(trace.rates.mean(0).sum()) * Model("").mean_seconds)
    if minutes:
        trace = trace.between(0, max(int(minutes * 60 / trace.bin_seconds), 1))
    if not trace.times:
        trace, past = trace.scaled(factor), past and past.scaled(factor)
        factor = 1.0
    return Case(trace, past, tuple(slower(Model(name), factor) for name in trace.names), number)


def slower(model: Model, factor: float) -> Model:
    """The same with everything so many times as slow, and so many times the patience."""
    return replace(
        model,
        base_seconds=model.base_seconds * factor,
        item_seconds=model.item_seconds * factor,
        target_seconds=model.target_seconds * factor,
    )


@dataclass(frozen=True)
class Job:
    """One run. `policy`: a name of `POLICIES`."""

    case: Case
    policy: str
    pools: tuple[Pool, ...]
    seed: int
    settings: Settings = field(default_factory=Settings)
    options: tuple[tuple[str, Any], ...] = ()
    """For the maker of the policy."""
    keep_ticks: bool = False


Maker = Callable[[Case, tuple[Pool, ...], dict[str, Any]], Policy]


_TAUGHT: dict[tuple[int, DemandSettings, float], brain.Memory] = {}


def taught(
    case: Case, pools: Sequence[Pool], settings: brain.Settings, knowing: Knowing = ALL_KNOWN
) -> brain.Memory | None:
    """A copy of what the days before teach; they are gone through once."""
    if case.past is None:
        return None
    longest = cold_start_of(pools, knowing)
    key = (hash(case.past.counts.tobytes()), settings.demand, longest)
    if key not in _TAUGHT:
        reference = [Pool("gpu", 1, cold_start_seconds=longest)]
        _TAUGHT[key] = remember(case.past, case.models, reference, settings)
    memory = copy.deepcopy(_TAUGHT[key])
    for model in case.models:
        # Only the load is remembered, not how fast these very models are.
        memory.models[model.name].capacity = CapacityEstimate(prior_of(model, knowing))
    return memory


def _ours(case: Case, pools: tuple[Pool, ...], options: dict[str, Any]) -> Policy:
    settings = options.get("settings", brain.Settings())
    knowing = options.get("knowing", ALL_KNOWN)
    memory = taught(case, pools, settings, knowing) if options.get("memory", True) else None
    name = "nlp-operator" if options.get("memory", True) else "nlp-operator-new"
    return Ours(settings, knowing=knowing, memory=memory, name=name)


_SOLVED: dict[tuple[int, tuple[Model, ...], tuple[Pool, ...], float], Plan] = {}


def _oracle(case: Case, pools: tuple[Pool, ...], options: dict[str, Any]) -> Policy:
    price = float(options.get("late_price", 100.0))
    key = (hash(case.trace.counts.tobytes()), case.models, pools, price)
    if key not in _SOLVED:
        _SOLVED[key] = solve(case.trace, case.models, pools, price)
    return Planned(_SOLVED[key], case.trace)


POLICIES: dict[str, Maker] = {
    "nlp-operator": _ours,
    "nlp-operator-new": lambda case, pools, options: _ours(case, pools, options | {"memory": False}),
    "nlp-operator-as-operated": lambda case, pools, options: _ours(
        case, pools, options | {"memory": False, "knowing": OPERATED}
    ),
    "hpa-rate-0.6": lambda *_: Hpa("rate", 0.6),
    "hpa-rate-0.7": lambda _, __, options: Hpa("rate", float(options.get("target", 0.7))),
    "hpa-rate-0.8": lambda *_: Hpa("rate", 0.8),
    "hpa-concurrency-0.7": lambda _, __, options: Hpa("concurrency", float(options.get("target", 0.7))),
    "hpa-concurrency-1": lambda *_: Hpa("concurrency", 1.0),
    "kpa": lambda _, __, options: Kpa(float(options.get("target", 0.7))),
    "keda": lambda *_: Keda(0.7, fallback=False),
    "keda-fallback": lambda *_: Keda(0.7, fallback=True),
    "aiad": lambda *_: Aiad(),
    "one-shot": lambda *_: OneShot(),
    "wva": lambda *_: Wva(),
    "feed-forward": lambda *_: FeedForward(),
    "fair-share": lambda *_: FairShare(),
    "clairvoyant": lambda case, _, options: Clairvoyant(case.trace, **options),
    "oracle": _oracle,
}


def execute(job: Job) -> Result:
    policy = POLICIES[job.policy](job.case, job.pools, dict(job.options))
    world = World(job.case.trace, job.case.models, job.pools, job.seed, job.settings)
    return run(world, policy, job.seed, keep_ticks=job.keep_ticks)


def execute_all(jobs: Sequence[Job], processes: int) -> list[Result]:
    """The results in the order of the jobs, over so many processes (0: one a core)."""
    for job in jobs:
        if job.policy == "nlp-operator":  # before the processes part, so that each need not do it again
            options = dict(job.options)
            taught(
                job.case,
                job.pools,
                options.get("settings", brain.Settings()),
                options.get("knowing", ALL_KNOWN),
            )
        elif job.policy == "oracle":
            _oracle(job.case, job.pools, dict(job.options))
    count = min(processes or os.cpu_count() or 1, len(jobs))
    if count <= 1:
        return [execute(job) for job in jobs]
    with multiprocessing.get_context("fork").Pool(count) as pool:
        return pool.map(execute, jobs, chunksize=1)


def seeds(count: int) -> list[int]:
    return [*SEEDS[:count], *range(100, 100 + count - len(SEEDS))]


def compare(
    case: Case, policies: Sequence[str], caps: Sequence[int], seed_count: int, processes: int
) -> list[dict[str, Any]]:
    numbers = seeds(seed_count)
    jobs = [
        Job(case, policy, (Pool("gpu", cap),), seed)
        for cap in caps
        for policy in policies
        for seed in numbers
    ]
    results = execute_all(jobs, processes)
    rows = []
    by_block: list[tuple[Floats, Floats]] = []
    """Of each row, late and all requests by model and block, over all seeds."""
    for at, job in enumerate(jobs[:: len(numbers)]):
        own = results[at * len(numbers) : (at + 1) * len(numbers)]
        late = np.sum([result.late for result in own], axis=0)
        total = np.sum([result.total for result in own], axis=0)
        rows.append(row(job.policy, job.pools[0].devices, own, late, total))
        by_block.append((late, total))
    references = {
        row["cap"]: late.sum(0)
        for row, (late, _) in zip(rows, by_block, strict=True)
        if row["policy"] == "nlp-operator"
    }
    for made, (late, total) in zip(rows, by_block, strict=True):
        reference = references.get(made["cap"], late.sum(0))
        made["late_share_minus_ours_interval"] = interval(late.sum(0) - reference, total.sum(0))
    return rows


def row(policy: str, cap: int, results: Sequence[Result], late: Floats, total: Floats) -> dict[str, Any]:
    """Means over the seeds; intervals are of a bootstrap over blocks of ten minutes."""
    by_model = late.sum(1) / np.maximum(total.sum(1), 1)
    p95 = float(np.mean([result.latency() for result in results]))
    return {
        "policy": policy,
        "cap": cap,
        "late_share": float(late.sum() / total.sum()),
        "late_share_interval": interval(late.sum(0), total.sum(0)),
        "late_share_by_seed": [result.late_share for result in results],
        "late_share_after_10_minutes": float(late[:, 1:].sum() / max(total[:, 1:].sum(), 1)),
        "gpu_hours": float(np.mean([result.device_hours for result in results])),
        "flips_per_model_hour": float(np.mean([result.flips_per_model_hour for result in results])),
        "starts_per_model_hour": float(
            np.mean([result.starts / len(by_model) / result.hours for result in results])
        ),
        "worst_model_late_share": float(by_model.max()),
        "worst_model_late_share_interval": interval(late, total),
        "p95_seconds": p95 if np.isfinite(p95) else None,
    }


def interval(late: Floats, total: Floats) -> list[float]:
    """95 % of the late shares of resampled blocks, the last axis; of several models, of the worst one.

    All policies have the same blocks resampled, so that a difference of late requests is a paired one.
    """
    late, total = np.atleast_2d(late), np.atleast_2d(total)
    kept = total.sum(0) > 0
    late, total = late[:, kept], total[:, kept]
    chosen = np.random.default_rng(0).integers(0, late.shape[1], (RESAMPLES, late.shape[1]))
    shares = (late[:, chosen].sum(2) / np.maximum(total[:, chosen].sum(2), 1)).max(0)
    return [float(np.quantile(shares, 0.025)), float(np.quantile(shares, 0.975))]
