"""Why a model is on its pool and not on another: asked of the very code by which the operator decides.

Pure. What the person asking may not read (models of other namespaces, pools) is missing here too, and
the caller says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nlp_operator.api.spec import parse_model, parse_pool
from nlp_operator.errors import SpecInvalid
from nlp_operator.planning.placement import Demand, NotPlaced, place
from nlp_operator.planning.scaling import wanted_replicas
from nlpctl.report import Obj, listed, number, part, read_model


@dataclass(frozen=True)
class PoolVerdict:
    pool: str
    price_per_hour: str
    """Empty when the pool's spec cannot be read."""
    verdict: Literal["RunsHere", "HasRoom", "Refused"]
    message: str


@dataclass(frozen=True)
class Explanation:
    problems: tuple[str, ...]
    """What is wrong with the model's own spec, a sentence each; then nothing can be said about pools."""
    pools: tuple[PoolVerdict, ...]
    """The pools it runs on first, then by price."""


def explain(model: Obj, pools: Sequence[Obj], models: Sequence[Obj]) -> Explanation:
    """`models`: all models that are known to hold devices; this one among them is left out of the count."""
    try:
        spec = parse_model(model)
    except SpecInvalid as error:
        return Explanation(error.problems, ())
    report = read_model(model)
    demand = Demand(
        namespace=report.namespace,
        spec=spec,
        replicas=wanted_replicas(spec).desired,
        artifact_bytes=number(part(part(model, "status"), "artifact").get("bytes")),
    )
    usage = usage_of(other for other in models if uid(other) != uid(model))
    here = {server.pool for server in report.servers}
    verdicts = [judge(demand, pool, usage, here) for pool in pools]
    order = {"RunsHere": 0, "HasRoom": 1, "Refused": 2}
    verdicts.sort(key=lambda one: (order[one.verdict], float(one.price_per_hour or "inf"), one.pool))
    return Explanation((), tuple(verdicts))


def judge(demand: Demand, pool: Obj, usage: Mapping[tuple[str, str], int], here: set[str]) -> PoolVerdict:
    """What the operator would say of this pool if it were the only one."""
    name = str(part(pool, "metadata").get("name", ""))
    try:
        price = parse_pool(pool).price_per_hour
    except SpecInvalid:
        price = ""
    if name in here:
        return PoolVerdict(name, price, "RunsHere", "The model runs here.")
    found = place(without_names_of_others(demand, name), [pool], usage)
    if isinstance(found, NotPlaced):
        return PoolVerdict(name, price, "Refused", found.violation.message)
    return PoolVerdict(name, price, "HasRoom", "It would fit here.")


def without_names_of_others(demand: Demand, pool: str) -> Demand:
    """The demand as this one pool sees it: the names of other pools are no business of its."""
    names = demand.spec.placement.pool_names
    if pool not in names:
        return demand
    placement = demand.spec.placement.model_copy(update={"pool_names": [pool]})
    spec = demand.spec.model_copy(update={"placement": placement})
    return Demand(demand.namespace, spec, demand.replicas, demand.artifact_bytes)


def usage_of(models: Iterable[Obj]) -> dict[tuple[str, str], int]:
    """Devices held, by pool and namespace, as the models' own status tells."""
    counts: Counter[tuple[str, str]] = Counter()
    for model in models:
        serving = part(part(model, "spec"), "serving")
        each = number(serving.get("devicesPerReplica")) or 1
        for server in listed(part(model, "status"), "servers"):
            place_of = (str(server.get("pool", "")), str(part(model, "metadata").get("namespace", "")))
            counts[place_of] += number(server.get("replicas")) * each
    return dict(counts)


def uid(obj: Obj) -> str:
    return str(part(obj, "metadata").get("uid", ""))
