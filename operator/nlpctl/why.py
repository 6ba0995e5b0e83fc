"""Why a model is on its pool and not on another: asked of the very code by which the operator decides.

Pure. What the person asking may not read (models of other namespaces, pools) is missing here too, and
the caller says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nlp_operator.api.spec import parse_model, parse_pool
from nlp_operator.errors import SpecInvalid
from nlp_operator.planning.packing.explain import Explainer, Explanation
from nlp_operator.planning.packing.ledger import dedicated_name
from nlp_operator.planning.packing.problem import Plan, Server
from nlp_operator.planning.packing.reading import Ask, ask_of
from nlp_operator.planning.scaling import wanted_replicas
from nlp_operator.planning.together import Decision, Question, decide
from nlpctl.report import Obj, listed, number, part, read_model


@dataclass(frozen=True)
class PoolVerdict:
    pool: str
    price_per_hour: str
    """Empty when the pool's spec cannot be read."""
    verdict: Literal["RunsHere", "HasRoom", "Refused"]
    message: str
    change: str = ""
    """What would make it possible: a clause that follows "if"."""


@dataclass(frozen=True)
class Explained:
    problems: tuple[str, ...]
    """What is wrong with the model's own spec, a sentence each; then nothing can be said about pools."""
    pools: tuple[PoolVerdict, ...]
    """The pools it runs on first, then by price."""
    why: str = ""
    """The decision in a sentence."""
    change: str = ""
    """What would give it the replicas it misses, or a cheaper place, in a sentence."""


def explain(model: Obj, pools: Sequence[Obj], models: Sequence[Obj]) -> Explained:
    """`models`: all models that are known to hold devices."""
    try:
        spec = parse_model(model)
    except SpecInvalid as error:
        return Explained(error.problems, ())
    desired = part(part(model, "status"), "scaling").get("desired")
    replicas = desired if isinstance(desired, int) else wanted_replicas(spec).desired
    own = ask_of(key_of(model)[0], key_of(model)[1], spec, replicas, artifact_bytes(model))
    made = decide(question_of([one for one in models if uid(one) != uid(model)], pools, model, own))
    told = Explainer(made.problem, made.plan).explain(own.key)
    here = {server.pool for server in read_model(model).servers if server.replicas}
    verdicts = [judge(pool, made, told, here) for pool in pools]
    order = {"RunsHere": 0, "HasRoom": 1, "Refused": 2}
    verdicts.sort(key=lambda one: (order[one.verdict], float(one.price_per_hour or "inf"), one.pool))
    return Explained((), tuple(verdicts), told.why, told.change)


def judge(pool: Obj, made: Decision, told: Explanation, here: set[str]) -> PoolVerdict:
    """What the planner says of this pool."""
    name = str(part(pool, "metadata").get("name", ""))
    try:
        price = parse_pool(pool).price_per_hour
    except SpecInvalid as error:
        return PoolVerdict(name, "", "Refused", f"its spec is invalid. {error}", "its spec were mended")
    if name in here:
        return PoolVerdict(name, price, "RunsHere", "The model runs here.")
    refusal = next((one for one in told.refusals if one.pool == name), None)
    if refusal is None:
        return PoolVerdict(name, price, "HasRoom", "It is to run here.")
    message = refusal.message.removeprefix(f"Pool {name}: ")
    fits = refusal.reason in ("NotCheaper", "NotWorthMoving")
    return PoolVerdict(name, price, "HasRoom" if fits else "Refused", message, refusal.change)


# --- what is known, as the operator's question ---


def question_of(models: Sequence[Obj], pools: Sequence[Obj], own: Obj | None, ask: Ask | None) -> Question:
    """Who runs asks for what it has; `own` for what it asks. Devices of models that cannot be read are
    taken."""
    asks, running = [] if ask is None else [ask], [] if own is None else servers_of(own)
    taken: Counter[tuple[str, str]] = Counter()
    for model in models:
        servers = servers_of(model)
        try:
            spec = parse_model(model)
        except SpecInvalid:
            taken.update(devices_of(servers))
            continue
        replicas = sum(one.replicas for one in servers)
        if replicas:
            asks.append(ask_of(*key_of(model), spec, replicas, artifact_bytes(model)))
            running += servers
    return Question(
        tuple(sorted(asks, key=lambda one: one.key)), tuple(pools), dict(taken), Plan(tuple(sorted(running)))
    )


def servers_of(model: Obj) -> list[Server]:
    """As the model's own status tells."""
    namespace, name = key_of(model)
    key, each = f"{namespace}/{name}", number(part(part(model, "spec"), "serving").get("devicesPerReplica"))
    return [
        Server(
            dedicated_name(key, str(one.get("pool", ""))),
            str(one.get("pool", "")),
            namespace,
            each or 1,
            number(one.get("replicas")),
            False,
            (key,),
        )
        for one in listed(part(model, "status"), "servers")
        if number(one.get("replicas")) > 0
    ]


def devices_of(servers: Sequence[Server]) -> dict[tuple[str, str], int]:
    """By pool and namespace."""
    return dict(Plan(tuple(servers)).devices())


def artifact_bytes(model: Obj) -> int:
    return number(part(part(model, "status"), "artifact").get("bytes"))


def key_of(model: Obj) -> tuple[str, str]:
    metadata = part(model, "metadata")
    return str(metadata.get("namespace", "")), str(metadata.get("name", ""))


def uid(obj: Obj) -> str:
    return str(part(obj, "metadata").get("uid", ""))
