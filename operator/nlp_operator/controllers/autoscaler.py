"""The loop of the autoscaler: look at every model at once, decide, and have the models planned by it.

What is decided is what a model's next plan wants (`planning/scaling/declared.py`); nothing is written here.
Without signals what is unknown holds still, and nothing is said. Models are looked at together because they
share devices; the decisions are made by `planning/scaling`, the modules that `benchmarks/autoscaling`
measures.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

from nlp_operator.api import names
from nlp_operator.api.conditions import shorten
from nlp_operator.api.objects import Obj, deleting, labels, name, namespace, uid
from nlp_operator.api.spec import ModelSpec, PoolSpec, parse_model
from nlp_operator.cluster import kinds
from nlp_operator.cluster.writer import controller_uid, member_uids
from nlp_operator.controllers.keys import Key, key_of_label, key_of_object
from nlp_operator.controllers.world import World
from nlp_operator.engine.queue import Priority
from nlp_operator.planning import together
from nlp_operator.planning.agent_report import AgentReport
from nlp_operator.planning.aside import target_of
from nlp_operator.planning.devices import devices_of_deployment
from nlp_operator.planning.figures import LoadOf, Named
from nlp_operator.planning.homes import decided_for, fits_in, homes_of, seat_of, server_of, settled
from nlp_operator.planning.plan import EventWanted
from nlp_operator.planning.pods import is_of_server, waits_for_node
from nlp_operator.planning.profiles import owner_of as profiles_of
from nlp_operator.planning.readings.advice import (
    BLIND_SECONDS,
    NOT_SERVING,
    UNTOLD,
    Known,
    Role,
    Told,
    busy_told,
    tell,
)
from nlp_operator.planning.readings.totals import Believed, Newest
from nlp_operator.planning.scaling import Scaled, early, headroom, past, wanted_replicas
from nlp_operator.planning.scaling.allocator import Fits
from nlp_operator.planning.scaling.brain import Decision, Memory, ModelInput, Settings, decide
from nlp_operator.planning.scaling.breaker import Starts, held, stuck
from nlp_operator.planning.scaling.headroom import HeadRoom
from nlp_operator.planning.scaling.observed import Home, observe_model, readable_pools, stood_aside
from nlp_operator.planning.scaling.past import Past
from nlp_operator.planning.scaling.signals import Sample, Unknown, Window
from nlp_operator.planning.scaling.slots import instances_of
from nlp_operator.planning.scaling.wanted import is_scaled, wanted_of

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
"""How often it decides: that of the benchmark."""

EARLY_SECONDS = 2.0
"""Between a look and an early one, at least (docs/decisions/0092-early-looks.md)."""

TEACH_SECONDS = 0.5
"""Of a look, for what is remembered of the past: a model takes a third of it."""

LONGEST_NOTE = 900
"""Of an Event; the API server takes 1,024 bytes."""

FIRST_WINDOWS = 2
"""A model is left as it is until so many windows of it were seen since this process started."""

LEFT_OUT_SECONDS = 600.0
"""For how long a model is left alone that could not be decided."""

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
    configs: Mapping[tuple[str, str], Obj] = field(default_factory=dict)
    """Likewise the ConfigMaps of their servers, by namespace and name."""
    reports: Mapping[str, AgentReport] = field(default_factory=dict)
    """Likewise of their agents, by uid."""
    placed: together.Decision | None = None
    """The last plan over all models."""
    profiles: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By whose they are and pool: what agents measured of an artifact's speed."""
    targeted: frozenset[tuple[str, str]] = frozenset()
    """Namespace and name of the Deployments whose replicas somebody else writes."""

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

    @cached_property
    def shared(self) -> dict[str, Obj]:
        """The Deployments of shared servers, as the brain calls those."""
        return {
            server_of(namespace(one), name(one)): one
            for one in self.deployments
            if member_uids(one) and names.LABEL_POOL in labels(one) and not deleting(one)
        }

    @cached_property
    def pods_at(self) -> dict[str, list[Obj]]:
        """The server pods, by `where_it_is`."""
        found: dict[str, list[Obj]] = {}
        for pod in self.pods:
            found.setdefault(where_it_is(pod), []).append(pod)
        return found

    @cached_property
    def homes(self) -> dict[str, Home]:
        """Of the models that share a server by the last plan."""
        if self.placed is None:
            return {}
        scaled = [f"{namespace(one)}/{name(one)}" for one in self.models if is_scaled(one)]
        homes = homes_of(self.placed)
        return homes | decided_for(self.placed, homes, scaled)

    @cached_property
    def settled(self) -> frozenset[str]:
        """Shared servers, as the brain calls them, that nobody is on the way to or from."""
        return settled(self.homes, self.models)

    def is_aside(self, model: Obj) -> bool:
        """Somebody else writes the replicas of a server of this model."""
        if not self.targeted:
            return False
        return any((namespace(one), name(one)) in self.targeted for one in self.servers_of(model))

    def servers_of(self, model: Obj) -> list[Obj]:
        """Its Deployments; of one that shares a server that server's, and until there is one, that of the
        server which it is to leave."""
        home = self.homes.get(f"{namespace(model)}/{name(model)}")
        if home is None:
            return self.servers.get(uid(model), [])
        there = self.shared.get(home.server.server)
        if there is not None:
            return [there]
        return [one for one in self.shared.values() if uid(model) in member_uids(one)][:1]


