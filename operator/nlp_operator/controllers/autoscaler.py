"""The loop of the autoscaler: look at every model at once, decide, and have the models planned by it.

What is decided is what a model's next plan wants (`planning/scaling/declared.py`); nothing is written here.
Without signals what is unknown holds still, and nothing is said. Models are looked at together because they
share devices; the decisions are made by `planning/scaling`, the modules that `benchmarks/autoscaling`
measures.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from nlp_operator.api import names
from nlp_operator.api.conditions import shorten
from nlp_operator.api.objects import Obj, deleting, labels, name, namespace, uid
from nlp_operator.api.spec import ModelSpec, PoolSpec, parse_model
from nlp_operator.cluster import kinds
from nlp_operator.cluster.writer import controller_uid
from nlp_operator.controllers.keys import Key, key_of_label, key_of_object
from nlp_operator.controllers.world import World
from nlp_operator.engine.queue import Priority
from nlp_operator.planning import together
from nlp_operator.planning.devices import devices_of_deployment
from nlp_operator.planning.packing.feasible import room_for
from nlp_operator.planning.plan import EventWanted
from nlp_operator.planning.pods import is_of_server, waits_for_node
from nlp_operator.planning.readings.advice import NOT_SERVING, UNTOLD, Advice, Known, Role, Told, tell
from nlp_operator.planning.readings.totals import Believed
from nlp_operator.planning.scaling import Scaled, past, wanted_replicas
from nlp_operator.planning.scaling.allocator import Fits
from nlp_operator.planning.scaling.brain import Decision, Memory, ModelInput, Settings, decide
from nlp_operator.planning.scaling.breaker import Starts, held, stuck
from nlp_operator.planning.scaling.observed import (
    observe_model,
    readable_pools,
    replicas_running,
)
from nlp_operator.planning.scaling.past import Past
from nlp_operator.planning.scaling.signals import Sample, Window
from nlp_operator.planning.scaling.wanted import wanted_of

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
"""How often it decides: that of the benchmark."""

TEACH_SECONDS = 0.5
"""Of a look, for what is remembered of the past: a model takes a third of it."""

LONGEST_NOTE = 900
"""Of an Event; the API server takes 1,024 bytes."""

FIRST_WINDOWS = 2
"""A model is left as it is until so many windows of it were seen since this process started."""

ReadSample = Callable[[Key], Sample | None]
"""Called in a thread."""


def no_signals(key: Key) -> Sample | None:
    """Nothing is measured."""
    return None


@dataclass(frozen=True)
class Report:
    """Where what is said of a model's load comes from, besides the decision."""

    believed: Callable[[Key], Believed | None]
    """Called in a thread."""
    how: str
    """By what models are measured, in a sentence."""
    trouble: Callable[[], str]
    """Why nothing can be read of any model, in a sentence; empty when something can."""


@dataclass(frozen=True)
class Pasts:
    """Where what came before this process is remembered."""

    want: Callable[[Iterable[Key]], None]
    """Called on the loop; the answer may come at any later time, or never."""
    take: Callable[[Key], Past | None]
    """Called in a thread."""


@dataclass(frozen=True)
class Seen:
    """The caches at one moment. Their objects are replaced, never changed, so a thread may read them while
    the loop goes on."""

    models: tuple[Obj, ...]
    deployments: tuple[Obj, ...]
    pools: tuple[Obj, ...]
    waiting: tuple[Obj, ...]
    """Server pods that no node has taken yet."""
    pods: tuple[Obj, ...] = ()
    """All server pods, where something is measured."""
    placed: together.Decision | None = None
    """The last plan over all models."""

    @cached_property
    def specs(self) -> dict[str, PoolSpec]:
        """Of the pools that can be read."""
        return readable_pools(self.pools)

    @cached_property
    def servers(self) -> dict[str, list[Obj]]:
        """The Deployments of each model, by its uid."""
        found: dict[str, list[Obj]] = {}
        for deployment in sorted(self.deployments, key=lambda one: (namespace(one), name(one))):
            if names.LABEL_POOL in labels(deployment) and not deleting(deployment):
                found.setdefault(controller_uid(deployment), []).append(deployment)
        return found


