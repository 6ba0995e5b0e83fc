"""Placement as one decision over all models: what they ask, what runs and the pools in; out, where each model
is to run.

The decision itself is `packing`. Here it gets its problem from the API's objects, and each model gets its
share of the plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, labels, name, number
from nlp_operator.api.spec import PoolSpec
from nlp_operator.planning.back_offs import BackOff
from nlp_operator.planning.devices import devices_of_deployment
from nlp_operator.planning.nodes import found_on
from nlp_operator.planning.packing.bounds import admits
from nlp_operator.planning.packing.explain import Explainer, Explanation
from nlp_operator.planning.packing.ledger import dedicated_name
from nlp_operator.planning.packing.planner import NOTHING, plan
from nlp_operator.planning.packing.problem import Model, Plan, Pool, Problem, Server
from nlp_operator.planning.packing.reading import Ask, model_of, pool_of
from nlp_operator.planning.packing.saving import Moving, with_old_places
from nlp_operator.planning.scaling.observed import readable_pools

Where = tuple[str, str]
"""Of a dedicated model's server: the model's key and the pool. Of a shared server: the namespace and the name
of its objects."""


@dataclass(frozen=True)
class Share:
    """What one plan holds for one model."""

    ask: Ask
    """What was asked when the plan was made."""
    places: tuple[tuple[str, int], ...] = ()
    """Replicas by pool, none of them 0."""
    leaving: tuple[tuple[str, int], ...] = ()
    """Pools that are no longer its own and where what runs stays until it runs elsewhere, with the replicas
    that may. Not of shared servers."""
    giving: tuple[str, ...] = ()
    """Pools where what runs may serve a while longer, though others get its devices: the model has all its
    places elsewhere, and they may not serve yet. Not of shared servers, whose models take their time."""
    server: str = ""
    """Of a shared model that has a place: the name of its server's objects."""
    missing: Explanation | None = None
    """Of a model that found too few places."""
    undelivered: tuple[str, ...] = ()
    """Pools that do not deliver and where replicas wait all the same, for there is no place elsewhere."""
    backed_off: Mapping[str, BackOff] = field(default_factory=dict)
    """Pools that gave a pod of it no node in time, and get nothing new of it until then."""

    @property
    def of_shared(self) -> int:
        """Replicas of the server that it shares which are its own: others may want more of it."""
        return min(self.ask.replicas, *(count for _, count in self.places)) if self.server else 0


