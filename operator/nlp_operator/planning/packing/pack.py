"""All models at once, where none of them runs yet.

The model that is hardest to place opens a server; in every pool that admits it the server is filled as well
as can be, and the one that holds most for its price is taken. So on, until all have a place or no pool has
room.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nlp_operator.planning.packing.insert import insert_dedicated
from nlp_operator.planning.packing.ledger import Group, Ledger, group_of
from nlp_operator.planning.packing.problem import Model, Pool
from nlp_operator.planning.packing.settle import in_order

GREEDY_MILLIS = 300
"""A slot is filled up to here by the largest that fit; the rest by the best sum of sizes."""

CLOSE_ENOUGH = 500
"""A slot of which less than this part is empty is full."""


class _Item(NamedTuple):
    """A model in one pool."""

    number: int
    """In the order of hardness."""
    mebibytes: int
    load_millis: int
    """Of one slot."""


class _Batch:
    """Models that may lie together and ask for as many replicas as each other."""

    def __init__(self, ledger: Ledger, models: Iterable[Model], *, choosy_first: bool) -> None:
        self.ledger = ledger
        values = {one.key: worth(ledger, one) for one in models}

        def rank(model: Model) -> tuple[int, int, str]:
            return (len(ledger.options(model)) if choosy_first else 0, -values[model.key], model.key)

        self.models = sorted((one for one in models if ledger.options(one)), key=rank)
        self.worth = [values[one.key] for one in self.models]
        self.alive = [True] * len(self.models)
        self.items: dict[str, list[_Item]] = {}
        for number, model in enumerate(self.models):
            for pool in ledger.options(model):
                if pool.name in model.undelivered:
                    continue
                load = -(-model.need(pool.name).load_millis // model.replicas)
                item = _Item(number, ledger.mebibytes(model, pool.name), load)
                self.items.setdefault(pool.name, []).append(item)
        self.first = 0

    def hardest(self, most: int) -> int | None:
        """Of those that at most so many pools admit."""
        while self.first < len(self.models) and not self.alive[self.first]:
            self.first += 1
        if self.first == len(self.models) or len(self.ledger.options(self.models[self.first])) > most:
            return None
        return self.first

    def fill(self, pool: Pool, seed: int) -> list[int]:
        """What lies in a slot of the pool with this one."""
        model = self.models[seed]
        memory = self.ledger.problem.new_slot_mebibytes(pool, model.devices)
        busy = self.ledger.problem.settings.busy_millis * model.devices
        items = [one for one in self.items[pool.name] if self.alive[one.number]]
        self.items[pool.name] = items
        first = next(one for one in items if one.number == seed)
        chosen, memory_left = [seed], memory - first.mebibytes
        busy_left = max(0, busy - first.load_millis)  # what adds no time joins however busy that is
        target = memory * (1000 - GREEDY_MILLIS) // 1000
        rest = []
        for one in items:
            if one.mebibytes > memory_left or one.load_millis > busy_left or one.number == seed:
                continue
            if memory_left - one.mebibytes >= target:
                chosen.append(one.number)
                memory_left -= one.mebibytes
                busy_left -= one.load_millis
            else:
                rest.append(one)
        rest = [one for one in rest if one.mebibytes <= memory_left and one.load_millis <= busy_left]
        return chosen + best_sum(rest, memory_left, busy_left, memory // CLOSE_ENOUGH)


def worth(ledger: Ledger, model: Model) -> int:
    """The least that its share of a slot costs anywhere, were slots sold in parts."""
    least = 0
    for pool in ledger.options(model):
        slot = max(ledger.problem.slot_mebibytes(pool, model.devices), 1)
        busy = ledger.problem.settings.busy_millis * model.devices
        load = -(-model.need(pool.name).load_millis // max(model.replicas, 1))
        share = max(ledger.mebibytes(model, pool.name) * 1_000_000 // slot, load * 1_000_000 // busy)
        price = (pool.price_micros + 1) * model.devices * min(share, 1_000_000)
        least = min(least or price, price)
    return least


def best_sum(items: Sequence[_Item], memory: int, busy: int, close: int = 0) -> list[int]:
    """Of these the ones that together take most of the memory (to within `close`), within what is left of
    both.

    All sums are found at once: bit n of a number is set when some of the items take n mebibytes. Where the
    best sum keeps the slot too busy, the largest that fit are taken in turn.
    """
    mask = (1 << (memory + 1)) - 1
    reached = [1]
    for one in items:
        reached.append((reached[-1] | reached[-1] << one.mebibytes) & mask)
        if reached[-1] >> (memory - min(close, memory)):
            break
    total = reached[-1].bit_length() - 1
    chosen, load = [], 0
    for k in range(len(reached) - 1, 0, -1):
        if not reached[k - 1] >> total & 1:  # not without this one
            chosen.append(items[k - 1].number)
            load += items[k - 1].load_millis
            total -= items[k - 1].mebibytes
    return chosen if load <= busy else _largest_first(items, memory, busy)


def _largest_first(items: Sequence[_Item], memory: int, busy: int) -> list[int]:
    chosen = []
    for one in items:
        if one.mebibytes <= memory and one.load_millis <= busy:
            chosen.append(one.number)
            memory -= one.mebibytes
            busy -= one.load_millis
    return chosen


def pack(ledger: Ledger, *, choosy_first: bool = False) -> None:
    """Puts every model somewhere, as far as there is room; those with a server of their own first, for
    nothing is gained by waiting with them. `choosy_first`: those that fewest pools admit before all
    others."""
    models = [one for one in ledger.problem.models if one.replicas]
    batches: dict[tuple[Group, int], list[Model]] = {}
    for model in models:
        if model.shared:
            batches.setdefault((group_of(model), model.replicas), []).append(model)
    rank = sorted(batches, key=lambda one: (-one[1], one[0]))
    waiting = [_Batch(ledger, batches[which], choosy_first=choosy_first) for which in rank]
    choices = (
        sorted({len(ledger.options(one)) for one in models}) if choosy_first else [len(ledger.problem.pools)]
    )
    for most in choices:
        for model in in_order(ledger, [one for one in models if not one.shared]):
            if len(ledger.options(model)) <= most:
                insert_dedicated(ledger, model)
        while True:
            able = [one for one in waiting if one.hardest(most) is not None]
            if not able:
                break
            _place_hardest(ledger, max(able, key=lambda one: one.worth[one.first]))


def _place_hardest(ledger: Ledger, batch: _Batch) -> None:
    seed = batch.first
    model = batch.models[seed]
    best: tuple[int, list[int], Pool] | None = None
    for pool in ledger.options(model):
        if ledger.room_for(model, pool) < model.replicas:
            continue
        chosen = batch.fill(pool, seed)
        value = sum(batch.worth[one] for one in chosen) // ((pool.price_micros + 1) * model.devices)
        if best is None or value > best[0]:
            best = (value, chosen, pool)
    batch.alive[seed] = False
    if best is None:
        return  # no pool has room for all its replicas; `insert` finds what there is
    _, chosen, pool = best
    server = ledger.open(group_of(model), pool, model.replicas)
    for number in sorted(chosen):
        batch.alive[number] = False
        ledger.join(server, batch.models[number])