@dataclass
class Said:
    """Of the models of one look."""

    told: dict[Key, Told] = field(default_factory=dict)
    loads: dict[Named, LoadOf] = field(default_factory=dict)
    """Of those whose load is known."""
    bearable: dict[Key, float] = field(default_factory=dict)
    """Of those that are scaled: with more requests a second each is to be looked at early."""


class Autoscaler:
    def __init__(
        self,
        world: World,
        read: ReadSample = no_signals,
        report: Report | None = None,
        pasts: Pasts | None = None,
        *,
        holds: bool = False,
        on_look: Callable[[float], None] = lambda seconds: None,
        on_early_look: Callable[[], object] = lambda: None,
        on_scaled: Callable[[str], None] = lambda direction: None,
        on_stepped: Callable[[str], None] = lambda direction: None,
    ) -> None:
        """With a `report` models are scaled, and the status of each says what was decided of it; with `holds`
        all keep what they have. `on_look` is told how long a look over all models took, `on_scaled` the
        direction (up, down) of each change of replicas, `on_stepped` that of instances."""
        self._world = world
        self._read = read
        self._report = report
        self._pasts = pasts
        self._holds = holds
        self._on_look = on_look
        self._on_early_look = on_early_look
        self._on_scaled = on_scaled
        self._on_stepped = on_stepped
        self._windows: Counter[Key] = Counter()
        if report is not None:
            world.advice = {}
        self._told: dict[Key, Told] = {}
        self._events: list[tuple[Obj, EventWanted]] = []
        self._memory = Memory()
        self._head_room = HeadRoom()
        self._settled: Collection[str] = ()
        """Shared servers, at the last look over all models."""
        self._starts = Starts()
        self._stuck: Mapping[str, int] = {}
        self._settings = Settings()
        self.decisions: dict[Key, Decision] = {}
        """Of the last look."""
        self.loads: Mapping[Named, LoadOf] = {}
        """Of the models whose load was known at the last look."""
        self._failed: set[Key] = set()
        """Models that could not be looked at the last time."""
        self._undecidable: dict[Key, float] = {}
        """Models without which all others can be decided, until when they are left out. Monotonic."""
        self._decided_over: Seen | None = None
        self._ceilings: Mapping[str, int] = {}
        """How many replicas each may have until the next look over all models."""
        self._bearable: Mapping[Key, float] = {}
        """Requests a second; replaced, never changed."""
        self._overloaded: set[Key] = set()
        self._overload = asyncio.Event()

    async def run(self) -> None:
        while True:
            await self._try(self.look)
            await self._after_look()

    async def _after_look(self) -> None:
        """Until the next one over all models."""
        due = asyncio.get_running_loop().time() + LOOK_SECONDS
        while await self._overloaded_before(due):
            await self._try(self.look_early)

    async def _try(self, look: Callable[[], Awaitable[None]]) -> None:
        try:
            await look()
        except Exception:
            # What was decided stands: a fault must take neither the other models nor the operator along.
            log.exception("The autoscaler could not decide; it tries again in %g s.", LOOK_SECONDS)

    async def _overloaded_before(self, due: float) -> bool:
        """Waits until an early look is right, or until `due`, of the loop's time: then False."""
        try:
            async with asyncio.timeout_at(due):
                await asyncio.sleep(EARLY_SECONDS)
                await self._overload.wait()
        except TimeoutError:
            return False
        return True

    def note(self, key: Key, found: Newest) -> None:
        """On the loop, with each new reading of a pod."""
        if early.exceeds(found.rate, found.seconds, self._bearable.get(key, math.inf)):
            self._overloaded.add(key)
            self._overload.set()

    async def look(self) -> None:
        """Decide for every model, from the caches alone, in a thread: the loop only collects.

        Without signals a decision follows from the objects: over the same ones the last decisions stand
        (docs/decisions/0025-a-thousand-models.md). What has not changed is the same object.
        """
        self._overloaded.clear()
        self._overload.clear()
        seen = self._see()
        if self._read is no_signals and seen == self._decided_over:
            return
        before, now = self.decisions, self._world.clock.monotonic()
        self.decisions = await asyncio.to_thread(self._decide, seen, before, now)
        self._decided_over = seen
        if self._pasts is not None:
            self._pasts.want(key for key in self.decisions if key not in before)
        if self._report is not None:
            said = await asyncio.to_thread(self._tell, seen, self._report, now)
            self._told, self.loads, self._bearable = said.told, said.loads, said.bearable
            self._pass_on(said)
            if not self._holds:  # else replicas could not have helped
                self._world.placing.note_lasting(self._head_room.lasting)
            if self._world.sleeping is not None:
                self._world.sleeping.wake_passes()
        self._on_look(self._world.clock.monotonic() - now)

    async def look_early(self) -> None:
        """Decide for the models that are overloaded, before it is time for all of them."""
        keys, self._overloaded = self._overloaded, set()
        self._overload.clear()
        if self._report is None:
            return
        seen, now = self._see(keys), self._world.clock.monotonic()
        self.decisions |= await asyncio.to_thread(self._decide_early, seen, now)
        said = await asyncio.to_thread(self._tell, seen, self._report, now)
        self._told |= said.told
        self.loads = {**self.loads, **said.loads}
        self._bearable = {**self._bearable, **said.bearable}
        self._pass_on(said)
        self._on_early_look()

    def _see(self, only: Collection[Key] | None = None) -> Seen:
        """`only`: the models that are looked at, and their pods."""
        stores = self._world.stores

        def is_seen(key: Key) -> bool:
            return only is None or key in only

        measured = self._read is not no_signals
        pods = filter(is_of_server, stores[kinds.POD.name]) if measured else []
        configs: Iterable[Obj] = stores[kinds.CONFIG_MAP.name] if measured else []
        return Seen(
            models=tuple(one for one in stores[kinds.MODEL.name] if is_seen(key_of_object(one))),
            deployments=tuple(stores[kinds.DEPLOYMENT.name]),
            pools=tuple(stores[kinds.POOL.name]),
            waiting=tuple(filter(waits_for_node, stores[kinds.POD.name])),
            pods=tuple(
                one for one in pods if names.LABEL_MODEL not in labels(one) or is_seen(key_of_label(one))
            ),
            configs={(namespace(one), name(one)): one for one in configs},
            reports=dict(self._world.agents.reports) if measured else {},
            placed=self._world.placing.decision,
            profiles={whose: dict(known) for whose, known in self._world.placing.profiles.items()},
            targeted=frozenset(
                (namespace(one), target)
                for one in stores[kinds.AUTOSCALER.name]
                if (target := target_of(one))
            ),
        )

    def _tell(self, seen: Seen, report: Report, now: float) -> Said:
        """What is to be done with each model from now on, and said."""
        found = Said()
        for model in seen.models:
            key, wanted = key_of_object(model), wanted_of(model)
            decision = self.decisions.get(key)
            if decision is not None and wanted is not None:
                spec = parse_model(model)
                keeps = wanted_replicas(spec, Scaled(sum(decision.given.current.values())))
                believed = report.believed(key)
                known = Known(
                    decision,
                    believed,
                    wanted,
                    keeps.desired,
                    report.how,
                    report.trouble(),
                    "Aside" if seen.is_aside(model) else self._role(key, spec),
                    spec.scaling.highest,
                    spec.scaling.max_replicas is not None,
                    self._stuck.get(decision.name, 0),
                    self._head_room.busy_millis(decision.name) if decision.name in seen.homes else None,
                    self._head_room.busy_at(decision.name) if decision.name in seen.homes else 0.0,
                )
                found.told[key] = told = tell(self._told.get(key), known, now)
                if known.role == "Acts":
                    found.bearable[key] = early.bearable(decision)
                self._announce(model, known, self._told.get(key), told)
                load = self._load_of(key, known, told, now)
                if load is not None:
                    found.loads[Named(key.namespace, key.name)] = load
            elif key in self._failed and key in self._told:
                found.told[key] = self._told[key]
            elif key in self._told:
                found.told[key] = Told(NOT_SERVING, now, known_at=now)
        return found

    def _load_of(self, key: Key, known: Known, told: Told, now: float) -> LoadOf | None:
        """Between two looks that see something new, and while a pod starts anew, it is still known: alerts
        and dashboards are not to begin anew with each of these."""
        before = self.loads.get(Named(key.namespace, key.name))
        seen = isinstance(known.decision.signal, Window)
        if not seen and (before is None or now - told.known_at >= BLIND_SECONDS):
            return None
        if known.believed is None:
            return before
        return LoadOf(known.believed, known.wanted, known.decision.instances)

    def _role(self, key: Key, spec: ModelSpec) -> Role:
        if spec.scaling.mode != "Automatic":
            return "Advises"
        if self._holds:
            return "Held"
        return "Acts" if self._windows[key] >= FIRST_WINDOWS else "Starts"

    def _announce(self, model: Obj, known: Known, before: Told | None, told: Told) -> None:
        self._announce_instances(model, known, before, told)
        had = before.advice.replicas if before is not None else None
        had = known.held if had is None else had
        if known.replicas is None or known.replicas == had:
            return
        log.info("Scaling changes a model.", extra=known.decision.explain() | {"before": had})
        message = shorten(f"From {had} to {known.replicas} replicas. {told.advice.reason}", LONGEST_NOTE)
        self._on_scaled("up" if known.replicas > had else "down")
        self._events.append((model, EventWanted("Normal", "Scaled", message)))

    def _announce_instances(self, model: Obj, known: Known, before: Told | None, told: Told) -> None:
        for pool, count in known.instances.items():
            had = before.advice.instances.get(pool) if before is not None else None
            had = known.decision.given.instances.now if had is None else had
            if count == had:
                continue
            explained = known.decision.explain() | {"before": had}
            log.info("Scaling changes the instances of a model.", extra=explained)
            message = f"From {had} to {count} instances in each pod. {told.advice.reason}"
            self._on_stepped("up" if count > had else "down")
            self._events.append((model, EventWanted("Normal", "Scaled", shorten(message, LONGEST_NOTE))))

    def _pass_on(self, said: Said) -> None:
        """Have the models planned again of which something else is to be said."""
        before, self._world.advice = (
            self._world.advice or {},
            {key: one.advice for key, one in self._told.items()},
        )
        for key in said.told:
            if before.get(key, UNTOLD) != self._world.advice[key]:
                self._world.queue.add(key, Priority.SIGNAL)
        events, self._events = self._events, []
        for model, event in events:
            self._world.say(model, (event,))

    def _decide(self, seen: Seen, before: Mapping[Key, Decision], now: float) -> dict[Key, Decision]:
        given = self._observe(seen)
        self._stuck = stuck(self._starts, list(given.values()), now)
        given = {key: held(one) if one.name in self._stuck else one for key, one in given.items()}
        if self._pasts is not None:
            self._recall(given, self._pasts)
        if self._world.sleeping is not None:
            self._world.sleeping.before_deciding(seen.models, given, self._memory)
        devices, fits = room_of(seen, given)
        try:
            decided = decide(self._memory, list(given.values()), devices, now, self._settings, fits)
        except Exception:
            self._blame(given, devices, now)
            raise
        self._ceilings = {one.name: one.bounds.highest for one in decided}
        aside = {key_of_object(model) for model in seen.models if seen.is_aside(model)}
        for key, decision in zip(given, decided, strict=True):
            # Where somebody else wrote the replicas until now, it begins as after a start.
            self._windows[key] += isinstance(decision.signal, Window)
            if key in aside:
                self._windows[key] = 0
            wanted = sum(given[key].current.values())
            known = before.get(key)
            if decision.total != wanted and (known is None or known.replicas != decision.replicas):
                log.debug("Scaling would change a model.", extra=decision.explain() | {"now": wanted})
        for gone in self._windows.keys() - given.keys():
            del self._windows[gone]
        decisions = dict(zip(given, decided, strict=True))
        self._settled = seen.settled
        today = self._world.clock.now().timestamp()
        for model in seen.models:
            of_model = f"{namespace(model)}/{name(model)}"
            if of_model in seen.homes:
                headroom.remember(self._head_room, of_model, *busy_told(model, today))
        self._note_room(seen, decisions.values())
        headroom.look(self._head_room, seen.homes, today)
        if self._world.sleeping is not None and not self._holds:
            self._world.sleeping.looked(seen.models, seen.pods, given, decisions, now)
        return decisions

    def _decide_early(self, seen: Seen, now: float) -> dict[Key, Decision]:
        given = self._observe(seen)
        devices, fits = room_of(seen, given)
        decided = early.decide(
            self._memory, list(given.values()), self._ceilings, devices, now, self._settings, fits
        )
        self._note_room(seen, decided)
        keys = {one.name: key for key, one in given.items()}
        return {keys[one.name]: one for one in decided}

    def _note_room(self, seen: Seen, decided: Iterable[Decision]) -> None:
        """How busy those who share servers keep them, of each window once."""
        moving = Unknown("Moving", "Somebody is on the way to its server, or from it.")
        for one in decided:
            home = seen.homes.get(one.name)
            if home is not None:
                signal = one.signal if home.server.server in self._settled else moving
                headroom.note(self._head_room, one.name, seat_of(home, one.given), signal)

    def _observe(self, seen: Seen) -> dict[Key, ModelInput]:
        now = self._world.clock.monotonic()
        self._undecidable = {key: until for key, until in self._undecidable.items() if until > now}
        self._failed = set(self._undecidable)
        given = {
            key: one
            for key, one in observe(seen, self._read, self._failed).items()
            if key not in self._undecidable
        }
        return with_instances(seen, given, self._world.plan_settings.most_instances, self._failed)

    def _blame(self, given: Mapping[Key, ModelInput], devices: Mapping[str, int], now: float) -> None:
        """Who cannot be decided even alone is left out of the next looks. On copies: this look is lost."""
        for key, one in given.items():
            known = {name: kept for name, kept in self._memory.models.items() if name == one.name}
            memory = copy.deepcopy(Memory(known, self._memory.looked))
            try:
                decide(memory, [one], devices, now, self._settings)
            except Exception:
                self._undecidable[key] = now + LEFT_OUT_SECONDS
                log.exception(
                    "%s could not be decided; it keeps what it has for %g s.", key, LEFT_OUT_SECONDS
                )

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


