"""The world of a reconcile: what is seen (caches only), and the few ways to act on it."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from nlp_operator import errors
from nlp_operator.agents.builds import Builds
from nlp_operator.agents.poller import Agents
from nlp_operator.api import names
from nlp_operator.api.objects import Obj, deleting, dig, labels, name, namespace, text, uid
from nlp_operator.cluster import kinds
from nlp_operator.cluster.client import Cluster
from nlp_operator.cluster.events import reference_to
from nlp_operator.cluster.kinds import Kind
from nlp_operator.cluster.writer import Writer, owner_of, shared_owner
from nlp_operator.controllers.keys import Key, key_of_label, model_key, server_key
from nlp_operator.controllers.ledger import Ledger
from nlp_operator.controllers.placing import STEP_SECONDS, Placing
from nlp_operator.controllers.sleeping import Sleeping
from nlp_operator.engine.clock import Clock
from nlp_operator.engine.queue import KeyedQueue, Priority
from nlp_operator.engine.recorder import Recorder
from nlp_operator.engine.store import ObjectKey, Store
from nlp_operator.planning.agent_report import ModelReport
from nlp_operator.planning.aside import told as who_scales
from nlp_operator.planning.dependencies import sources_of
from nlp_operator.planning.devices import devices_of_deployment
from nlp_operator.planning.measured import seen_in
from nlp_operator.planning.models import TAKEN_SECONDS
from nlp_operator.planning.outgrown import in_status, told_by
from nlp_operator.planning.packing.explain import money
from nlp_operator.planning.packing.problem import Server as Planned
from nlp_operator.planning.packing.relief import Relief
from nlp_operator.planning.packing.saving import Saving
from nlp_operator.planning.plan import EventWanted, Placement, PlanSettings
from nlp_operator.planning.pods import is_of_server
from nlp_operator.planning.profiles import is_asked_of
from nlp_operator.planning.profiles import owner_of as profiles_of
from nlp_operator.planning.readings.advice import LEFT_OUT, UNTOLD, Advice
from nlp_operator.planning.scaling.wanted import wanted_of
from nlp_operator.planning.shared import Member, ServerSnapshot, owners_in
from nlp_operator.planning.snapshot import ModelSnapshot
from nlp_operator.planning.status import only_progress
from nlp_operator.planning.together import Share
from nlp_operator.planning.violations import Violation
from nlp_operator.resources.server import models_in

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
    sleeping: Sleeping | None = None
    """What is known of models that may sleep; `None` where no activator is installed."""
    told: dict[str, float] = field(default_factory=dict)
    """By uid: when the status of a model or a pool was last written."""
    trouble: dict[tuple[str, str], Violation] = field(default_factory=dict)
    """By namespace and name of a shared server."""
    strangers: dict[tuple[str, str, str], float] = field(default_factory=dict)
    """(kind, namespace, name) of objects that are not ours and hold a name we want -> when they were last
    seen."""

    def __post_init__(self) -> None:
        self.placing = Placing(self.clock, self.stores, self.ledger, self.queue)
        self.placing.step_seconds = STEP_SECONDS + self.plan_settings.unload_after_seconds
        self.placing.on_saving = self._tell_saving
        self.placing.on_relief = self._tell_relief
        self.placing.on_taken_back = self._tell_taken_back

    def get(self, key: Key) -> Obj | None:
        return self.stores[key.kind].get(ObjectKey(key.namespace, key.name))

    def observe(self, model: Obj) -> ModelSnapshot:
        """Everything `plan_model` decides from, of this moment; no read of the API."""
        of_namespace, of_uid = namespace(model), uid(model)
        share = self.placing.share(model_key(of_namespace, name(model)))
        shared = self._shared_servers(model, share)
        pods = self.stores[kinds.POD.name].by("model", f"{of_namespace}/{name(model)}")
        for server in shared:
            pods += self.stores[kinds.POD.name].by("server", f"{of_namespace}/{name(server)}")
        claim = ObjectKey(of_namespace, self.plan_settings.store_claim_name)
        reports, progress = self.agents.reports, self.builds.progress
        self._note_measured(model, pods)
        return ModelSnapshot(
            model=model,
            children=tuple(
                child for kind in kinds.OWNED for child in self.stores[kind.name].by("owner", of_uid)
            ),
            pods=pods,
            foreign=frozenset(
                (kind, taken) for kind, where, taken in self.strangers if where == of_namespace
            ),
            store=self.stores[kinds.CLAIM.name].get(claim),
            sources=self._sources(model),
            pools=self.placing.pools,
            share=share,
            refused=self.placing.refused(of_uid),
            shared=shared,
            shared_configs=self._configs_of(shared),
            trouble=self._troubles(of_namespace, share, shared),
            agents={uid(pod): reports[uid(pod)] for pod in pods if uid(pod) in reports},
            measured=self.placing.measured_of(model),
            profiles=dict(self.placing.profiles.get(profiles_of(model), {})),
            progress={uid(pod): progress[uid(pod)] for pod in pods if uid(pod) in progress},
            usage=self.ledger.usage_of_others(of_uid, of_namespace),
            advice=self._advice(model),
            writers=self._writers((*self.stores[kinds.DEPLOYMENT.name].by("owner", of_uid), *shared)),
            activator=self.sleeping.of(model) if self.sleeping is not None else None,
        )

    def _shared_servers(self, model: Obj, share: Share | None) -> tuple[Obj, ...]:
        """Deployments of the shared servers that a model is in, or is to be in."""
        deployments = self.stores[kinds.DEPLOYMENT.name]
        found = {name(one): one for one in deployments.by("member", uid(model))}
        if share is not None and share.server and share.server not in found:
            home = deployments.get(ObjectKey(namespace(model), share.server))
            if home is not None:
                found[share.server] = home
        return tuple(found[one] for one in sorted(found) if not deleting(found[one]))

    def _writers(self, servers: Iterable[Obj]) -> dict[str, str]:
        """By name of a server: who else writes how many replicas it has."""
        store = self.stores[kinds.AUTOSCALER.name]
        found = {name(one): store.by("target", f"{namespace(one)}/{name(one)}") for one in servers}
        return {server: who_scales(autoscalers) for server, autoscalers in found.items() if autoscalers}

    def _configs_of(self, servers: Iterable[Obj]) -> tuple[Obj, ...]:
        keys = (server_key(namespace(one), name(one)) for one in servers)
        found = (self._of_server(kinds.CONFIG_MAP, key) for key in keys)
        return tuple(one for one in found if one is not None)

    def _troubles(
        self, of_namespace: str, share: Share | None, shared: Iterable[Obj]
    ) -> dict[str, Violation]:
        servers = {name(one) for one in shared} | ({share.server} if share is not None else set())
        where = {one: (of_namespace, one) for one in servers}
        return {one: self.trouble[where[one]] for one in servers if where[one] in self.trouble}

    def observe_server(self, key: Key) -> ServerSnapshot:
        """Everything `plan_server` decides from, of this moment."""
        decision = self.placing.decision
        where = (key.namespace, key.name)
        wanted = decision.shared.get(where) if decision is not None else None
        objects = {
            kind.name: one for kind in kinds.CHILDREN if (one := self._of_server(kind, key)) is not None
        }
        members = {
            one: member
            for one in self.members_of(key)
            if (member := self._member(key, one, wanted)) is not None
        }
        pods = self.stores[kinds.POD.name].by("server", f"{key.namespace}/{key.name}")
        reports = self.agents.reports
        pool = decision.problem.pool.get(wanted.pool) if decision is not None and wanted is not None else None
        return ServerSnapshot(
            namespace=key.namespace,
            name=key.name,
            wanted=wanted,
            may_stay=wanted is not None or decision is None or where in decision.vacated,
            members=members,
            capacity_mebibytes=decision.problem.slot_mebibytes(pool, wanted.devices)
            if decision is not None and wanted is not None and pool is not None
            else 0,
            objects=objects,
            pods=pods,
            agents={uid(pod): reports[uid(pod)] for pod in pods if uid(pod) in reports},
            pools=self.placing.pools,
            usage=self.ledger.usage_of_others(shared_owner(*where), key.namespace),
            writer=self._writers(
                one for of_kind, one in objects.items() if of_kind == kinds.DEPLOYMENT.name
            ).get(key.name, ""),
        )

    def _of_server(self, kind: Kind, key: Key) -> Obj | None:
        """An object of a shared server; one of that name that is somebody else's is none."""
        found = self.stores[kind.name].get(ObjectKey(key.namespace, key.name))
        return found if found is not None and labels(found).get(names.LABEL_SERVER) == key.name else None

    def members_of(self, key: Key) -> tuple[str, ...]:
        """Names of the models that are in a shared server, or are to be, or were until just now."""
        decision = self.placing.decision
        wanted = decision.shared.get((key.namespace, key.name)) if decision is not None else None
        there = ObjectKey(key.namespace, key.name)
        found = {one.partition("/")[2] for one in wanted.models} if wanted is not None else set()
        for kind in (kinds.DEPLOYMENT, kinds.CONFIG_MAP):
            found.update(owners_in(self.stores[kind.name].get(there)))
        return tuple(sorted({*found, *models_in(self._of_server(kinds.CONFIG_MAP, key))}))

    def servers_of(self, key: Key) -> tuple[Key, ...]:
        """The shared servers that a model is in, or is to be in."""
        share, model = self.placing.share(key), self.get(key)
        found = {share.server} if share is not None and share.server else set()
        of_uid = uid(model) if model is not None else self.uids.get(key, "")
        for kind in (kinds.DEPLOYMENT, kinds.CONFIG_MAP):
            found.update(name(one) for one in self.stores[kind.name].by("member", of_uid))
        return tuple(server_key(key.namespace, one) for one in sorted(found))

    def _member(self, server: Key, of_name: str, wanted: Planned | None) -> Member | None:
        key = model_key(server.namespace, of_name)
        model = self.get(key)
        if model is None:
            return None
        share, decision = self.placing.share(key), self.placing.decision
        planned = decision.problem.model.get(f"{key.namespace}/{key.name}") if decision is not None else None
        size = 0
        if decision is not None and planned is not None and wanted is not None:
            size = decision.problem.mebibytes(planned, wanted.pool)
        deployments = self.stores[kinds.DEPLOYMENT.name]
        others = (*deployments.by("owner", uid(model)), *deployments.by("member", uid(model)))
        return Member(
            model=model,
            share=share,
            service=self.stores[kinds.SERVICE.name].get(ObjectKey(key.namespace, key.name)),
            size_mebibytes=size,
            elsewhere=any(name(one) != server.name for one in others),
            waits=share is not None
            and share.server != server.name
            and (key.namespace, share.server) in self.trouble,
        )

    def note_trouble(self, key: Key, trouble: Violation | None) -> None:
        """What keeps a shared server from being as it is wanted; its members tell it."""
        where = (key.namespace, key.name)
        if self.trouble.get(where) == trouble:
            return
        if trouble is None:
            del self.trouble[where]
        else:
            self.trouble[where] = trouble
        for one in self.members_of(key):
            self.queue.add(model_key(key.namespace, one), Priority.CHILD)

    def _note_measured(self, model: Obj, pods: Iterable[Obj]) -> None:
        """Only of what the model serves by its own status: a pod says it."""
        digest, seen = text(model, "status", "artifact", "digest"), []
        for pod in pods:
            report = self.agents.reports.get(uid(pod))
            ours = report.of(name(model)) if report is not None else None
            if ours is None:
                continue
            pool = labels(pod).get(names.LABEL_POOL, "")
            if ours.serving == digest:
                there = self.stores[kinds.POOL.name].get(ObjectKey("", pool))
                seen.append(seen_in(pod, there, model, ours))
            if ours.profile:
                self._note_profile(model, pool, ours)
        self.placing.note_measured(model, [one for one in seen if one is not None])

    def _note_profile(self, model: Obj, pool: str, told: ModelReport) -> None:
        """Only what was asked for, of what the model serves by its own status: a pod says it."""
        there = self.stores[kinds.POOL.name].get(ObjectKey("", pool)) is not None
        if there and is_asked_of(model, self.plan_settings.profiles, told.profiled):
            self.placing.note_profile(profiles_of(model), pool, told.profile)

    def _note_told(self, model: Obj) -> None:
        """What an earlier process knew of its memory."""
        service = self.stores[kinds.SERVICE.name].get(ObjectKey(namespace(model), name(model)))
        digest, pools = text(model, "status", "artifact", "digest"), tuple(self.stores[kinds.POOL.name])
        self.placing.note_measured(model, (*told_by(service, digest), *in_status(model, pools)))

    def _advice(self, model: Obj) -> Advice | None:
        if self.advice is None:
            return None
        if wanted_of(model) is None:
            return LEFT_OUT
        return self.advice.get(model_key(namespace(model), name(model)), UNTOLD)

    def forget_decision(self, key: Key) -> None:
        """What the autoscaler decided of a model is not to be carried out any more."""
        if self.advice is not None and key in self.advice:
            self.advice[key] = replace(self.advice[key], replicas=None, instances={})

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

    def reserve_for(self, server: Key, placements: tuple[Placement, ...]) -> None:
        """As `reserve`, of a shared server. What ends keeps its devices until its pods are gone."""
        where = (server.namespace, server.name)
        if not placements and self.stores[kinds.POD.name].by("server", "/".join(where)):
            return
        if self.ledger.reserve(shared_owner(*where), server.namespace, placements):
            self.wake_waiting()
            self.placing.look_soon()

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
        self.placing.measured.pop(of_uid, None)
        self.writer.forget(of_uid)
        self.told.pop(of_uid, None)
        if self.sleeping is not None:
            self.sleeping.forget(of_uid, key)
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
            owner, pool = owner_of(deployment), labels(deployment).get(names.LABEL_POOL)
            if not owner or pool is None:
                continue
            devices = devices_of_deployment(deployment, self.stores[kinds.POOL.name])
            held.setdefault((owner, namespace(deployment)), []).append(Placement(pool, devices))
            if owner not in models and names.LABEL_MODEL in labels(deployment):
                self._leaves_with(owner, deployment)
        for (owner, of_namespace), placements in held.items():
            self.ledger.reserve(owner, of_namespace, placements)

    def seed_placing(self) -> None:
        """After a start, and after the agents were asked."""
        for model in self.stores[kinds.MODEL.name]:
            pods = self._pods_of(model_key(namespace(model), name(model)))
            for server in self._shared_servers(model, None):
                pods += self.stores[kinds.POD.name].by("server", f"{namespace(model)}/{name(server)}")
            self._note_told(model)
            self._note_measured(model, pods)
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

    def _tell_saving(self, saving: Saving) -> None:
        """To those who move: nothing in their specs says why."""
        saved = f"{money(saving.saved_micros)} an hour"
        log.info("Models move to save money.", extra={"saved": saved, "models": saving.moved})
        for key in saving.moved:
            model = self.get(model_key(*key.split("/", 1)))
            pools = " and ".join(sorted(saving.plan.replicas(key)))
            told = f"Moves to pool {pools}: once all that moves along is there, that saves {saved}."
            if model is not None:
                self.say(model, (EventWanted("Normal", "Repacked", told),))

    def _tell_relief(self, relief: Relief) -> None:
        log.info("A model moves out of a busy server.", extra={"model": relief.moved})
        model = self.get(model_key(*relief.moved.split("/", 1)))
        pools = " and ".join(sorted(relief.plan.replicas(relief.moved)))
        told = (
            f"Moves out of a busy server, to another on pool {pools}: its models have kept its slots too "
            "busy for a quarter of an hour, and scaling added no replica."
        )
        if model is not None:
            self.say(model, (EventWanted("Normal", "MovedOut", told),))

    def _tell_taken_back(self, moved: frozenset[str], for_money: bool) -> None:
        log.info("A move is taken back.", extra={"models": sorted(moved), "to_save_money": for_money})
        reason = "NotRepacked" if for_money else "NotMovedOut"
        what = "nothing is saved" if for_money else "its server is as busy as before"
        told = f"Stays where it was, and {what}: its new place was not there in time, or not kept."
        for key in sorted(moved):
            model = self.get(model_key(*key.split("/", 1)))
            if model is not None:
                self.say(model, (EventWanted("Normal", reason, told),))

    def say(self, regarding: Obj, events: tuple[EventWanted, ...]) -> None:
        for event in events:
            self.recorder.record(reference_to(regarding), event.type, event.reason, event.message)
