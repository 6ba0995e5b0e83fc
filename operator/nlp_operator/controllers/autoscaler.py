"""The loop of the autoscaler: look at every model at once, decide, and say what would change.

Advisory only in this release: no signals reach it, so what is unknown holds still and nothing is written.
Models are looked at together because they share devices; the decisions are made by `planning/scaling`, the
modules that `benchmarks/autoscaling` measures.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, deleting, labels, name, namespace, uid
from nlp_operator.cluster import kinds
from nlp_operator.cluster.writer import controller_uid
from nlp_operator.controllers.keys import Key, key_of_object
from nlp_operator.controllers.world import World
from nlp_operator.planning.devices import devices_of_deployment
from nlp_operator.planning.scaling.brain import Decision, Memory, ModelInput, Settings, decide
from nlp_operator.planning.scaling.observed import observe_model, readable_pools
from nlp_operator.planning.scaling.signals import Sample

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
"""How often it decides: that of the benchmark."""

ReadSample = Callable[[Key], Sample | None]


def no_signals(key: Key) -> Sample | None:
    """Nothing is measured in this release."""
    return None


@dataclass(frozen=True)
class Seen:
    """The caches at one moment. Their objects are replaced, never changed, so a thread may read them while
    the loop goes on."""

    models: tuple[Obj, ...]
    deployments: tuple[Obj, ...]
    pools: tuple[Obj, ...]


class Autoscaler:
    def __init__(self, world: World, read: ReadSample = no_signals) -> None:
        self._world = world
        self._read = read
        self._memory = Memory()
        self._settings = Settings()
        self.decisions: dict[Key, Decision] = {}
        """Of the last look."""
        self._decided_over: Seen | None = None

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                # It only advises: a fault in it must take neither the other models nor the operator along.
                log.exception("The autoscaler could not decide; it tries again in %g s.", LOOK_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Decide for every model, from the caches alone, in a thread: the loop only collects.

        Without signals a decision follows from the objects: over the same ones the last decisions stand
        (docs/decisions/0025-a-thousand-models.md). What has not changed is the same object.
        """
        stores = self._world.stores
        seen = Seen(*(tuple(stores[kind.name]) for kind in (kinds.MODEL, kinds.DEPLOYMENT, kinds.POOL)))
        if self._read is no_signals and seen == self._decided_over:
            return
        samples = {key: self._read(key) for key in map(key_of_object, seen.models)}
        before, now = self.decisions, self._world.clock.monotonic()
        self.decisions = await asyncio.to_thread(self._decide, seen, samples, before, now)
        self._decided_over = seen

    def _decide(
        self, seen: Seen, samples: Mapping[Key, Sample | None], before: Mapping[Key, Decision], now: float
    ) -> dict[Key, Decision]:
        given = observe(seen, samples)
        decided = decide(self._memory, list(given.values()), free_devices(seen, given), now, self._settings)
        for key, decision in zip(given, decided, strict=True):
            wanted = sum(given[key].current.values())
            known = before.get(key)
            if decision.total != wanted and (known is None or known.replicas != decision.replicas):
                log.info("Scaling would change a model.", extra=decision.explain() | {"now": wanted})
        return dict(zip(given, decided, strict=True))


def observe(seen: Seen, samples: Mapping[Key, Sample | None]) -> dict[Key, ModelInput]:
    """What is to be decided for each model, in the order of their names."""
    pools = readable_pools(seen.pools)
    servers: dict[str, list[Obj]] = {}
    for deployment in sorted(seen.deployments, key=lambda one: (namespace(one), name(one))):
        if names.LABEL_POOL in labels(deployment):
            servers.setdefault(controller_uid(deployment), []).append(deployment)
    found = {}
    for model in sorted(seen.models, key=lambda one: (namespace(one), name(one))):
        key = key_of_object(model)
        if not deleting(model):
            given = observe_model(model, servers.get(uid(model), []), pools, samples.get(key))
            if given is not None:
                found[key] = given
    return found


def free_devices(seen: Seen, given: Mapping[Key, ModelInput]) -> dict[str, int]:
    """Devices of each pool for the models that are decided here: what others hold is theirs."""
    devices = {pool: spec.max_devices for pool, spec in readable_pools(seen.pools).items()}
    own = {uid(model) for model in seen.models if key_of_object(model) in given}
    for deployment in seen.deployments:
        pool = labels(deployment).get(names.LABEL_POOL, "")
        owners = {one.get("uid") for one in deployment["metadata"].get("ownerReferences") or ()}
        if pool in devices and not owners & own:
            devices[pool] -= devices_of_deployment(deployment, seen.pools)
    return {pool: max(count, 0) for pool, count in devices.items()}
