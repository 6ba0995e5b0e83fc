"""What is packed: instances with a known optimum, and a published mixture with its seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nlp_operator.planning.packing.problem import Memory, Model, Need, Pool, Problem, Settings

NO_MARGIN = Settings(margin_millis={"measured": 0, "declared": 0, "estimated": 0})
"""Sizes are those the instance says, so that its optimum is known."""
WHOLE = 16_384
"""MiB of the device that "a device" means in the mixture: half of it is 8,192 MiB."""


@dataclass(frozen=True)
class Planted:
    name: str
    problem: Problem
    optimum_micros: int


def planted(seed: int, devices: int, fewest: int, most: int) -> Planted:
    """So many devices cut whole into `fewest` to `most` models each, so that they fill them without a gap.

    No plan is cheaper: a mebibyte costs as much at least in the other pools, of which one is larger, one
    smaller.
    """
    random = np.random.default_rng(seed)
    sizes: list[int] = []
    for _ in range(devices):
        pieces = int(random.integers(fewest, most + 1))
        shares = random.dirichlet(np.full(pieces, 4.0))
        cut = np.maximum(1, np.floor(shares * WHOLE)).astype(int)
        cut[int(cut.argmax())] += WHOLE - int(cut.sum())
        sizes += cut.tolist()
    models = tuple(
        Model("team", f"m{number:04}", 1, Need(Memory(0, size, "measured")), shared=True)
        for number, size in enumerate(random.permutation(sizes).tolist())
    )
    pools = (
        Pool("exact", WHOLE, 1_000_000, 10_000),
        Pool("large", 2 * WHOLE, 2_100_000, 10_000),
        Pool("small", WHOLE // 2, 520_000, 10_000),
    )
    name = f"{len(models)} models on {devices} devices, {fewest} to {most} each, seed {seed}"
    return Planted(name, Problem(pools, models, NO_MARGIN), devices * 1_000_000)


POOLS = (
    Pool("a100", 81_920, 3_670_000, 40, 900),
    Pool("a100-mig-3g", 40_192, 1_750_000, 60, 700),
    Pool("a100-mig-1g", 9_728, 510_000, 140, 700),
    Pool("l4", 23_034, 800_000, 80, 600),
    Pool("t4", 15_360, 420_000, 120, 600),
    Pool("cpu", 8_192, 190_000, 60, 250),
)
"""Prices are of the kind clouds ask; what a server takes itself is as measured or published for a context."""
SPEED = {"a100": 6.0, "a100-mig-3g": 2.8, "a100-mig-1g": 0.9, "l4": 1.8, "t4": 1.0, "cpu": 0.12}
"""Against a T4, which keeps a load of 1,000 for one second a second."""


def mixture(
    seed: int, count: int = 1000, *, namespaces: int = 4, replicas: Sequence[float] = (1.0,)
) -> Problem:
    """60 % of the models take less than 0.2 of a device, 30 % up to 0.5, 10 % more, up to a whole one.

    `replicas`: the shares of models that ask for 1, 2, 3 ... of them. Half of the models keep their device
    busy in proportion to their size, more or less; the other half hardly at all.
    """
    random = np.random.default_rng(seed)
    kinds = random.choice(3, count, p=[0.6, 0.3, 0.1])
    low, high = np.array([0.01, 0.2, 0.5]), np.array([0.2, 0.5, 1.0])
    shares = random.uniform(low[kinds], high[kinds])
    teams = random.choice(namespaces, count, p=_decreasing(namespaces))
    busy = np.where(random.random(count) < 0.5, shares * random.lognormal(-0.7, 0.6, count), 0.005)
    wanted = 1 + random.choice(len(replicas), count, p=np.array(replicas) / np.sum(replicas))
    models = []
    for number in range(count):
        loads = {pool: int(1000 * busy[number] / speed) for pool, speed in SPEED.items()}
        size = max(64, int(shares[number] * WHOLE))
        memory = Memory(size // 5, size - size // 5, "measured")
        need = Need(memory, loads["t4"])
        needs = {pool: Need(memory, load) for pool, load in loads.items()}
        models.append(
            Model(f"team-{teams[number]}", f"m{number:04}", int(wanted[number]), need, needs, shared=True)
        )
    return Problem(POOLS, tuple(models))


def _decreasing(count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    weights = 1.0 / np.arange(1, count + 1)
    return np.asarray(weights / weights.sum())


def changed(problem: Problem, seed: int, share: float = 0.01) -> Problem:
    """That share of the models changed: a third each grew in memory by half, went, or came."""
    random = np.random.default_rng(seed)
    models = list(problem.models)
    picked = random.choice(len(models), max(1, int(len(models) * share)), replace=False)
    for turn, number in enumerate(sorted(picked.tolist())):
        model = models[number]
        if turn % 3 == 0:
            models[number] = grown(model)
        elif turn % 3 == 1:
            models[number] = replace(model, replicas=0)
        else:
            models.append(replace(model, name=f"{model.name}-{seed}"))
    return replace(problem, models=tuple(models))


def grown(model: Model) -> Model:
    def more(need: Need) -> Need:
        memory = need.memory
        half = memory.model_mebibytes + memory.model_mebibytes // 2
        return replace(need, memory=replace(memory, model_mebibytes=half))

    return replace(
        model, believed=more(model.believed), needs={pool: more(need) for pool, need in model.needs.items()}
    )