@dataclass(frozen=True)
class Question:
    """Everything that placement follows from, at one moment."""

    asks: tuple[Ask, ...]
    """By key."""
    pools: tuple[Obj, ...]
    taken: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Devices by pool and namespace of whom nobody plans: models that are gone or cannot be read."""
    running: Plan = NOTHING
    """What runs, or is expected to by the last plan."""
    backed_off: frozenset[str] = frozenset()
    """Pools that do not deliver."""
    waiting: tuple[Server, ...] = ()
    """Replicas that wait for devices of these, and are not in `running`."""
    lasting: Mapping[str, int] = field(default_factory=dict)
    """Of the models whose shared servers have been too busy, by key: thousandths of a device that each has
    kept busy all the while (`scaling/headroom.py`)."""
    undelivered: Mapping[str, Mapping[str, BackOff]] = field(default_factory=dict)
    """Pools that did not deliver to a model, by its key."""
    giving: tuple[Server, ...] = ()
    """What the last plans gave to others and may serve a while longer. It holds nothing in a plan."""


@dataclass(frozen=True)
class Decision:
    question: Question
    problem: Problem
    plan: Plan
    shares: Mapping[str, Share]
    """By the key of the model; of every one that asked."""
    giving: tuple[Server, ...] = ()
    """What this plan gives to others too, if it still runs and its model has all its places."""

    @cached_property
    def shared(self) -> Mapping[Where, Server]:
        """The shared servers that are to run, by namespace and name of their objects."""
        return {shared_key(one): one for one in self.plan.servers if one.shared}

    @cached_property
    def vacated(self) -> frozenset[Where]:
        """Shared servers that hold their devices until all their models run elsewhere."""
        return frozenset(shared_key(one) for one in self.plan.leaving if one.shared)

    @cached_property
    def admitting(self) -> Mapping[str, tuple[str, ...]]:
        """The pools that admit each model, whatever else runs there, by its key. Not of shared models, all of
        whose replicas are in one."""
        return {
            one.key: tuple(pool.name for pool in self.problem.by_price if admits(self.problem, one, pool))
            for one in self.problem.models
            if not one.shared
        }

    def answered(self) -> Question:
        """The question that has this very answer: the same, with everything carried out."""
        return replace(self.question, running=replace(self.plan, missing={}), giving=self.giving)


def decide(
    question: Question, last: Decision | None = None, moving: Moving = MappingProxyType({})
) -> Decision:
    """`last`: what it has read need not be read again. `moving`: models that move to save money and have not
    left their old places: before a plan takes these from them, they are theirs again."""
    specs = readable_pools(question.pools)
    problem = Problem(pools_of(question, specs), _models(question, specs, last))
    running = question.running
    if question.waiting:
        elsewhere = plan(problem, running, closed_too=False).missing
        back = [one for one in question.waiting if any(model in elsewhere for model in one.models)]
        # No place elsewhere: they wait on, so that whoever makes nodes for pending pods still sees them.
        running = _with(running, back)
    made = plan(problem, running)
    made = with_old_places(problem, question.running, made, moving)
    return _decided(question, problem, made)


def _decided(question: Question, problem: Problem, made: Plan) -> Decision:
    giving = _giving(question, made)
    return Decision(question, problem, made, _shares(question, problem, made, giving), giving)


def _giving(question: Question, made: Plan) -> tuple[Server, ...]:
    """What runs, has no place any more, and is of a model that has all its places elsewhere: a higher
    priority needs its devices, or a limit was lowered. Whoever gets them waits until they are free."""
    there = {one.name for one in (*made.servers, *made.leaving)}
    running = question.running
    ran = {one.name: one for one in (*question.giving, *running.servers, *running.leaving) if not one.shared}
    asking = {one.key for one in question.asks}
    return tuple(
        one
        for of_name, one in sorted(ran.items())
        if of_name not in there
        and one.models[0] in asking & made.of_model.keys()
        and one.models[0] not in made.missing
    )


def carried_on(decision: Decision, plan: Plan) -> Decision:
    """The same question once that plan runs, with it for an answer: what ran when it was asked may run again,
    and is then something new."""
    return _decided(replace(decision, plan=plan).answered(), decision.problem, plan)


def _with(running: Plan, waiting: Iterable[Server]) -> Plan:
    servers = {one.name: one for one in running.servers}
    for one in waiting:
        known = servers.get(one.name)
        servers[one.name] = one if known is None else replace(one, replicas=one.replicas + known.replicas)
    return replace(running, servers=tuple(sorted(servers.values())))


def pools_of(question: Question, specs: Mapping[str, PoolSpec]) -> tuple[Pool, ...]:
    taken: dict[str, dict[str, int]] = {}
    for (pool, namespace), devices in question.taken.items():
        taken.setdefault(pool, {})[namespace] = devices
    found = {name(one): found_on(one) for one in question.pools}
    return tuple(
        pool_of(pool, spec, found[pool], backed_off=pool in question.backed_off, taken=taken.get(pool))
        for pool, spec in specs.items()
    )


def _models(question: Question, specs: Mapping[str, PoolSpec], last: Decision | None) -> tuple[Model, ...]:
    known: Mapping[str, Model] = {}
    if last is not None and last.question.pools == question.pools:
        known = last.problem.model
    asked = {one.key: one for one in last.question.asks} if known and last is not None else {}

    def read(one: Ask) -> Model:
        lasting, undelivered = question.lasting.get(one.key, 0), question.undelivered.get(one.key, {})
        before = known[one.key] if asked.get(one.key) == one else None
        if before is not None and (before.lasting_millis, before.undelivered) == (lasting, undelivered):
            return before
        return model_of(one, specs, lasting, undelivered)

    return tuple(map(read, question.asks))


def _shares(question: Question, problem: Problem, made: Plan, giving: tuple[Server, ...]) -> dict[str, Share]:
    leaving: dict[str, list[tuple[str, int]]] = {}
    for server in made.leaving:
        if not server.shared:
            leaving.setdefault(server.models[0], []).append((server.pool, server.replicas))
    waiting = {(model, one.pool) for one in question.waiting for model in one.models}
    homes = {model: shared_key(one)[1] for one in made.servers if one.shared for model in one.models}
    explainer = Explainer(problem, made) if made.missing else None
    shares = {}
    for ask in question.asks:
        places = tuple(sorted(made.replicas(ask.key).items()))
        shares[ask.key] = Share(
            ask,
            places,
            tuple(leaving.get(ask.key, ())),
            tuple(one.pool for one in giving if one.models[0] == ask.key),
            homes.get(ask.key, ""),
            explainer.explain(ask.key) if explainer is not None and ask.key in made.missing else None,
            tuple(pool for pool, _ in places if (ask.key, pool) in waiting),
            question.undelivered.get(ask.key, {}),
        )
    return shares


# --- what runs ---


@dataclass(frozen=True)
class Running:
    """The servers that exist, by their Deployments."""

    deployments: Mapping[Where, Obj]
    """Of the models that ask."""
    shared: Mapping[Where, tuple[Obj, tuple[str, ...]]] = field(default_factory=dict)
    """By namespace and name: each with the keys of the models that have their place there, as far as anybody
    but the last plan can tell."""

    @property
    def there(self) -> frozenset[Where]:
        return frozenset(self.deployments) | frozenset(self.shared)

    @property
    def objects(self) -> dict[Where, Obj]:
        """All their Deployments."""
        return {**self.deployments, **{where: one for where, (one, _) in self.shared.items()}}

    def shared_server(self, where: Where, pools: Sequence[Obj]) -> Server | None:
        """`None`: nothing runs there that anybody asks for."""
        deployment, models = self.shared[where]
        wanted = number(deployment, "spec", "replicas")
        if wanted <= 0 or not models:
            return None
        each = max(devices_of_deployment(deployment, pools) // wanted, 1)
        of_plan, pool = names.shared_in_plan(*where), labels(deployment).get(names.LABEL_POOL, "")
        return Server(of_plan, pool, where[0], each, wanted, True, models)

    def server(self, where: Where, pools: Sequence[Obj]) -> Server | None:
        """`None`: nothing runs there."""
        deployment = self.deployments[where]
        wanted = number(deployment, "spec", "replicas")
        if wanted <= 0:
            return None
        key, pool = where
        each = max(devices_of_deployment(deployment, pools) // wanted, 1)
        return Server(dedicated_name(key, pool), pool, key.partition("/")[0], each, wanted, False, (key,))


def now_running(
    before: Plan, asks: Iterable[Ask], running: Running, known: Set[Where], pools: Sequence[Obj]
) -> Plan:
    """The last plan is what runs, or soon does; a server that it did not know of runs as it was found, and
    one that it let go does not count any more.

    `known`: the servers there were when that plan was made.
    """
    asking = {one.key for one in asks}
    servers = [one for of_plan in before.servers if (one := _with_models(of_plan, asking)) is not None]
    leaving = [
        one
        for of_plan in before.leaving
        if where_of(of_plan) in running.there and (one := _with_models(of_plan, asking)) is not None
    ]
    planned = {where_of(one) for one in (*servers, *leaving)}
    for where in sorted(running.there - known - planned):
        find = running.shared_server if where in running.shared else running.server
        if (found := find(where, pools)) is not None:
            servers.append(found)
            planned.add(where)
    reserved = tuple(names.shared_in_plan(*where) for where in sorted(running.shared.keys() - planned))
    return Plan(tuple(sorted(servers)), leaving=tuple(leaving), names=reserved)


def _with_models(server: Server, asking: Set[str]) -> Server | None:
    """With those of its models that still ask; `None` when none does."""
    models = tuple(one for one in server.models if one in asking)
    return replace(server, models=models) if models else None


def where_of(server: Server) -> Where:
    return shared_key(server) if server.shared else (server.models[0], server.pool)


def shared_key(server: Server) -> Where:
    return server.namespace, names.shared_name(server.name)


def without_waiting(running: Plan, waiting: Mapping[Where, int]) -> tuple[Plan, tuple[Server, ...]]:
    """What runs in truth, and what waits."""
    there, waits = [], []
    for one in running.servers:
        missed = min(waiting.get(where_of(one), 0), one.replicas)
        if missed:
            waits.append(replace(one, replicas=missed))
        if one.replicas > missed:
            there.append(replace(one, replicas=one.replicas - missed) if missed else one)
    return replace(running, servers=tuple(there)), tuple(waits)
