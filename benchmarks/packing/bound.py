"""What no plan can beat: the linear programme over all ways to fill a slot (Gilmore and Gomory), by HiGHS.

Every column is a set of models that fit together in a slot of a pool; each model has to be in as many slots
as it wants replicas, and a pool has its devices. Columns are made as they are needed: what a model is worth
(its dual value) goes into a knapsack over memory and load. Stopping early is sound: scaled until no column is
worth more than it costs, these values are a solution of the dual programme, and so a bound.

The knapsack rounds sizes down to a grid, of a model in a server of more replicas than it wants counts what
load is left of it in the largest server there can be, and takes no load for more than a slot's: a model may
be as busy as it likes, and what adds no time lies with it. All that only makes the bound lower.

It is the bound of plans in which everybody has time. Where there are too few devices for that, the planner
puts models where there is memory (docs/decisions/0102-head-room.md), and may be cheaper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from nlp_operator.planning.packing.bounds import admits
from nlp_operator.planning.packing.problem import Model, Pool, Problem

MEMORY_STEP_MEBIBYTES, LOAD_STEP_MILLIS = 32, 20
"""The knapsack's grid. Finer is tighter and slower."""

CENTRE = 0.6
"""How much of the best dual solution so far is in the one that is tried next."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class _Column:
    pool: int
    models: Integers


@dataclass(frozen=True)
class _Knapsack:
    """Models of one namespace that may lie in one pool, in steps of the grid."""

    pool: int
    models: Integers
    memory: Integers
    load: Integers
    memory_steps: int
    load_steps: int


def lowest_price(problem: Problem, rounds: int = 80, gap: float = 0.004) -> float:
    """Micros an hour. Of shared models of one device a replica only."""
    models = sorted((one for one in problem.models if one.replicas), key=lambda one: one.key)
    assert all(one.shared and one.devices == 1 for one in models), "see the module"
    pools = list(problem.by_price)
    wanted = np.array([one.replicas for one in models], float)
    price = np.array([one.price_micros for one in pools], float)
    limits = np.array([one.max_devices for one in pools], float)
    alone = [
        _Column(p, np.array([number]))
        for number, model in enumerate(models)
        for p, pool in enumerate(pools)
        if admits(problem, model, pool)
    ]
    knapsacks = _knapsacks(problem, models, pools)
    columns = [
        *alone,
        *(_Column(sack.pool, sack.models[one]) for sack in knapsacks for one in _first_fit(sack)),
    ]
    best, centre = 0.0, np.zeros(len(models))
    for _ in range(rounds):
        value, worth, scarcity = _master(columns, wanted, price, limits)
        # Values far from the best so far lead astray; those between the two converge much sooner.
        tried = CENTRE * centre + (1 - CENTRE) * worth if best else worth
        dearest = np.full(len(pools), 1e-9)
        for sack in knapsacks:
            found, chosen = fill(
                tried[sack.models], sack.memory, sack.load, sack.memory_steps, sack.load_steps
            )
            dearest[sack.pool] = max(dearest[sack.pool], found)
            columns.append(_Column(sack.pool, sack.models[chosen]))
            limit = price[sack.pool] + scarcity[sack.pool]
            columns += [
                _Column(sack.pool, sack.models[one])
                for one in _greedy(sack, worth[sack.models])
                if worth[sack.models[one]].sum() > limit * 1.0001
            ]
        bound = max(_dual(s, tried @ wanted, dearest, price, limits) for s in (1.0, *price / dearest))
        if bound > best:
            best, centre = bound, tried
        if value - best <= gap * value:
            break
    return best


def _share(sack: _Knapsack) -> Floats:
    return np.maximum(sack.memory / sack.memory_steps, sack.load / sack.load_steps)


def _greedy(sack: _Knapsack, worth: Floats) -> list[Integers]:
    """All of them in slots, those of the most worth for their size first."""
    return _fill_in_order(sack, np.argsort(-worth / np.maximum(_share(sack), 1e-3), kind="stable"))


def _first_fit(sack: _Knapsack) -> list[Integers]:
    """All of them in slots, the largest first: columns to begin with."""
    return _fill_in_order(sack, np.argsort(-_share(sack), kind="stable"))


def _fill_in_order(sack: _Knapsack, order: Integers) -> list[Integers]:
    slots: list[tuple[list[int], int, int]] = []
    for k in order.tolist():
        memory, load = int(sack.memory[k]), int(sack.load[k])
        for number, (members, m, h) in enumerate(slots):
            if m >= memory and h >= load:
                members.append(k)
                slots[number] = (members, m - memory, h - load)
                break
        else:
            slots.append(([k], sack.memory_steps - memory, sack.load_steps - load))
    return [np.array(members) for members, _, _ in slots]


def _dual(scale: float, worth: float, dearest: Floats, price: Floats, limits: Floats) -> float:
    """The value of a solution of the dual: what a pool's scarcity must be worth so that no column gains."""
    return float(scale * worth - np.maximum(0.0, scale * dearest - price) @ limits)