def room_of(seen: Seen, given: Mapping[Key, ModelInput]) -> tuple[dict[str, int], Fits | None]:
    """Devices of each pool for these models, and what of them could be placed; `None`: that is not known."""
    models = {one.name for one in given.values()}
    servers = {one.company.server for one in given.values() if one.company is not None}
    fits = fits_in(seen.placed, models, servers) if seen.placed is not None else None
    return free_devices(seen, given), fits


def observe(seen: Seen, read: ReadSample, failed: set[Key]) -> dict[Key, ModelInput]:
    """What is to be decided for each model, in the order of their names; `failed`: who could not be looked at
    is added to it."""
    waiting = Counter(map(where_it_is, seen.waiting))
    admitting = seen.placed.admitting if seen.placed is not None else {}
    measured_for = {pod: late for pod, report in seen.reports.items() if (late := profiled_for(report))}
    found = {}
    for model in sorted(seen.models, key=lambda one: (namespace(one), name(one))):
        key = key_of_object(model)
        home = seen.homes.get(f"{key.namespace}/{key.name}")
        where = home.server.server if home is not None else str(key)
        with alone(key, failed):
            given = observe_model(
                model,
                seen.servers_of(model),
                seen.specs,
                read(key),
                waiting[where],
                seen.pods_at.get(where, ()),
                home,
                admitting.get(f"{key.namespace}/{key.name}", ()) if home is None else (),
                seen.profiles.get(profiles_of(model)),
                measured_for,
            )
            if given is not None:
                found[key] = stood_aside(given) if seen.is_aside(model) else given
    return found


