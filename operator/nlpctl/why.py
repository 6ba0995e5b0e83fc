"""Why a model is on its pool and not on another: asked of the very code by which the operator decides.

Pure. What the person asking may not read (models of other namespaces, pools) is missing here too, and
the caller says so.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from nlp_operator.api.names import LABEL_POOL, is_shared_name, shared_in_plan
from nlp_operator.api.spec import ModelSpec, parse_model, parse_pool
from nlp_operator.errors import SpecInvalid
from nlp_operator.planning.measured import believed
from nlp_operator.planning.outgrown import known_of
from nlp_operator.planning.packing.bounds import Refusal, gave_no_node
from nlp_operator.planning.packing.explain import HAS_ROOM, Explainer, Explanation, goes_on
from nlp_operator.planning.packing.ledger import dedicated_name
from nlp_operator.planning.packing.problem import Plan, Server
from nlp_operator.planning.packing.reading import Ask, ask_of
from nlp_operator.planning.packing.unmoved import Moment
from nlp_operator.planning.pools import read_back_off
from nlp_operator.planning.profiles import ASKED, believed_on
from nlp_operator.planning.provision import read_refusals
from nlp_operator.planning.rest import free_devices, not_to_be_moved
from nlp_operator.planning.scaling import wanted_replicas
from nlp_operator.planning.scaling.observed import asked_last, readable_pools
from nlp_operator.planning.together import Decision, Question, decide
from nlp_operator.resources.server import models_in
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


def explain(
    model: Obj, pools: Sequence[Obj], models: Sequence[Obj], now: datetime, service: Obj | None = None
) -> Explained:
    """`models`: all models that are known to hold devices; `service`: the model's own, which tells what was
    measured where it runs no more."""
    try:
        spec = parse_model(model)
    except SpecInvalid as error:
        return Explained(error.problems, ())
    desired = part(part(model, "status"), "scaling").get("desired")
    replicas = desired if isinstance(desired, int) else wanted_replicas(spec).desired
    # Of one that asks for no replica, such as one that sleeps, it is told where one would be.
    others, asked = [one for one in models if uid(one) != uid(model)], max(replicas, 1)
    own = ask(model, spec, asked, pools, service)
    made = decide(question_of(others, pools, now, model, own))
    not_trusted = {name_of(one) for one in pools if read_back_off(one) is not None}
    moment = Moment(not_to_be_moved([model, *others]), free_devices(pools, not_trusted))
    here = {server.pool for server in read_model(model).servers if server.replicas}
    is_to_run = replicas > 0 and not spec.suspend
    planned, there = made.plan.of_model.get(own.key, ()), {one.name for one in servers_of(model)}
    stays = {one.pool for one in planned if one.name in there}
    verb = "runs" if stays else "is to run" if is_to_run else "would run"
    told = Explainer(made.problem, made.plan, moment).explain(own.key, verb)
    company = [one for server in planned for one in server.models if one != own.key]
    verdicts = [judge(pool, made, told, here, stays, awaited=is_to_run) for pool in pools]
    order = {"RunsHere": 0, "HasRoom": 1, "Refused": 2}
    verdicts.sort(key=lambda one: (order[one.verdict], float(one.price_per_hour or "inf"), one.pool))
    if not replicas:
        return Explained((), tuple(verdicts), _why_none(model))
    held = ["spec.suspend is true, so no server of it starts."] if spec.suspend and not here else []
    kept = [goes_on(here)] if here and not planned else []
    return Explained((), tuple(verdicts), " ".join([*held, told.why, *kept, *_with(company)]), told.change)


def _why_none(model: Obj) -> str:
    """In the operator's words where it has some."""
    said = str(part(part(model, "status"), "scaling").get("reason") or "")
    return said if read_model(model).sleeps and said else "It asks for no replicas, so it has no server."


MOST_NAMED = 8
"""Neighbours in a shared server that are named; of more only the number is told."""


