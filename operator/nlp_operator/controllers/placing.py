"""The loop of placement: one plan over all models, made again when something that matters changed.

The passes over the models say what each of them asks, and take their share of the last plan. The plan itself
is made in a thread, so that the loop goes on meanwhile; whose share changed is woken then. What runs is known
from Deployments after a start, and from the last plan from then on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from nlp_operator.api import names
from nlp_operator.api.objects import (
    Obj,
    deleting,
    dig,
    generation,
    labels,
    name,
    namespace,
    number,
    text,
    uid,
)
from nlp_operator.api.spec import parse_model
from nlp_operator.cluster import kinds
from nlp_operator.cluster.writer import controller_uid
from nlp_operator.controllers.keys import Key, key_of_object, pool_key
from nlp_operator.controllers.ledger import Ledger
from nlp_operator.engine.clock import Clock
from nlp_operator.engine.queue import KeyedQueue, Priority
from nlp_operator.engine.store import Store
from nlp_operator.errors import SpecInvalid
from nlp_operator.planning.packing.planner import NOTHING
from nlp_operator.planning.packing.reading import Ask, ask_of, measured_alone
from nlp_operator.planning.pods import is_of_server
from nlp_operator.planning.pools import read_back_off
from nlp_operator.planning.provision import BackOff, back_off, next_moment, waiting_in
from nlp_operator.planning.scaling.observed import readable_pools
from nlp_operator.planning.together import (
    Decision,
    Question,
    Running,
    Share,
    Where,
    decide,
    now_running,
    without_waiting,
)

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 5.0
"""How long a model waits for the plan that its ask needs before it is looked after without a place. A plan
takes milliseconds; this is for one that fails."""

LONGEST_PAUSE_SECONDS = 0.2
LOOK_SECONDS = 10.0
"""How often pods that wait for devices are looked at, at least."""


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


@dataclass(frozen=True)
class Made:
    """What came of a look."""

    decision: Decision | None
    """The last one, where nothing changed."""
    known: frozenset[Where]
    back_offs: Mapping[str, BackOff]
    next_moment: datetime | None
    """When time alone changes something."""


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
    measured: dict[str, dict[str, int]] = field(default_factory=dict)
    """By artifact and pool: the most mebibytes that a replica was seen to take, by its agent."""
    _outdated: float | None = None
    """Monotonic: since when pools are known to be others than those of the last plan."""
    _next: datetime | None = None
    _asks: dict[Key, Asked] = field(default_factory=dict)
    _known: frozenset[Where] = frozenset()
    """The servers there were when the last plan was made."""
    _pools: tuple[Obj, ...] = ()
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def pools(self) -> tuple[Obj, ...]:
        """Those of the last plan: whoever takes a share of it sees no others."""
        return self._live_pools() if self.decision is None else self.decision.question.pools

    def share(self, key: Key) -> Share | None:
        return None if self.decision is None else self.decision.shares.get(f"{key.namespace}/{key.name}")

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

    def note_measured(self, artifact: str, pool: str, mebibytes: int) -> None:
        by_pool = self.measured.setdefault(artifact, {})
        by_pool[pool] = max(by_pool.get(pool, 0), mebibytes)

    def look_soon(self) -> None:
        self._changed.set()

    def seed(self) -> None:
        """After a start: each model that runs asks for what it has, until its own pass says otherwise. So a
        process without memory plans over everything that runs, or over nothing."""
        self.back_offs = {
            name(pool): known
            for pool in self.stores[kinds.POOL.name]
            if (known := read_back_off(pool)) is not None
        }
        for model in self.stores[kinds.MODEL.name]:
            ask = None if deleting(model) else self._as_it_runs(model)
            if ask is not None:
                self._asks[key_of_object(model)] = Asked(uid(model), ask, self.clock.monotonic())

    def _as_it_runs(self, model: Obj) -> Ask | None:
        try:
            spec = parse_model(model)
        except SpecInvalid:
            return None
        artifact = dig(model, "status", "artifact", default={})
        deployments = self.stores[kinds.DEPLOYMENT.name].by("owner", uid(model))
        replicas = sum(number(one, "spec", "replicas") for one in deployments if not deleting(one))
        if not text(artifact, "digest") or not replicas or spec.serving.isolation != "Dedicated":
            return None
        known = self.measured.get(text(artifact, "digest"), {})
        measured = {pool: measured_alone(mebibytes) for pool, mebibytes in known.items()}
        return ask_of(namespace(model), name(model), spec, replicas, number(artifact, "bytes"), measured)

    async def run(self) -> None:
        while True:
            await self._until_something_changes()
            begun = self.clock.monotonic()
            try:
                await self.look()
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
            taken=self.ledger.held_without(one.uid for one in self._asks.values()),
            pods=tuple(filter(is_of_server, self.stores[kinds.POD.name])),
            back_offs=self.back_offs,
            now=self.clock.now(),
        )
        made = await asyncio.to_thread(_look, seen, self.decision, self._known)
        self._known, self._next = made.known, made.next_moment
        before, self.back_offs = self.back_offs, made.back_offs
        for pool in before.keys() | self.back_offs.keys():
            if before.get(pool) != self.back_offs.get(pool):
                self.queue.add(pool_key(pool), Priority.SIGNAL)
        if made.decision is not None and made.decision is not self.decision:
            last, self.decision, self._outdated = self.decision, made.decision, None
            self._wake(last, made.decision)

    def _wake(self, before: Decision | None, made: Decision) -> None:
        if before is None or before.question.pools != made.question.pools:
            for model in self.stores[kinds.MODEL.name]:
                self.queue.add(key_of_object(model), Priority.SIGNAL)
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


def facts_of(pool: Obj) -> tuple[int, int]:
    """What placement follows from."""
    return generation(pool), number(pool, "status", "memoryMebibytes")


def _look(seen: Seen, last: Decision | None, known: frozenset[Where]) -> Made:
    specs = readable_pools(seen.pools)
    pods, deployments = _by_pool(seen.pods), _by_pool(seen.deployments)
    waiting = {pool: waiting_in(pool, pods.get(pool, ()), deployments.get(pool, ())) for pool in specs}
    found = {
        pool: back_off(seen.back_offs.get(pool), spec, waiting[pool], seen.now)
        for pool, spec in specs.items()
    }
    back_offs = {pool: one for pool, one in found.items() if one is not None}
    backed_off = frozenset(pool for pool, one in back_offs.items() if one.until > seen.now)
    moments = [next_moment(found[pool], spec, waiting[pool], seen.now) for pool, spec in specs.items()]
    missed = {(model, pool): count for pool in backed_off for model, count in waiting[pool].replicas.items()}
    decision, there = _decide(seen, last, known, backed_off, missed)
    return Made(decision, there, back_offs, min((one for one in moments if one is not None), default=None))


def _by_pool(objects: Iterable[Obj]) -> dict[str, list[Obj]]:
    found: dict[str, list[Obj]] = {}
    for one in objects:
        found.setdefault(labels(one).get(names.LABEL_POOL, ""), []).append(one)
    return found


def _decide(
    seen: Seen,
    last: Decision | None,
    known: frozenset[Where],
    backed_off: frozenset[str],
    missed: Mapping[Where, int],
) -> tuple[Decision | None, frozenset[Where]]:
    """The decision over what is seen, the last one where nothing changed; and the servers there are."""
    asks = tuple(sorted((one.ask for one in seen.asks.values()), key=lambda one: one.key))
    of_uid = {one.uid: one.ask.key for one in seen.asks.values()}
    running = Running(
        {
            (of_uid[owner], labels(one).get(names.LABEL_POOL, "")): one
            for one in seen.deployments
            if (owner := controller_uid(one)) in of_uid and not deleting(one)
        }
    )
    before = NOTHING if last is None else last.plan
    now = now_running(before, asks, running, known, seen.pools)
    there = frozenset(running.deployments)
    delivered, waiting = without_waiting(now, missed)
    question = Question(asks, seen.pools, seen.taken, delivered, backed_off, waiting)
    if last is not None and question in (last.question, last.answered()):
        return last, there
    return decide(question, last), there