def _master(
    columns: list[_Column], wanted: Floats, price: Floats, limits: Floats
) -> tuple[float, Floats, Floats]:
    """The programme over the columns there are: its value, what each model is worth, and a device of each
    pool beyond its price."""
    count, width = len(columns), len(price)
    rows = np.concatenate([one.models for one in columns])
    cols = np.repeat(np.arange(count), [len(one.models) for one in columns])
    pools = np.array([one.pool for one in columns])
    cover = sparse.csr_matrix((-np.ones(len(rows)), (rows, cols)), (len(wanted), count))
    budget = sparse.csr_matrix((np.ones(count), (pools, np.arange(count))), (width, count))
    # While there are few columns devices may not suffice; beyond the limits they cost far more than any.
    beyond = sparse.vstack([sparse.csr_matrix((len(wanted), width)), -sparse.eye(width)])
    matrix = sparse.hstack([sparse.vstack([cover, budget]), beyond]).tocsr()
    right = np.concatenate([-wanted, limits])
    cost = np.concatenate([price[pools], np.full(width, 20 * price.max())])
    found = linprog(cost, matrix, right, bounds=(0, None), method="highs")
    duals = np.maximum(0.0, -np.asarray(found.ineqlin.marginals))
    return float(found.fun), duals[: len(wanted)], duals[len(wanted) :]


def _knapsacks(problem: Problem, models: list[Model], pools: list[Pool]) -> list[_Knapsack]:
    groups: dict[str, list[int]] = {}
    for number, model in enumerate(models):
        groups.setdefault(model.namespace, []).append(number)
    sacks = []
    for members in groups.values():
        most = max(models[n].replicas for n in members)
        for p, pool in enumerate(pools):
            able = [n for n in members if admits(problem, models[n], pool)]
            if not able:
                continue
            busy = problem.settings.busy_millis
            loads = [min(models[n].need(pool.name).load_millis // most, busy) for n in able]
            sizes = [problem.mebibytes(models[n], pool.name) // MEMORY_STEP_MEBIBYTES for n in able]
            sacks.append(
                _Knapsack(
                    p,
                    np.array(able),
                    np.array(sizes),
                    np.array(loads) // LOAD_STEP_MILLIS,
                    problem.slot_mebibytes(pool, 1) // MEMORY_STEP_MEBIBYTES,
                    busy // LOAD_STEP_MILLIS,
                )
            )
    return sacks


@njit(cache=True)
def fill(
    worth: Floats, memory: Integers, load: Integers, memory_steps: int, load_steps: int
) -> tuple[float, Integers]:
    """The set of the highest worth within both limits, and that worth."""
    count = len(worth)
    best = np.zeros((memory_steps + 1, load_steps + 1))
    taken = np.zeros((count, memory_steps + 1, load_steps + 1), np.uint8)
    for k in range(count):
        if worth[k] <= 0.0:
            continue
        for m in range(memory_steps, memory[k] - 1, -1):
            for h in range(load_steps, load[k] - 1, -1):
                value = best[m - memory[k], h - load[k]] + worth[k]
                if value > best[m, h]:
                    best[m, h] = value
                    taken[k, m, h] = 1
    chosen = []
    m, h = memory_steps, load_steps
    for k in range(count - 1, -1, -1):
        if taken[k, m, h]:
            chosen.append(k)
            m -= memory[k]
            h -= load[k]
    return best[memory_steps, load_steps], np.array(chosen, dtype=np.int64)