@contextmanager
def alone(key: Key, failed: set[Key]) -> Iterator[None]:
    """What is wrong with one model is its own trouble: it is left out, so it keeps what it has, and all
    others are looked at."""
    try:
        yield
    except Exception:
        failed.add(key)
        log.exception("%s could not be looked at; it keeps what it has.", key)


def profiled_for(report: AgentReport) -> float:
    return sum(one.profile_seconds for one in report.models)


def with_instances(
    seen: Seen, given: Mapping[Key, ModelInput], highest: int, failed: set[Key]
) -> dict[Key, ModelInput]:
    """With the instances of each model in its pods, and what room these have for more."""
    models, specs = {key_of_object(model): model for model in seen.models}, seen.specs
    found = {}
    for key, one in given.items():
        with alone(key, failed):
            servers = seen.servers_of(models[key])
            configs = {
                name(server): config
                for server in servers
                if (config := seen.configs.get((namespace(server), name(server)))) is not None
            }
            room = instances_of(
                models[key], servers, configs, specs, seen.pods_at.get(str(key), ()), seen.reports, highest
            )
            found[key] = replace(one, instances=room)
    return found


def where_it_is(pod: Obj) -> str:
    """The model that a server pod is of, or the server that several share."""
    if names.LABEL_MODEL in labels(pod):
        return str(key_of_label(pod))
    return server_of(namespace(pod), labels(pod).get(names.LABEL_SERVER, ""))