class Autoscaler:
    def __init__(
        self,
        world: World,
        read: ReadSample = no_signals,
        report: Report | None = None,
        pasts: Pasts | None = None,
        *,
        holds: bool = False,
    ) -> None:
        """With a `report` models are scaled, and the status of each says what was decided of it; with `holds`
        all keep what they have."""
        self._world = world
        self._read = read
        self._report = report
        self._pasts = pasts
        self._holds = holds
        self._windows: Counter[Key] = Counter()
        if report is not None:
            world.advice = {}
        self._told: dict[Key, Told] = {}
        self._events: list[tuple[Obj, EventWanted]] = []
        self._memory = Memory()
        self._starts = Starts()
        self._stuck: Mapping[str, int] = {}
        self._settings = Settings()
        self.decisions: dict[Key, Decision] = {}
        """Of the last look."""
        self._decided_over: Seen | None = None

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                # What was decided stands: a fault must take neither the other models nor the operator along.
                log.exception("The autoscaler could not decide; it tries again in %g s.", LOOK_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Decide for every model, from the caches alone, in a thread: the loop only collects.

        Without signals a decision follows from the objects: over the same ones the last decisions stand
        (docs/decisions/0025-a-thousand-models.md). What has not changed is the same object.
        """
        stores = self._world.stores
        seen = Seen(
            models=tuple(stores[kinds.MODEL.name]),
            deployments=tuple(stores[kinds.DEPLOYMENT.name]),
            pools=tuple(stores[kinds.POOL.name]),
            waiting=tuple(filter(waits_for_node, stores[kinds.POD.name])),
            pods=() if self._read is no_signals else tuple(filter(is_of_server, stores[kinds.POD.name])),
            placed=self._world.placing.decision,
        )
        if self._read is no_signals and seen == self._decided_over:
            return
        before, now = self.decisions, self._world.clock.monotonic()
        self.decisions = await asyncio.to_thread(self._decide, seen, before, now)
        self._decided_over = seen
        if self._pasts is not None:
            self._pasts.want(key for key in self.decisions if key not in before)
        if self._report is not None:
            self._told = await asyncio.to_thread(self._tell, seen, self._report, now)
            self._pass_on({key: one.advice for key, one in self._told.items()})

    def _tell(self, seen: Seen, report: Report, now: float) -> dict[Key, Told]:
        """What is to be done with each model from now on, and said."""
        told = {}
        for model in seen.models:
            key, wanted = key_of_object(model), wanted_of(model)
            decision = self.decisions.get(key)
            if decision is not None and wanted is not None:
                spec = parse_model(model)
                keeps = wanted_replicas(
                    spec, Scaled(replicas_running(model, seen.servers.get(uid(model), [])))
                )
                known = Known(
                    decision,
                    report.believed(key),
                    wanted,
                    keeps.desired,
                    report.how,
                    report.trouble(),
                    self._role(key, spec),
                    spec.scaling.highest,
                    self._stuck.get(decision.name, 0),
                )
                told[key] = tell(self._told.get(key), known, now)
                self._announce(model, known, self._told.get(key), told[key])
            elif key in self._told:
                told[key] = Told(NOT_SERVING, now, known_at=now)
        return told

    def _role(self, key: Key, spec: ModelSpec) -> Role:
        if spec.scaling.mode != "Automatic":
            return "Advises"
        if self._holds:
            return "Held"
        return "Acts" if self._windows[key] >= FIRST_WINDOWS else "Starts"

    def _announce(self, model: Obj, known: Known, before: Told | None, told: Told) -> None:
        had = before.advice.replicas if before is not None else None
        had = known.held if had is None else had
        if known.replicas is None or known.replicas == had:
            return
        log.info("Scaling changes a model.", extra=known.decision.explain() | {"before": had})
        message = shorten(f"From {had} to {known.replicas} replicas. {told.advice.reason}", LONGEST_NOTE)
        self._events.append((model, EventWanted("Normal", "Scaled", message)))

    def _pass_on(self, advice: dict[Key, Advice]) -> None:
        """Have the models planned again of which something else is to be said."""
        before, self._world.advice = self._world.advice or {}, advice
        for key, one in advice.items():
            if before.get(key, UNTOLD) != one:
                self._world.queue.add(key, Priority.SIGNAL)
        events, self._events = self._events, []
        for model, event in events:
            self._world.say(model, (event,))

    def _decide(self, seen: Seen, before: Mapping[Key, Decision], now: float) -> dict[Key, Decision]:
        samples = {key: self._read(key) for key in map(key_of_object, seen.models)}
        given = observe(seen, samples)
        self._stuck = stuck(self._starts, list(given.values()), now)
        given = {key: held(one) if one.name in self._stuck else one for key, one in given.items()}
        if self._pasts is not None:
            self._recall(given, self._pasts)
        devices = free_devices(seen, given)
        fits = fits_in(seen.placed, given) if seen.placed is not None else None
        decided = decide(self._memory, list(given.values()), devices, now, self._settings, fits)
        for key, decision in zip(given, decided, strict=True):
            self._windows[key] += isinstance(decision.signal, Window)
            wanted = sum(given[key].current.values())
            known = before.get(key)
            if decision.total != wanted and (known is None or known.replicas != decision.replicas):
                log.debug("Scaling would change a model.", extra=decision.explain() | {"now": wanted})
        for gone in self._windows.keys() - given.keys():
            del self._windows[gone]
        return dict(zip(given, decided, strict=True))

    def _recall(self, given: Mapping[Key, ModelInput], pasts: Pasts) -> None:
        """Teach what has become known of the past, for as long as a look has time for it."""
        begun = self._world.clock.monotonic()
        for key, one in given.items():
            now = self._world.clock.monotonic()
            if now - begun > TEACH_SECONDS:
                return
            found = pasts.take(key)
            if found is not None and past.recall(self._memory, one, found, now, self._settings):
                log.info("The past of a model's load is remembered.", extra={"model": one.name})


def fits_in(placed: together.Decision, given: Mapping[Key, ModelInput]) -> Fits:
    """What the planner could give, as the last plan left it: memory, namespaces and their limits, pools that
    do not deliver."""
    asked = placed.problem.model
    room = room_for(placed.problem, placed.plan, {one.name for one in given.values() if one.name in asked})

    def fits(name: str, pool: str, replicas: int, devices: int) -> bool:
        return name not in asked or room.fits(name, pool, replicas, devices)

    return fits


def observe(seen: Seen, samples: Mapping[Key, Sample | None]) -> dict[Key, ModelInput]:
    """What is to be decided for each model, in the order of their names."""
    waiting = Counter(map(key_of_label, seen.waiting))
    pods: dict[Key, list[Obj]] = {}
    for pod in seen.pods:
        pods.setdefault(key_of_label(pod), []).append(pod)
    found = {}
    for model in sorted(seen.models, key=lambda one: (namespace(one), name(one))):
        key = key_of_object(model)
        given = observe_model(
            model,
            seen.servers.get(uid(model), []),
            seen.specs,
            samples.get(key),
            waiting[key],
            pods.get(key, ()),
        )
        if given is not None:
            found[key] = given
    return found


def free_devices(seen: Seen, given: Mapping[Key, ModelInput]) -> dict[str, int]:
    """Devices of each pool for the models that are decided here: what others hold is theirs.

    As many at least as these models are to have there already. A pool that shrank, is gone or does not
    deliver makes no model want less: who loses what, and where it goes, is the planner's to say, and `fits`
    lets nothing grow there.
    """
    devices = {pool: spec.max_devices for pool, spec in seen.specs.items()}
    own = {uid(model) for model in seen.models if key_of_object(model) in given}
    for deployment in seen.deployments:
        pool = labels(deployment).get(names.LABEL_POOL, "")
        owners = {one.get("uid") for one in deployment["metadata"].get("ownerReferences") or ()}
        if pool in devices and not owners & own:
            devices[pool] -= devices_of_deployment(deployment, seen.pools)
    held: Counter[str] = Counter()
    for one in given.values():
        for offer in one.offers:
            held[offer.pool] += one.current.get(offer.pool, 0) * offer.devices
    return {pool: max(devices.get(pool, 0), held[pool]) for pool in devices.keys() | held.keys()}