def _with(company: Sequence[str]) -> list[str]:
    if not company:
        return []
    named = [one.partition("/")[2] for one in company]
    rest = len(named) - MOST_NAMED
    if rest > 0:
        named = [*named[:MOST_NAMED], "1 other" if rest == 1 else f"{rest} others"]
    listed = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    return [f"It shares the server with {listed}."]


NOT_DELIVERING = (
    " The pool did not deliver the devices it was asked for: replicas without one wait, and only what has no "
    "other place is placed here for now."
)


def judge(
    pool: Obj, made: Decision, told: Explanation, here: set[str], stays: set[str], *, awaited: bool
) -> PoolVerdict:
    """What the planner says of this pool. `here`: where the model runs, `stays`: in a server that it is to be
    in; `awaited`: it is to run."""
    name = name_of(pool)
    try:
        price = parse_pool(pool).price_per_hour
    except SpecInvalid as error:
        return PoolVerdict(name, "", "Refused", f"its spec is invalid. {error}", "its spec were mended")
    more = NOT_DELIVERING if name in made.question.backed_off else _in_vain(made, told, name)
    refusal = next((one for one in told.refusals if one.pool == name), None)
    if name in here:
        return PoolVerdict(
            name,
            price,
            "RunsHere",
            f"{_runs_here(told, refusal, stays=name in stays)}{more}",
            "" if refusal is None else refusal.change,
        )
    if refusal is None:
        planned = "It is to run here." if awaited else "It would run here."
        return PoolVerdict(name, price, "HasRoom", f"{planned}{more}")
    message = refusal.message.removeprefix(f"Pool {name}: ")
    if not here:
        message = message.replace(" where it runs.", " where it would run.")
    verdict: Literal["HasRoom", "Refused"] = "HasRoom" if refusal.reason in HAS_ROOM else "Refused"
    return PoolVerdict(name, price, verdict, message, refusal.change)


def _runs_here(told: Explanation, refusal: Refusal | None, *, stays: bool) -> str:
    """Also of a model whose spec has it elsewhere by now, or in a server of another kind."""
    if refusal is None:
        return f"The model runs here{'' if stays else ', and is to run in another server here'}."
    message = refusal.message.removeprefix(f"Pool {refusal.pool}: ")
    if told.replicas:
        message = message.replace(" where it runs.", " where it is to run.")
        return f"The model runs here until it runs where it is to: {message}"
    return f"The model runs here, and has no place as its spec is now: {message}"


def _in_vain(made: Decision, told: Explanation, name: str) -> str:
    """Of a pool where it is, and where a pod of it waited in vain."""
    back_off = made.problem.model[told.model].undelivered.get(name)
    return "" if back_off is None else f" The pool {gave_no_node(back_off, made.problem.pool[name])}."


def speeds(model: Obj, config_maps: Sequence[Obj], pools: Sequence[Obj]) -> tuple[str, ...]:
    """What was measured of the model before its first pod was Ready, and what follows for pools of the same
    kind; a sentence a pool. Where it was tried and gave nothing, why. `config_maps`: of its own servers,
    which tell their pods of it."""
    _, name = key_of(model)
    known = {}
    for one in config_maps:
        told = models_in(one).get(name)
        if told is not None and told.profile not in ("", ASKED):
            known[str(part(part(one, "metadata"), "labels").get(LABEL_POOL, ""))] = told.profile
    specs = readable_pools(pools)
    found = []
    for pool in specs:
        believed = believed_on(pool, known, specs)
        if pool in known and (believed is None or believed.estimated_from):
            found.append(f"On pool {pool} it could not be measured. {_why_not(known[pool])}".strip())
        if believed is not None:
            of_one, of_eight = (1000 * believed.speed.curve(1).seconds(rows) for rows in (1, 8))
            how = f"estimated from pool {believed.estimated_from}" if believed.estimated_from else "measured"
            found.append(
                f"On pool {pool} a request of one row takes {of_one:.3g} ms, one of eight {of_eight:.3g} ms "
                f"({how}, without load)."
            )
    return tuple(found)


