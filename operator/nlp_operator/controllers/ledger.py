"""Who holds how many devices of which pool, so that two models never take the last one.

The plan over all models (`placing`) counts with devices that are about to be given back; the ledger knows
whether they are. A reservation is written in the same turn of the event loop in which a model's pass is
planned, before any object is: the next pass, of whichever model, already counts it. Before the first pass
of a model after a restart its Deployments stand in for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nlp_operator.planning.plan import Placement
from nlp_operator.planning.snapshot import PoolNamespace

ELSEWHERE = ""
"""Stands for all namespaces but the one that was asked about."""


@dataclass
class Ledger:
    _held: dict[str, Counter[PoolNamespace]] = field(default_factory=dict)
    """By uid of the model."""
    _total: Counter[PoolNamespace] = field(default_factory=Counter)
    _by_pool: Counter[str] = field(default_factory=Counter)

    def reserve(self, model_uid: str, namespace: str, placements: Sequence[Placement]) -> bool:
        """Replace what a model holds. True when some pool has more room than before."""
        before = self._held.pop(model_uid, Counter())
        after: Counter[PoolNamespace] = Counter()
        for placement in placements:
            after[(placement.pool, namespace)] += placement.devices
        if after:
            self._held[model_uid] = after
        for held, sign in ((before, -1), (after, 1)):
            for (pool, where), devices in held.items():
                self._total[pool, where] += sign * devices
                self._by_pool[pool] += sign * devices
        return any(after[pool] < devices for pool, devices in before.items())

    def release(self, model_uid: str) -> bool:
        """The model is gone. True when some pool has more room than before."""
        return self.reserve(model_uid, "", ())

    def held_without(self, uids: Iterable[str]) -> dict[PoolNamespace, int]:
        """Devices held by all models but these."""
        found = Counter(self._total)
        for one in uids:
            found.subtract(self._held.get(one, Counter()))
        return {where: devices for where, devices in found.items() if devices > 0}

    def usage_of_others(self, model_uid: str, namespace: str) -> Mapping[PoolNamespace, int]:
        """Devices held by all models but this one: of each pool in this namespace, and, under `ELSEWHERE`, in
        all others together. Who plans a model needs no more, and with many namespaces this is asked often."""
        own = self._held.get(model_uid, Counter())
        own_by_pool: Counter[str] = Counter()
        for (pool, _), devices in own.items():
            own_by_pool[pool] += devices
        found: dict[PoolNamespace, int] = {}
        for pool, held in self._by_pool.items():
            here = self._total[pool, namespace] - own[pool, namespace]
            elsewhere = held - own_by_pool[pool] - here
            found |= {
                (pool, where): devices
                for where, devices in ((namespace, here), (ELSEWHERE, elsewhere))
                if devices > 0
            }
        return found
