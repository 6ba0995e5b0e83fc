"""The loop of placement: one plan over all models, made again when something that matters changed.

The passes over the models say what each of them asks, and take their share of the last plan. The plan itself
is made in a thread, so that the loop goes on meanwhile; whose share changed is woken then. What runs is known
from Deployments after a start, and from the last plan from then on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from nlp_operator.api import names
from nlp_operator.api.objects import (
    Obj,
    deleting,
    dig,
    generation,
    labels,
    listed,
    name,
    namespace,
    number,
    text,
    uid,
)
from nlp_operator.api.spec import parse_model
from nlp_operator.cluster import kinds
from nlp_operator.cluster.writer import controller_uid, member_uids, owner_of, shared_owner
from nlp_operator.controllers.keys import Key, key_of_object, model_key, pool_key, server_key
from nlp_operator.controllers.ledger import Ledger
from nlp_operator.engine.clock import Clock
from nlp_operator.engine.queue import KeyedQueue, Priority
from nlp_operator.engine.store import ObjectKey, Store
from nlp_operator.errors import SpecInvalid
from nlp_operator.planning.back_offs import BackOff
from nlp_operator.planning.measured import Known, Setup, Took, believed, noted
from nlp_operator.planning.nodes import Found, found_on
from nlp_operator.planning.packing.planner import NOTHING, plan
from nlp_operator.planning.packing.problem import Plan, Server
from nlp_operator.planning.packing.reading import Ask, ask_of
from nlp_operator.planning.packing.relief import Relief, next_relief
from nlp_operator.planning.packing.saving import Moving, Saving, next_saving, servers_of, taken_back
from nlp_operator.planning.pods import is_of_server
from nlp_operator.planning.pools import read_back_off
from nlp_operator.planning.provision import (
    Pair,
    back_off,
    forgotten_at,
    next_moment,
    read_refusals,
    refusals,
    waiting_in,
)
from nlp_operator.planning.readiness import says_ready
from nlp_operator.planning.rest import (
    free_devices,
    not_left_yet,
    not_moved_out_yet,
    not_to_be_moved,
    restless,
)
from nlp_operator.planning.scaling.observed import asked_last, readable_pools
from nlp_operator.planning.scaling.wanted import is_scaled
from nlp_operator.planning.shared import owners_in
from nlp_operator.planning.together import (
    Decision,
    Question,
    Running,
    Share,
    Where,
    carried_on,
    decide,
    now_running,
    where_of,
    without_waiting,
)
from nlp_operator.resources.server import ServedModel, models_in

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 5.0
"""How long a model waits for the plan that its ask needs before it is looked after without a place. A plan
takes milliseconds; this is for one that fails."""

LONGEST_PAUSE_SECONDS = 0.2
LOOK_SECONDS = 10.0
"""How often pods that wait for devices are looked at, at least."""

MOST_PROFILES = 4096
"""Artifacts whose speed is remembered."""
GIVING_SECONDS = 120
"""For how long what gave its place to others may serve on until it serves elsewhere: twice what a start is
believed to take. Then it goes, so that nobody keeps a higher priority waiting."""
RELIEF_SECONDS = 60.0
"""How often it is looked for a place for one of a server that is too busy, at most."""
STEP_SECONDS = 3600.0
"""For one of several models that move in a step to be proven, besides the time it stays loaded after that."""
FAILED_SECONDS = 86_400.0
"""For how long a model is not moved in a step again after a move that was taken back; each time twice as
long."""


@dataclass(frozen=True)
class Asked:
    uid: str
    ask: Ask
    since: float
    """Monotonic."""


@dataclass(frozen=True)
class Seen:
    """The caches at one moment, for the thread: their objects are replaced, never changed."""

    asks: Mapping[Key, Asked]
    deployments: tuple[Obj, ...]
    pools: tuple[Obj, ...]
    taken: Mapping[tuple[str, str], int]
    pods: tuple[Obj, ...]
    """Of servers."""
    back_offs: Mapping[str, BackOff]
    now: datetime
    homes: Mapping[Key, str] = field(default_factory=dict)
    """The shared server of each model, as it was found at the start."""
    moving: Moving = field(default_factory=dict)
    """Models that move in a step and have not left their old places."""
    lasting: Mapping[str, int] = field(default_factory=dict)
    """Of models whose servers are too busy: see `Question`."""
    refusals: Mapping[Pair, BackOff] = field(default_factory=dict)
    giving: Mapping[Where, datetime] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """What came of a look."""

    decision: Decision | None
    """The last one, where nothing changed."""
    known: frozenset[Where]
    back_offs: Mapping[str, BackOff]
    refusals: Mapping[Pair, BackOff]
    giving: Mapping[Where, datetime]
    next_moment: datetime | None
    """When time alone changes something."""


@dataclass
class Step:
    """A move that only the operator wants, and that is on its way."""

    before: Plan
    plan: Plan
    moving: frozenset[str]
    """The models that move, by key, without those that were taken back."""
    left: frozenset[str]
    """Those that have not left their old places."""
    since: float
    """Monotonic: when it began, or the last of them left."""
    for_money: bool
    """Else for the load of its server."""

    def of(self, left: frozenset[str]) -> Moving:
        return {key: servers_of(self.before, key) for key in left}


@dataclass(frozen=True)
class Failed:
    until: float
    """Monotonic."""
    seconds: float


@dataclass
class Placing:
    clock: Clock
    stores: Mapping[str, Store]
    ledger: Ledger
    queue: KeyedQueue[Key]
    decision: Decision | None = None
    """The last one."""
    back_offs: Mapping[str, BackOff] = field(default_factory=dict)
    """Of pools that did not deliver; one that has passed is remembered until they do."""
    refusals: Mapping[Pair, BackOff] = field(default_factory=dict)
    """The same of one model and a pool. A new process knows those that last, and finds out anew: a pod that
    waits is late at once."""
    measured: dict[str, Known] = field(default_factory=dict)
    """By uid of the model: what its replicas were seen to take, by their agents."""
    profiles: dict[str, dict[str, str]] = field(default_factory=dict)
    """By whose they are (`profiles.owner_of`) and pool: what agents measured of its speed, as text."""
    on_plan: Callable[[float], None] = lambda seconds: None
    """Told how long each plan took that was made anew."""
    repack_seconds: float = 0.0
    """From the start, and from each look, to looking what moving would save; 0: nothing is moved for it."""
    step_seconds: float = STEP_SECONDS
    """How long none of the models of a step has to have left before they stay where they are."""
    on_saving: Callable[[Saving], None] = lambda saving: None
    """Told of each step that is begun."""
    on_relief: Callable[[Relief], None] = lambda relief: None
    on_taken_back: Callable[[frozenset[str], bool], None] = lambda moved, for_money: None
    """Told of the models that do not run where a step would have had them, by key."""
    _saved_by: dict[str, float] = field(default_factory=dict)
    """Models that were moved to save money, by key, and when (monotonic): not again within `repack_seconds`,
    so that scaling and thrift, should they disagree, do not send a model to and fro."""
    _repack_after: float | None = None
    """Monotonic; `None`: this process has not looked yet."""
    _relief_after: float = 0.0
    """Monotonic."""
    _step: Step | None = None
    _failed: dict[str, Failed] = field(default_factory=dict)
    """Models by key: of steps that were taken back."""
    _outdated: float | None = None
    """Monotonic: since when pools are known to be others than those of the last plan."""
    _next: datetime | None = None
    _giving: Mapping[Where, datetime] = field(default_factory=dict)
    """When each server gave its place to others that may serve a while longer. A new process grants that
    while once more: nothing on the cluster tells surely when it began."""
    _lasting: Mapping[str, int] = field(default_factory=dict)
    """Of models whose servers are too busy, by key."""
    _asks: dict[Key, Asked] = field(default_factory=dict)
    _known: frozenset[Where] = frozenset()
    """The servers there were when the last plan was made."""
    _homes: dict[Key, str] = field(default_factory=dict)
    _pools: tuple[Obj, ...] = ()
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def pools(self) -> tuple[Obj, ...]:
        """Those of the last plan: whoever takes a share of it sees no others."""
        return self._live_pools() if self.decision is None else self.decision.question.pools

    def share(self, key: Key) -> Share | None:
        return None if self.decision is None else self.decision.shares.get(f"{key.namespace}/{key.name}")

    def refused(self, of_uid: str) -> dict[str, BackOff]:
        """By pool: those that gave a model no node in time, also such as are asked again."""
        return {pool: one for (of_model, pool), one in self.refusals.items() if of_model == of_uid}

    def ask(self, key: Key, of_uid: str, ask: Ask | None) -> float:
        """What a model asks from now on; `None`: nothing. Gives the seconds it should wait for a plan to be
        made of it; 0: there is one, or none came."""
        before = self._asks.get(key)
        if ask is None:
            if self._asks.pop(key, None) is not None:
                self.look_soon()
            return 0.0
        if before is None or (before.uid, before.ask) != (of_uid, ask):
            before = self._asks[key] = Asked(of_uid, ask, self.clock.monotonic())
            self.look_soon()
        share, since = self.share(key), before.since
        if share is not None and share.ask == ask:
            if self._live_pools() == self.pools:
                return 0.0
            # A limit may have been lowered: nobody starts anything by the old one.
            since = self._outdated = self._outdated or self.clock.monotonic()
        return max(0.0, since + PATIENCE_SECONDS - self.clock.monotonic())

    def note_measured(self, model: Obj, seen: Iterable[tuple[Setup, Took]]) -> None:
        """Of the artifact in its status."""
        digest = text(model, "status", "artifact", "digest")
        if digest:
            self.measured[uid(model)] = noted(self.measured_of(model), digest, seen)

    def measured_of(self, model: Obj) -> Known:
        return self.measured.get(uid(model), Known())

    def note_profile(self, of_whom: str, pool: str, profile: str) -> None:
        """The first holds. Of too many the oldest is forgotten: then a guess takes its place."""
        self.profiles.setdefault(of_whom, {}).setdefault(pool, profile)
        while len(self.profiles) > MOST_PROFILES:
            del self.profiles[next(iter(self.profiles))]

    def note_lasting(self, found: Mapping[str, int]) -> None:
        """Of the models whose servers have been too busy, and of no others: see `Question`."""
        if found != self._lasting:
            self._lasting = dict(found)
            self.look_soon()

    def look_soon(self) -> None:
        self._changed.set()

    @property
    def is_to_look(self) -> bool:
        return self._changed.is_set()

    def seed(self) -> None:
        """After a start: each model that runs asks for what it has, until its own pass says otherwise. So a
        process without memory plans over everything that runs, or over nothing."""
        self.back_offs = {
            name(pool): known
            for pool in self.stores[kinds.POOL.name]
            if (known := read_back_off(pool)) is not None
        }
        self.refusals = {
            (uid(model), pool): known
            for model in self.stores[kinds.MODEL.name]
            for pool, known in read_refusals(model).items()
        }
        for model in self.stores[kinds.MODEL.name]:
            ask = None if deleting(model) else self._as_it_runs(model)
            if ask is not None:
                self._asks[key_of_object(model)] = Asked(uid(model), ask, self.clock.monotonic())

    def _shared(self) -> list[str]:
        """Who holds devices for shared servers of which anybody plans."""
        asking = {one.uid for one in self._asks.values()}
        planned = () if self.decision is None else (*self.decision.shared, *self.decision.vacated)
        return [
            *(shared_owner(*where) for where in planned),
            *(
                owner_of(one)
                for one in self.stores[kinds.DEPLOYMENT.name]
                if not asking.isdisjoint(member_uids(one))
            ),
        ]

    def _home(self, model: Obj) -> Obj | None:
        """The shared server that a model runs in, by its Deployment: of several, between which it moves, the
        one that the status names first."""
        told = [text(one, "name") for one in listed(model, "status", "servers")]
        there = [
            one for one in self.stores[kinds.DEPLOYMENT.name].by("member", uid(model)) if not deleting(one)
        ]

        def rank(one: Obj) -> tuple[int, str]:
            return (told.index(name(one)) if name(one) in told else len(told), name(one))

        return min(there, key=rank, default=None)

    def _as_it_runs(self, model: Obj) -> Ask | None:
        try:
            spec = parse_model(model)
        except SpecInvalid:
            return None
        artifact = dig(model, "status", "artifact", default={})
        deployments = self.stores[kinds.DEPLOYMENT.name].by("owner", uid(model))
        replicas = sum(number(one, "spec", "replicas") for one in deployments if not deleting(one))
        home = self._home(model)
        if home is not None:
            self._homes[key_of_object(model)] = name(home)
            replicas = replicas or self._of_home(model, home)
        if not text(artifact, "digest") or not replicas:
            return None
        measured = believed(self.measured_of(model), text(artifact, "digest"), spec)
        busy = number(model, "status", "scaling", "busyMillis")
        return ask_of(
            namespace(model), name(model), spec, replicas, number(artifact, "bytes"), measured, busy
        )

    def _of_home(self, model: Obj, home: Obj) -> int:
        """Replicas of its server that a model asked for: a server has as many as the member that wants most.

        Where no member's status tells of all that there are, the process before ended between the two writes:
        whoever may have wanted them keeps them, until that is decided anew.
        """
        there, models = number(home, "spec", "replicas"), self.stores[kinds.MODEL.name]
        members = [models.get(ObjectKey(namespace(home), one)) for one in owners_in(home)]
        known = max((asked_last(one) for one in members if one is not None), default=there)
        return there if known < there and is_scaled(model) else min(asked_last(model), there)

    async def run(self) -> None:
        while True:
            await self._until_something_changes()
            begun = self.clock.monotonic()
            try:
                await self.look()
                await self.relieve()
                await self.save()
                # A thousand models that come at once ask one after the other: half of the time is the loop's.
                await asyncio.sleep(min(self.clock.monotonic() - begun, LONGEST_PAUSE_SECONDS))
            except Exception:
                # What runs keeps running by the last plan; who has a place keeps it.
                log.exception("No plan could be made; it is tried again in %g s.", PATIENCE_SECONDS)
                await asyncio.sleep(PATIENCE_SECONDS)
                self.look_soon()

    async def _until_something_changes(self) -> None:
        """Pods that begin to wait for devices are looked for every now and then, and time passes."""
        seconds = LOOK_SECONDS
        if self._next is not None:
            seconds = min(seconds, max((self._next - self.clock.now()).total_seconds(), 0.0))
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def look(self) -> None:
        """Make a plan if anything changed that it follows from, and wake whom it concerns."""
        self._changed.clear()
        seen = Seen(
            asks=dict(self._asks),
            deployments=tuple(self.stores[kinds.DEPLOYMENT.name]),
            pools=self._live_pools(),
            taken=self.ledger.held_without([*(one.uid for one in self._asks.values()), *self._shared()]),
            pods=tuple(filter(is_of_server, self.stores[kinds.POD.name])),
            back_offs=self.back_offs,
            now=self.clock.now(),
            homes=self._homes,
            moving=self._moving(),
            lasting=self._lasting,
            refusals=self.refusals,
            giving=self._giving,
        )
        begun = self.clock.monotonic()
        made = await asyncio.to_thread(_look, seen, self.decision, self._known)
        self._known, self._next, self._giving = made.known, made.next_moment, made.giving
        refused, self.refusals = self.refusals, made.refusals
        told_anew = {of_uid for of_uid, _ in dict(refused.items() ^ self.refusals.items())}
        for key, one in self._asks.items():
            if one.uid in told_anew:
                self.queue.add(key, Priority.SIGNAL)
        before, self.back_offs = self.back_offs, made.back_offs
        for pool in before.keys() | self.back_offs.keys():
            if before.get(pool) != self.back_offs.get(pool):
                self.queue.add(pool_key(pool), Priority.SIGNAL)
        if made.decision is not None and made.decision is not self.decision:
            self.on_plan(self.clock.monotonic() - begun)
            last, self.decision, self._outdated = self.decision, made.decision, None
            self._wake(last, made.decision)

    async def save(self) -> None:
        """Begin with the next step that saves money, when it is time and the one before is carried out, by
        the same moves as any other plan: from the unloading of the last model on."""
        now, decision = self.clock.monotonic(), self.decision
        self._follow(now)
        if self._repack_after is None:
            self._repack_after = now + self.repack_seconds
        if not self.repack_seconds or decision is None or self._step is not None:
            return
        if now < self._repack_after or self.is_to_look:
            return
        self._repack_after = now + self.repack_seconds
        stay = self._stay(decision)
        self._saved_by = {key: at for key, at in self._saved_by.items() if now - at < self.repack_seconds}
        lately = self._saved_by.keys() | self._failed_lately(now)
        free = free_devices(self.stores[kinds.POOL.name], self.back_offs)
        found = await asyncio.to_thread(next_saving, decision.problem, decision.plan, stay, lately, free)
        if self.decision is not decision or self.is_to_look:
            self._repack_after = now  # it was found for what is no more
        elif found is not None:
            self._begin(decision, found.plan, frozenset(found.moved), now, for_money=True)
            self._saved_by |= dict.fromkeys(found.moved, now)
            self.on_saving(found)
        elif stay or lately:
            kept = sorted(stay | lately)
            told = {"not_moved": len(kept), "among_them": kept[:10], "free_devices": free}
            log.info("Nothing is moved to save money; some models are not to be moved now.", extra=told)

    async def relieve(self) -> None:
        """Begin to move one model out of a server that has been too busy, if there is one and no step is on
        its way."""
        now, decision = self.clock.monotonic(), self.decision
        self._follow(now)
        if not self._lasting or decision is None or self._step is not None:
            return
        if now < self._relief_after or self.is_to_look:
            return
        self._relief_after = now + RELIEF_SECONDS
        stay, lately = self._stay(decision), self._failed_lately(now)
        free = free_devices(self.stores[kinds.POOL.name], self.back_offs)
        found = await asyncio.to_thread(next_relief, decision.problem, decision.plan, stay, lately, free)
        if self.decision is not decision or self.is_to_look:
            self._relief_after = now  # it was found for what is no more
        elif found is not None:
            self._begin(decision, found.plan, frozenset({found.moved}), now, for_money=False)
            self.on_relief(found)

    def _stay(self, decision: Decision) -> frozenset[str]:
        running = _running(self._asking(), tuple(self.stores[kinds.DEPLOYMENT.name]), self._homes)
        return not_to_be_moved(self.stores[kinds.MODEL.name]) | restless(
            decision, running.objects, self._told(running)
        )

    def _failed_lately(self, now: float) -> set[str]:
        return {key for key, one in self._failed.items() if now < one.until}

    def _begin(
        self, decision: Decision, made: Plan, moved: frozenset[str], now: float, *, for_money: bool
    ) -> None:
        self._step = Step(decision.plan, made, moved, moved, now, for_money)
        self._decide_for(decision, made)

    def _follow(self, now: float) -> None:
        """The step that is on its way: it ends when all have left; whom it harms stays where he was."""
        step, decision = self._step, self.decision
        if step is None or decision is None:
            return
        left = self._left(step, decision)
        if left != step.left:
            step.left, step.since = left, now
        models = [self.stores[kinds.MODEL.name].get(ObjectKey(*one.split("/", 1))) for one in sorted(left)]
        harmed = any(one is not None and not says_ready(one) for one in models)
        if left and (harmed or now >= step.since + self.step_seconds) and not self.is_to_look:
            self._decide_for(decision, plan(decision.problem, taken_back(decision.plan, step.of(left))))
        back = self._taken_back(step)
        step.moving -= back
        if not left - back:
            self._step = None
        for key in back:
            seconds = 2 * self._failed[key].seconds if key in self._failed else FAILED_SECONDS
            self._failed[key] = Failed(now + seconds, seconds)
        if back:
            self.on_taken_back(back, step.for_money)

    def _taken_back(self, step: Step) -> frozenset[str]:
        """Who has a place, and not where the step would have it."""
        made = NOTHING if self.decision is None else self.decision.plan
        now = {key: servers_of(made, key).keys() for key in step.moving}
        return frozenset(
            key for key, there in now.items() if there and not servers_of(step.plan, key).keys() <= there
        )

    def _moving(self) -> Moving:
        if self._step is None or self.decision is None:
            return {}
        return self._step.of(self._left(self._step, self.decision))

    def _left(self, step: Step, decision: Decision) -> frozenset[str]:
        running = _running(self._asking(), tuple(self.stores[kinds.DEPLOYMENT.name]), self._homes)
        told = self._told(running)
        there = tuple(one for one in decision.plan.leaving if where_of(one) in running.objects)
        left = not_left_yet(Plan(leaving=there), step.moving, told)
        return left | not_moved_out_yet(step.before, decision.plan, step.moving, told)

    def _decide_for(self, decision: Decision, made: Plan) -> None:
        self.decision = carried_on(decision, made)
        self._wake(decision, self.decision)

    def _asking(self) -> dict[str, str]:
        """Keys of the models by uid."""
        return {one.uid: one.ask.key for one in self._asks.values()}

    def _told(self, running: Running) -> dict[Where, Mapping[str, ServedModel]]:
        store = self.stores[kinds.CONFIG_MAP.name]
        return {where: models_in(store.get(ObjectKey(*where))) for where in running.shared}

    def _wake(self, before: Decision | None, made: Decision) -> None:
        if before is None or before.question.pools != made.question.pools:
            for model in self.stores[kinds.MODEL.name]:
                self.queue.add(key_of_object(model), Priority.SIGNAL)
        old, new = ({} if one is None else one.shared for one in (before, made))
        vacated = (frozenset() if before is None else before.vacated) ^ made.vacated
        for where in old.keys() | new.keys() | vacated:
            if where in vacated or old.get(where) != new.get(where):
                self.queue.add(server_key(*where), Priority.CHILD)
        self._wake_models(before, made)

    def _wake_models(self, before: Decision | None, made: Decision) -> None:
        for key in self._asks:
            of_name = f"{key.namespace}/{key.name}"
            old, new = None if before is None else before.shares.get(of_name), made.shares.get(of_name)
            if new is not None and old != new:
                waits = old is None or old.ask != new.ask
                self.queue.add(key, Priority.EDIT if waits else Priority.CHILD)

    def _live_pools(self) -> tuple[Obj, ...]:
        """As they were when their specs last changed, or what nodes say in place of them: nobody plans by the
        counts in their status, and a snapshot is compared with the last one."""
        before = {uid(pool): pool for pool in self._pools}
        self._pools = tuple(
            known
            if (known := before.get(uid(pool))) is not None and facts_of(known) == facts_of(pool)
            else pool
            for pool in self.stores[kinds.POOL.name]
        )
        return self._pools


def facts_of(pool: Obj) -> tuple[int, Found]:
    """What placement follows from."""
    return generation(pool), found_on(pool)


def _look(seen: Seen, last: Decision | None, known: frozenset[Where]) -> Made:
    asks = tuple(sorted((one.ask for one in seen.asks.values()), key=lambda one: one.key))
    keys = {one.uid: one.ask.key for one in seen.asks.values()}
    running = _running(keys, seen.deployments, seen.homes)
    now = now_running(NOTHING if last is None else last.plan, asks, running, known, seen.pools)
    found = _provisioning(seen, keys, now)
    delivered, waits = without_waiting(now, found.missed)
    asking = {one.key for one in asks if one.shared}
    lasting = {key: millis for key, millis in seen.lasting.items() if key in asking}
    giving = () if last is None else tuple(one for one in last.giving if _may_serve_on(one, seen, running))
    question = Question(
        asks, seen.pools, seen.taken, delivered, found.backed_off, waits, lasting, found.undelivered, giving
    )
    if last is not None and question in (last.question, last.answered()):
        decision = last
    else:
        decision = decide(question, last, seen.moving)
    since = {where_of(one): seen.giving.get(where_of(one), seen.now) for one in decision.giving}
    ends = [began + timedelta(seconds=GIVING_SECONDS) for began in since.values()]
    ends += [] if found.next_moment is None else [found.next_moment]
    return Made(decision, running.there, found.back_offs, found.refusals, since, min(ends, default=None))


def _may_serve_on(server: Server, seen: Seen, running: Running) -> bool:
    """What gave its place to others: while it is there, and not for too long."""
    began = seen.giving.get(where_of(server), seen.now)
    return where_of(server) in running.there and seen.now < began + timedelta(seconds=GIVING_SECONDS)


@dataclass(frozen=True)
class Provisioning:
    """Which pools deliver, and to whom."""

    back_offs: Mapping[str, BackOff]
    refusals: Mapping[Pair, BackOff]
    backed_off: frozenset[str]
    """Pools, now."""
    undelivered: Mapping[str, Mapping[str, BackOff]]
    """The same for one model, by its key."""
    missed: Mapping[Where, int]
    """Replicas that wait there, and are to be planned elsewhere if there is a place."""
    next_moment: datetime | None


def _provisioning(seen: Seen, keys: Mapping[str, str], now: Plan) -> Provisioning:
    """`keys`: of the models that ask, by uid; `now`: what runs, or soon does."""
    specs = readable_pools(seen.pools)
    pods, deployments = _by_pool(seen.pods), _by_pool(seen.deployments)
    waiting = {pool: waiting_in(pool, pods.get(pool, ()), deployments.get(pool, ())) for pool in specs}
    found = {
        pool: back_off(seen.back_offs.get(pool), spec, waiting[pool], seen.now)
        for pool, spec in specs.items()
    }
    backed_off = frozenset(pool for pool, one in found.items() if one is not None and one.lasts(seen.now))
    uids = {key: of_uid for of_uid, key in keys.items()}
    members = {where_of(one): tuple(uids[key] for key in one.models) for one in (*now.servers, *now.leaving)}
    refused = refusals(seen.refusals, specs, waiting, members, seen.now)
    lasting = {pair: one for pair, one in refused.items() if one.lasts(seen.now)}
    undelivered: dict[str, dict[str, BackOff]] = {}
    for (of_uid, pool), one in lasting.items():
        undelivered.setdefault(keys[of_uid], {})[pool] = one
    missed = {
        where: count
        for pool, there in waiting.items()
        for where, count in there.replicas.items()
        if pool in backed_off or any((one, pool) in lasting for one in members.get(where, ()))
    }
    moments = [next_moment(found[pool], spec, waiting[pool], seen.now) for pool, spec in specs.items()]
    forgotten = (forgotten_at(one) for pair, one in refused.items() if pair not in lasting)
    ends = [one for one in (*moments, *(each.until for each in lasting.values()), *forgotten) if one]
    return Provisioning(
        {pool: one for pool, one in found.items() if one is not None},
        refused,
        backed_off,
        undelivered,
        missed,
        min(ends, default=None),
    )


def _at_home(deployment: Obj, of_uid: Mapping[str, str], homes: Mapping[Key, str]) -> tuple[str, ...]:
    """The keys of the models that have their place in a shared server, as they were found at the start."""
    asking = sorted(of_uid[one] for one in member_uids(deployment) if one in of_uid)
    return tuple(key for key in asking if homes.get(model_key(*key.split("/", 1))) == name(deployment))


def _by_pool(objects: Iterable[Obj]) -> dict[str, list[Obj]]:
    found: dict[str, list[Obj]] = {}
    for one in objects:
        found.setdefault(labels(one).get(names.LABEL_POOL, ""), []).append(one)
    return found


def _running(of_uid: Mapping[str, str], deployments: Iterable[Obj], homes: Mapping[Key, str]) -> Running:
    """`of_uid`: keys of the models that ask."""
    there = [one for one in deployments if not deleting(one)]
    return Running(
        {
            (of_uid[owner], labels(one).get(names.LABEL_POOL, "")): one
            for one in there
            if (owner := controller_uid(one)) in of_uid
        },
        {
            (namespace(one), name(one)): (one, _at_home(one, of_uid, homes))
            for one in there
            if member_uids(one)
        },
    )
