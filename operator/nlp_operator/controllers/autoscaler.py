"""The loop of the autoscaler: look at every model at once, decide, and say what would change.

Advisory only in this release: no signals reach it, so what is unknown holds still and nothing is written.
Models are looked at together because they share devices; the decisions are made by `planning/scaling`, the
modules that `benchmarks/autoscaling` measures.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, deleting, labels, name, namespace, uid
from nlp_operator.cluster import kinds
from nlp_operator.controllers.keys import Key, key_of_object
from nlp_operator.controllers.world import World
from nlp_operator.planning.devices import devices_of_deployment
from nlp_operator.planning.scaling.brain import Decision, Memory, ModelInput, Settings, decide
from nlp_operator.planning.scaling.observed import observe_model, readable_pools
from nlp_operator.planning.scaling.signals import Sample

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
"""How often it decides: that of the benchmark."""

LOOKED_AT = (kinds.MODEL, kinds.DEPLOYMENT, kinds.POOL)

ReadSample = Callable[[Key], Sample | None]


def no_signals(key: Key) -> Sample | None:
    """Nothing is measured in this release."""
    return None


class Autoscaler:
    def __init__(self, world: World, read: ReadSample = no_signals) -> None:
        self._world = world
        self._read = read
        self._memory = Memory()
        self._settings = Settings()
        self.decisions: dict[Key, Decision] = {}
        """Of the last look."""
        self._decided_over: tuple[tuple[Obj, ...], ...] | None = None

    async def run(self) -> None:
        while True:
            try:
                self.look()
            except Exception:
                # It only advises: a fault in it must take neither the other models nor the operator along.
                log.exception("The autoscaler could not decide; it tries again in %g s.", LOOK_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Decide for every model, from the caches alone.

        Without signals a decision follows from the objects: over the same ones the last decisions stand
        (docs/decisions/0025-a-thousand-models.md). What has not changed is the same object.
        """
        objects = tuple(tuple(self._world.stores[kind.name]) for kind in LOOKED_AT)
        if self._read is no_signals and objects == self._decided_over:
            return
        seen = self._observe()
        free = self._devices(seen)
        decided = decide(
            self._memory, list(seen.values()), free, self._world.clock.monotonic(), self._settings
        )
        for key, decision in zip(seen, decided, strict=True):
            before = self.decisions.get(key)
            wanted = sum(seen[key].current.values())
            if decision.total != wanted and (before is None or before.replicas != decision.replicas):
                log.info("Scaling would change a model.", extra=decision.explain() | {"now": wanted})
        self.decisions = dict(zip(seen, decided, strict=True))
        self._decided_over = objects

    def _observe(self) -> dict[Key, ModelInput]:
        stores = self._world.stores
        pools = readable_pools(list(stores[kinds.POOL.name]))
        seen = {}
        for model in sorted(stores[kinds.MODEL.name], key=lambda one: (namespace(one), name(one))):
            if deleting(model):
                continue
            key = key_of_object(model)
            deployments = [
                one
                for one in stores[kinds.DEPLOYMENT.name].by("owner", uid(model))
                if names.LABEL_POOL in labels(one)
            ]
            given = observe_model(model, deployments, pools, self._read(key))
            if given is not None:
                seen[key] = given
        return seen

    def _devices(self, seen: dict[Key, ModelInput]) -> dict[str, int]:
        """Devices of each pool for the models that are decided here: what others hold is theirs."""
        pools = list(self._world.stores[kinds.POOL.name])
        devices = {pool: spec.max_devices for pool, spec in readable_pools(pools).items()}
        own = {uid(model) for key in seen if (model := self._world.get(key)) is not None}
        for deployment in self._world.stores[kinds.DEPLOYMENT.name]:
            pool = labels(deployment).get(names.LABEL_POOL, "")
            owners = {one.get("uid") for one in deployment["metadata"].get("ownerReferences") or ()}
            if pool in devices and not owners & own:
                devices[pool] -= devices_of_deployment(deployment, pools)
        return {pool: max(count, 0) for pool, count in devices.items()}