def _why_not(profile: str) -> str:
    return str(json.loads(profile).get("message") or "")


# --- what is known, as the operator's question ---


def question_of(
    models: Sequence[Obj], pools: Sequence[Obj], now: datetime, own: Obj | None, asks_own: Ask | None
) -> Question:
    """Who runs asks for what it has; `own` for what it asks. Devices of models that cannot be read are
    taken."""
    asks, running = [] if asks_own is None else [asks_own], [] if own is None else servers_of(own)
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
            # A shared server has as many as the member that wants most: each asked for what its status says.
            shared = spec.serving.isolation == "Shared"
            count = min(asked_last(model), replicas) if shared else replicas
            asks.append(ask(model, spec, count, pools))
            running += servers
    told = [(one, read_refusals(one)) for one in (*models, *([] if own is None else [own]))]
    return Question(
        tuple(sorted(asks, key=lambda one: one.key)),
        tuple(pools),
        dict(taken),
        Plan(merged(running)),
        frozenset(name_of(one) for one in pools if is_backed_off(one, now)),
        undelivered={
            "/".join(key_of(one)): {pool: known for pool, known in found.items() if known.lasts(now)}
            for one, found in told
        },
    )


def ask(model: Obj, spec: ModelSpec, replicas: int, pools: Sequence[Obj], service: Obj | None = None) -> Ask:
    """As the operator has it ask, as far as the status and the Service tell."""
    known = known_of(model, service, pools)
    measured = believed(known, known.digest, spec)
    return ask_of(*key_of(model), spec, replicas, artifact_bytes(model), measured, busy_millis(model))


def is_backed_off(pool: Obj, now: datetime) -> bool:
    known = read_back_off(pool)
    return known is not None and known.lasts(now)


def servers_of(model: Obj) -> list[Server]:
    """As the model's own status tells; of a shared server with this model alone. While it moves out of one
    shared server the status has both: what is planned comes first, and there it is."""
    namespace, name = key_of(model)
    key, each = f"{namespace}/{name}", number(part(part(model, "spec"), "serving").get("devicesPerReplica"))
    found: list[Server] = []
    for one in listed(part(model, "status"), "servers"):
        pool, server, replicas = (
            str(one.get("pool", "")),
            str(one.get("name", "")),
            number(one.get("replicas")),
        )
        shared = is_shared_name(server)
        if replicas <= 0 or (shared and any(other.shared for other in found)):
            continue
        of_plan = shared_in_plan(namespace, server) if shared else dedicated_name(key, pool)
        found.append(Server(of_plan, pool, namespace, each or 1, replicas, shared, (key,)))
    return found


def merged(servers: Iterable[Server]) -> tuple[Server, ...]:
    """Each shared server once, with all of its models."""
    found: dict[str, Server] = {}
    for one in servers:
        known = found.get(one.name, one)
        models = tuple(sorted({*known.models, *one.models}))
        found[one.name] = replace(known, models=models, replicas=max(known.replicas, one.replicas))
    return tuple(sorted(found.values()))


def devices_of(servers: Sequence[Server]) -> dict[tuple[str, str], int]:
    """By pool and namespace."""
    return dict(Plan(tuple(servers)).devices())


def artifact_bytes(model: Obj) -> int:
    return number(part(part(model, "status"), "artifact").get("bytes"))


def busy_millis(model: Obj) -> int:
    """Of a model that shares its server: see `Ask`."""
    return number(part(part(model, "status"), "scaling").get("busyMillis"))


def key_of(model: Obj) -> tuple[str, str]:
    metadata = part(model, "metadata")
    return str(metadata.get("namespace", "")), str(metadata.get("name", ""))


def name_of(obj: Obj) -> str:
    return str(part(obj, "metadata").get("name", ""))


def uid(obj: Obj) -> str:
    return str(part(obj, "metadata").get("uid", ""))
