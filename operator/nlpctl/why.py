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
from nlp_operator.planning.placement import Demand, refuse
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
    """What the operator says of this pool."""
    name = str(part(pool, "metadata").get("name", ""))
    try:
        price = parse_pool(pool).price_per_hour
    except SpecInvalid:
        price = ""
    if name in here:
        return PoolVerdict(name, price, "RunsHere", "The model runs here.")
    refusal = refuse(demand, pool, usage)
    if refusal is not None:
        return PoolVerdict(name, price, "Refused", refusal.message.removeprefix(f"Pool {name}: "))
    return PoolVerdict(name, price, "HasRoom", "It would fit here.")


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
