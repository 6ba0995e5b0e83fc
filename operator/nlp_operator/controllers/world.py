"""The world of a reconcile: what is seen (caches only), and the few ways to act on it."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nlp_operator import errors
from nlp_operator.agents.builds import Builds
from nlp_operator.agents.poller import Agents
from nlp_operator.api import names
from nlp_operator.api.objects import Obj, dig, labels, name, namespace, text, uid
from nlp_operator.cluster import kinds
from nlp_operator.cluster.client import Cluster
from nlp_operator.cluster.events import reference_to
from nlp_operator.cluster.writer import Writer, controller_uid
from nlp_operator.controllers.keys import Key, key_of_label, model_key
from nlp_operator.controllers.ledger import Ledger
from nlp_operator.controllers.placing import Placing
from nlp_operator.engine.clock import Clock
from nlp_operator.engine.queue import KeyedQueue, Priority
from nlp_operator.engine.recorder import Recorder
from nlp_operator.engine.store import ObjectKey, Store
from nlp_operator.planning.dependencies import sources_of
from nlp_operator.planning.devices import devices_of_deployment
from nlp_operator.planning.models import TAKEN_SECONDS
from nlp_operator.planning.plan import EventWanted, Placement, PlanSettings
from nlp_operator.planning.pods import is_of_server
from nlp_operator.planning.readings.advice import LEFT_OUT, UNTOLD, Advice
from nlp_operator.planning.scaling.wanted import wanted_of
from nlp_operator.planning.snapshot import ModelSnapshot
from nlp_operator.planning.status import only_progress

log = logging.getLogger(__name__)


PROGRESS_SECONDS = 10.0
"""How soon after one status another may follow that only says how far the work is. A server's start is half a
dozen small steps, within two seconds on a quiet cluster and within fifteen on a busy one; the counts of a
pool change with every pod of every model."""
SETTLED_SECONDS = 600.0
"""For how long a pass that left nothing to do stands for the next ones over the same world."""


@dataclass(frozen=True)
class Settled:
    """What a pass saw that left nothing to do. A plan follows from what is seen and from time, so until
    either changes another pass would find nothing either; with many models that is the whole idle load."""

    seen: ModelSnapshot
    until: float
    """Monotonic."""


@dataclass(frozen=True)
class Leaver:
    """A model that is gone, or as good as: its devices are free when its servers are gone too."""

    key: Key
    pods: frozenset[str]
    """uids of the server pods there were; another model may have the name by now, and pods of its own."""


@dataclass
class World:
    clock: Clock
    plan_settings: PlanSettings
    stores: Mapping[str, Store]
    cluster: Cluster
    writer: Writer
    agents: Agents
    builds: Builds
    recorder: Recorder
    queue: KeyedQueue[Key]
    ledger: Ledger = field(default_factory=Ledger)
    look_seconds: float = 30.0
    removals_per_pass: int = 5
    uids: dict[Key, str] = field(default_factory=dict)
    """uid under which a model was last planned: to clean up after it when it is gone or was made anew."""
    waiting: set[Key] = field(default_factory=set)
    """Models that have less room than they want, and want to know when there is more."""
    leaving: dict[str, Leaver] = field(default_factory=dict)
    """By uid: models that are gone and whose servers still run."""
    placing: Placing = field(init=False)
    """Where each model is to run."""
    settled: dict[Key, Settled] = field(default_factory=dict)
    advice: dict[Key, Advice] | None = None
    """What the autoscaler says of each model's load; `None` where nothing is measured."""
    told: dict[str, float] = field(default_factory=dict)
    """By uid: when the status of a model or a pool was last written."""
    strangers: dict[tuple[str, str, str], float] = field(default_factory=dict)
    """(kind, namespace, name) of objects that are not ours and hold a name we want -> when they were last
    seen."""

    def __post_init__(self) -> None:
        self.placing = Placing(self.clock, self.stores, self.ledger, self.queue)

    def get(self, key: Key) -> Obj | None:
        return self.stores[key.kind].get(ObjectKey(key.namespace, key.name))

    def observe(self, model: Obj) -> ModelSnapshot:
        """Everything `plan_model` decides from, of this moment; no read of the API."""
        of_namespace, of_uid = namespace(model), uid(model)
        pods = self.stores[kinds.POD.name].by("model", f"{of_namespace}/{name(model)}")
        claim = ObjectKey(of_namespace, self.plan_settings.store_claim_name)
        reports, progress = self.agents.reports, self.builds.progress
        self._note_measured(name(model), pods)
        return ModelSnapshot(
            model=model,
            children=tuple(
                child for kind in kinds.CHILDREN for child in self.stores[kind.name].by("owner", of_uid)
            ),
            pods=pods,
            foreign=frozenset(
                (kind, taken) for kind, where, taken in self.strangers if where == of_namespace
            ),
            store=self.stores[kinds.CLAIM.name].get(claim),
            sources=self._sources(model),
            pools=self.placing.pools,
            share=self.placing.share(model_key(of_namespace, name(model))),
            agents={uid(pod): reports[uid(pod)] for pod in pods if uid(pod) in reports},
            measured=dict(self.placing.measured.get(text(model, "status", "artifact", "digest"), {})),
            progress={uid(pod): progress[uid(pod)] for pod in pods if uid(pod) in progress},
            usage=self.ledger.usage_of_others(of_uid, of_namespace),
            advice=self._advice(model),
        )

    def _note_measured(self, model: str, pods: Iterable[Obj]) -> None:
        for pod in pods:
            report = self.agents.reports.get(uid(pod))
            ours = report.of(model) if report is not None else None
            if ours is not None and ours.serving and ours.measured_mebibytes:
                pool = labels(pod).get(names.LABEL_POOL, "")
                self.placing.note_measured(ours.serving, pool, ours.measured_mebibytes)

    def _advice(self, model: Obj) -> Advice | None:
        if self.advice is None:
            return None
        if wanted_of(model) is None:
            return LEFT_OUT
        return self.advice.get(model_key(namespace(model), name(model)), UNTOLD)

    def _sources(self, model: Obj) -> dict[str, Obj]:
        """The models it takes inputs from, directly or through others. Costs what those have of inputs."""
        found: dict[str, Obj] = {}
        ahead = list(sources_of(model))
        while ahead:
            key = ObjectKey(namespace(model), ahead.pop())
            source = self.stores[kinds.MODEL.name].get(key)
            if source is not None and key.name not in found:
                found[key.name] = source
                ahead += sources_of(source)
        return found

    def settle(self, key: Key, seen: ModelSnapshot, look_again: float | None) -> None:
        """Remember that nothing is left to do; `look_again`: seconds until time alone may change that."""
        longest = SETTLED_SECONDS * random.uniform(0.8, 1.0)  # noqa: S311
        until = self.clock.monotonic() + (longest if look_again is None else min(longest, look_again))
        self.settled[key] = Settled(seen, until)

    def settled_for(self, key: Key, seen: ModelSnapshot) -> float:
        """For how many seconds yet a pass over this would find nothing to do; 0 when it may find something.

        Cheap: what has not changed is the same object, and that is compared first.
        """
        known = self.settled.get(key)
        if known is not None and known.seen == seen and known.until > self.clock.monotonic():
            return known.until - self.clock.monotonic()
        self.settled.pop(key, None)
        return 0.0

    def unsettled(self) -> int:
        """The models whose last pass left something to do or to tell, or that none has looked at yet."""
        return len(self.stores[kinds.MODEL.name]) - len(self.settled)

    def patience(self, obj: Obj, status: Obj) -> float:
        """For how many seconds this status can wait to be written, so that one write tells of several small
        steps; 0 for what somebody waits for, and when the last one is long enough ago."""
        before = dig(obj, "status", default={})
        if before == status or not isinstance(before, dict) or not only_progress(before, status):
            return 0.0
        return max(0.0, self.told.get(uid(obj), -math.inf) + PROGRESS_SECONDS - self.clock.monotonic())

    async def tell(self, obj: Obj, status: Obj) -> bool:
        """Write the status; True when it differed."""
        written = await self.writer.write_status(obj, status)
        if written:
            self.told[uid(obj)] = self.clock.monotonic()
        return written

    def reserve(self, model: Obj, placements: tuple[Placement, ...], *, wants_more: bool) -> None:
        """Write into the ledger what the plan takes, and wake who waits when it gives something back."""
        key = model_key(namespace(model), name(model))
        if wants_more:
            self.waiting.add(key)
        else:
            self.waiting.discard(key)
        if self.ledger.reserve(uid(model), namespace(model), placements):
            self.wake_waiting(but=key)
            self.placing.look_soon()

    def wake_waiting(self, but: Key | None = None) -> None:
        for key in self.waiting:
            if key != but:
                self.queue.add(key, Priority.SIGNAL)

    def forget_model(self, key: Key) -> None:
        """The model is gone: its children follow by garbage collection, and then its devices are free."""
        self.waiting.discard(key)
        self.settled.pop(key, None)
        of_uid = self.uids.pop(key, None)
        if of_uid is None:
            return
        self.placing.ask(key, of_uid, None)
        self.writer.forget(of_uid)
        self.told.pop(of_uid, None)
        servers = frozenset(uid(pod) for pod in self._pods_of(key) if is_of_server(pod))
        self.leaving[of_uid] = Leaver(key, servers)

    def let_go(self, key: Key) -> None:
        """Free the devices of former models of this name whose servers are gone."""
        for of_uid, leaver in list(self.leaving.items()):
            if leaver.key != key or self._still_runs(of_uid, leaver):
                continue
            del self.leaving[of_uid]
            if self.ledger.release(of_uid):
                self.wake_waiting()
                self.placing.look_soon()

    def _still_runs(self, of_uid: str, leaver: Leaver) -> bool:
        if self.stores[kinds.DEPLOYMENT.name].by("owner", of_uid):
            return True
        return any(uid(pod) in leaver.pods for pod in self._pods_of(leaver.key))

    def _pods_of(self, key: Key) -> tuple[Obj, ...]:
        return self.stores[kinds.POD.name].by("model", f"{key.namespace}/{key.name}")

    def seed_ledger(self) -> None:
        """After a start: what Deployments hold, until each model has been planned once. Those of models that
        went while no process of ours watched are held until they are gone."""
        models = {uid(model): model for model in self.stores[kinds.MODEL.name]}
        # One that is deleted before its first plan gives its devices back as well.
        self.uids = {model_key(namespace(model), name(model)): uid(model) for model in models.values()}
        held: dict[tuple[str, str], list[Placement]] = {}
        for deployment in self.stores[kinds.DEPLOYMENT.name]:
            owner, pool = controller_uid(deployment), labels(deployment).get(names.LABEL_POOL)
            if not owner or pool is None:
                continue
            devices = devices_of_deployment(deployment, self.stores[kinds.POOL.name])
            held.setdefault((owner, namespace(deployment)), []).append(Placement(pool, devices))
            if owner not in models:
                self._leaves_with(owner, deployment)
        for (owner, of_namespace), placements in held.items():
            self.ledger.reserve(owner, of_namespace, placements)

    def seed_placing(self) -> None:
        """After a start, and after the agents were asked."""
        for model in self.stores[kinds.MODEL.name]:
            self._note_measured(name(model), self._pods_of(model_key(namespace(model), name(model))))
        self.placing.seed()

    def _leaves_with(self, of_uid: str, deployment: Obj) -> None:
        key = key_of_label(deployment)
        known = self.leaving.get(of_uid, Leaver(key, frozenset()))
        pods = frozenset(
            uid(pod) for pod in self._pods_of(key) if labels(pod).get(names.LABEL_SERVER) == name(deployment)
        )
        self.leaving[of_uid] = Leaver(key, known.pods | pods)

    async def look_at_strangers(self, of_namespace: str) -> None:
        """Find out whether those who took our names are still there; they are not in any cache of ours."""
        now = self.clock.monotonic()
        for stranger, seen in list(self.strangers.items()):
            kind, where, taken = stranger
            if where != of_namespace or now - seen < TAKEN_SECONDS:
                continue
            try:
                await self.cluster.get(kinds.BY_NAME[kind], where, taken)
                self.strangers[stranger] = now
            except errors.NotFound:
                del self.strangers[stranger]

    def met_stranger(self, wanted: Obj) -> bool:
        """Remember that the name of this object is taken; True when that is news."""
        stranger = (wanted["kind"], namespace(wanted), name(wanted))
        news = stranger not in self.strangers
        self.strangers[stranger] = self.clock.monotonic()
        return news

    def stranger_leaves(self, obj: Obj) -> bool:
        """Forget that this object holds a name we want; True when it did."""
        stranger = (text(obj, "kind"), namespace(obj), name(obj))
        return self.strangers.pop(stranger, None) is not None

    def say(self, regarding: Obj, events: tuple[EventWanted, ...]) -> None:
        for event in events:
            self.recorder.record(reference_to(regarding), event.type, event.reason, event.message)
