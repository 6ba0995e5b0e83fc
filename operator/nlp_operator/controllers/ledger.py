"""Who holds how many devices of which pool, so that two models never take the last one.

A reservation is written in the same turn of the event loop in which the plan is made, before any object is:
the next plan, of whichever model, already counts it. Before the first plan of a model after a restart its
Deployments stand in for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nlp_operator.planning.plan import Placement
from nlp_operator.planning.snapshot import PoolNamespace


@dataclass
class Ledger:
    _held: dict[str, Counter[PoolNamespace]] = field(default_factory=dict)
    """By uid of the model."""
    _total: Counter[PoolNamespace] = field(default_factory=Counter)

    def reserve(self, model_uid: str, namespace: str, placements: Sequence[Placement]) -> bool:
        """Replace what a model holds. True when some pool has more room than before."""
        before = self._held.pop(model_uid, Counter())
        after: Counter[PoolNamespace] = Counter()
        for placement in placements:
            after[(placement.pool, namespace)] += placement.devices
        if after:
            self._held[model_uid] = after
        self._total.subtract(before)
        self._total.update(after)
        return any(after[pool] < devices for pool, devices in before.items())

    def release(self, model_uid: str) -> bool:
        """The model is gone. True when some pool has more room than before."""
        return self.reserve(model_uid, "", ())

    def knows(self, model_uid: str) -> bool:
        return model_uid in self._held

    def usage_of_others(self, model_uid: str) -> Mapping[PoolNamespace, int]:
        """Devices held by all models but this one."""
        own = self._held.get(model_uid, Counter())
        return {pool: held - own[pool] for pool, held in self._total.items() if held - own[pool] > 0}
