"""Placement as one decision over all models: what they ask, what runs and the pools in; out, where each model
is to run.

The decision itself is `packing`. Here it gets its problem from the API's objects, and each model gets its
share of the plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from nlp_operator.api.objects import Obj, number
from nlp_operator.api.spec import PoolSpec
from nlp_operator.planning.devices import devices_of_deployment
from nlp_operator.planning.packing.explain import Explainer, Explanation
from nlp_operator.planning.packing.ledger import dedicated_name
from nlp_operator.planning.packing.planner import NOTHING, plan
from nlp_operator.planning.packing.problem import Model, Plan, Pool, Problem, Server
from nlp_operator.planning.packing.reading import Ask, model_of, pool_of
from nlp_operator.planning.scaling.observed import readable_pools


@dataclass(frozen=True)
class Share:
    """What one plan holds for one model."""

    ask: Ask
    """What was asked when the plan was made."""
    places: tuple[tuple[str, int], ...] = ()
    """Replicas by pool, none of them 0."""
    leaving: tuple[tuple[str, int], ...] = ()
    """Pools that are no longer its own and where what runs stays until it runs elsewhere, with the replicas
    that may."""
    missing: Explanation | None = None
    """Of a model that found too few places."""
    undelivered: tuple[str, ...] = ()
    """Pools that do not deliver and where replicas wait all the same, for there is no place elsewhere."""


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


@dataclass(frozen=True)
class Decision:
    question: Question
    problem: Problem
    plan: Plan
    shares: Mapping[str, Share]
    """By the key of the model; of every one that asked."""

    def answered(self) -> Question:
        """The question that has this very answer: the same, with everything carried out."""
        return replace(self.question, running=replace(self.plan, missing={}))


def decide(question: Question, last: Decision | None = None) -> Decision:
    """`last`: what it has read need not be read again."""
    specs = readable_pools(question.pools)
    problem = Problem(pools_of(question, specs), _models(question, specs, last))
    made = plan(problem, question.running)
    back = [one for one in question.waiting if one.models[0] in made.missing]
    if back:
        # No place elsewhere: they wait on, so that whoever makes nodes for pending pods still sees them.
        made = plan(problem, _with(question.running, back))
    return Decision(question, problem, made, _shares(question, problem, made))


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
    return tuple(
        pool_of(name, spec, backed_off=name in question.backed_off, taken=taken.get(name))
        for name, spec in specs.items()
    )


def _models(question: Question, specs: Mapping[str, PoolSpec], last: Decision | None) -> tuple[Model, ...]:
    known: Mapping[str, Model] = {}
    if last is not None and last.question.pools == question.pools:
        known = last.problem.model
    asked = {one.key: one for one in last.question.asks} if known and last is not None else {}
    return tuple(
        known[one.key] if asked.get(one.key) == one else model_of(one, specs) for one in question.asks
    )


def _shares(question: Question, problem: Problem, made: Plan) -> dict[str, Share]:
    leaving: dict[str, list[tuple[str, int]]] = {}
    for server in made.leaving:
        leaving.setdefault(server.models[0], []).append((server.pool, server.replicas))
    waiting = {(one.models[0], one.pool) for one in question.waiting}
    explainer = Explainer(problem, made) if made.missing else None
    shares = {}
    for ask in question.asks:
        places = tuple(sorted(made.replicas(ask.key).items()))
        shares[ask.key] = Share(
            ask,
            places,
            tuple(leaving.get(ask.key, ())),
            explainer.explain(ask.key) if explainer is not None and ask.key in made.missing else None,
            tuple(pool for pool, _ in places if (ask.key, pool) in waiting),
        )
    return shares


# --- what runs ---

Where = tuple[str, str]
"""A model's key and a pool."""


@dataclass(frozen=True)
class Running:
    """The servers that exist, by their Deployments."""

    deployments: Mapping[Where, Obj]
    """Of the models that ask."""

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
    servers = [one for one in before.servers if one.models[0] in asking]
    leaving = [one for one in before.leaving if (one.models[0], one.pool) in running.deployments]
    planned = {(one.models[0], one.pool) for one in (*servers, *leaving)}
    new = sorted(running.deployments.keys() - known - planned)
    servers += [found for where in new if (found := running.server(where, pools)) is not None]
    return Plan(tuple(sorted(servers)), leaving=tuple(leaving))


def without_waiting(running: Plan, waiting: Mapping[Where, int]) -> tuple[Plan, tuple[Server, ...]]:
    """What runs in truth, and what waits."""
    there, waits = [], []
    for one in running.servers:
        missed = min(waiting.get((one.models[0], one.pool), 0), one.replicas)
        if missed:
            waits.append(replace(one, replicas=missed))
        if one.replicas > missed:
            there.append(replace(one, replicas=one.replicas - missed) if missed else one)
    return replace(running, servers=tuple(there)), tuple(waits)