def free_devices(seen: Seen, given: Mapping[Key, ModelInput]) -> dict[str, int]:
    """Devices of each pool for the models that are decided here: what others hold is theirs.

    As many at least as these models are to have there already. A pool that shrank, is gone or does not
    deliver makes no model want less: who loses what, and where it goes, is the planner's to say, and `fits`
    lets nothing grow there.
    """
    devices = {pool: spec.max_devices for pool, spec in seen.specs.items()}
    own = {uid(model) for model in seen.models if key_of_object(model) in given}
    scaled = {one.company.server for one in given.values() if one.company is not None}
    for deployment in seen.deployments:
        pool = labels(deployment).get(names.LABEL_POOL, "")
        owners = {one.get("uid") for one in deployment["metadata"].get("ownerReferences") or ()}
        ours = bool(owners & own)
        if member_uids(deployment):
            ours = server_of(namespace(deployment), name(deployment)) in scaled
        if pool in devices and not ours:
            devices[pool] -= devices_of_deployment(deployment, seen.pools)
    held: Counter[str] = Counter()
    advised: Counter[str] = Counter()
    counted: set[str] = set()
    for one in given.values():
        there = one.company
        if there is not None and there.server in counted:
            continue
        counted |= {there.server} if there is not None else set()
        # One that shares a server, and is not decided about with it, holds nothing that is not the server's.
        where = advised if there is None and one.name in seen.homes else held
        for offer in one.offers:
            replicas = there.replicas if there is not None else one.current.get(offer.pool, 0)
            where[offer.pool] += replicas * offer.devices
    pools = devices.keys() | held.keys() | advised.keys()
    return {pool: max(devices.get(pool, 0), held[pool]) + advised[pool] for pool in pools}
