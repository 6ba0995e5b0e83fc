"""Where a model runs, in the words it is told: its share of the plan over all models (`together`), as far as
there are devices for it yet.

The words of a model that has its place depend on the model and the pools alone, so that a status changes only
when something of its model does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from nlp_operator.api.objects import Obj, name
from nlp_operator.api.spec import PoolSpec, parse_pool
from nlp_operator.errors import SpecInvalid
from nlp_operator.planning.back_offs import BackOff
from nlp_operator.planning.nodes import found_on
from nlp_operator.planning.packing.bounds import (
    Refusal,
    counted,
    refusal,
    refusal_of_now,
    waited_in_vain,
    within,
)
from nlp_operator.planning.packing.explain import Explainer, Explanation
from nlp_operator.planning.packing.problem import Model, Plan, Pool, Problem
from nlp_operator.planning.packing.reading import Ask, model_of, pool_of
from nlp_operator.planning.scaling.observed import readable_pools
from nlp_operator.planning.snapshot import PoolNamespace
from nlp_operator.planning.together import Share
from nlp_operator.planning.violations import Violation


@dataclass(frozen=True)
class Place:
    pool: str
    spec: PoolSpec
    replicas: int
    """That may be there now: at most what the plan says, and fewer while others still hold the devices."""


@dataclass(frozen=True)
class Placed:
    places: tuple[Place, ...]
    message: str
    limited: str = ""
    """Why there are fewer replicas than asked for; empty when there are not."""


@dataclass(frozen=True)
class NotPlaced:
    violation: Violation


PENDING = NotPlaced(Violation("Planning", "A place is being looked for.", stalled=False))


@dataclass(frozen=True)
class Held:
    """Who holds devices at this moment."""

    own: Mapping[str, int]
    """By pool: of this model."""
    others: Mapping[PoolNamespace, int]


def place(
    ask: Ask, share: Share | None, pools: Sequence[Obj], held: Held, last_pool: str
) -> Placed | NotPlaced:
    """`pools`: those the share was planned with; `last_pool`: where a model of which nothing is wanted has
    its empty server."""
    if share is None or share.ask != ask:
        return PENDING
    specs = readable_pools(pools)
    problem = _problem(ask, pools, specs, share.backed_off)
    if not ask.replicas and ask.shared:
        return NotPlaced(Violation("ScaledToZero", "No replica is wanted.", stalled=False))
    if not ask.replicas:
        return _nothing_wanted(ask, problem, pools, specs, last_pool)
    if not share.places:
        impossible = unplaceable(ask, pools)
        return NotPlaced(impossible or Violation("NoRoom", _told(share)))
    if ask.shared:
        limited = _told(share) if share.missing is not None else ""
        return Placed(
            tuple(Place(pool, specs[pool], count) for pool, count in share.places),
            " ".join([_why_shared(problem, pools, share), *_waiting(problem, share)]),
            limited,
        )
    planned = dict(share.places)
    places = tuple(
        Place(pool, specs[pool], _may_be_there(ask, pool, specs[pool], count, held))
        for pool, count in share.places
    )
    there = tuple(one for one in places if one.replicas)
    if not there:
        return NotPlaced(_waits(places))
    limited = _told(share) if share.missing is not None else ""
    if sum(one.replicas for one in there) < sum(planned.values()):
        limited = f"{limited} {_some_wait(places, planned)}".strip()
    message = " ".join([_why(problem, pools, planned), *_waiting(problem, share)])
    return Placed(there, message, limited)


def unplaceable(ask: Ask, pools: Sequence[Obj]) -> Violation | None:
    """Why no pool would take the model, whatever else runs there; `None` when one would."""
    specs = readable_pools(pools)
    problem = _problem(ask, pools, specs)
    (model,) = problem.models
    refused = {pool.name: refusal_of_now(problem, model, pool) for pool in problem.by_price}
    if any(one is None for one in refused.values()):
        return None
    known = [name(pool) for pool in pools]
    missing = [pool for pool in ask.pool_names if pool not in known]
    if not known and not missing:
        return Violation(
            "NoSuchPool", "There is no DevicePool. Create one, or ask your administrator for it."
        )
    if missing and len(missing) == len(ask.pool_names):
        return Violation("NoSuchPool", _no_such_pool(missing, known))
    notes = [f"Pool {pool}: there is no DevicePool of that name." for pool in missing]
    notes += _refusals(problem, pools, without=())
    if problem.pools:
        notes.append(Explainer(problem, Plan(missing={model.key: 1})).explain(model.key).change)
    return Violation("NoPoolFits", " ".join([*notes, "Change the model, or ask for a pool that admits it."]))


def _no_such_pool(missing: Sequence[str], known: Sequence[str]) -> str:
    listed = ", ".join(missing)
    if not known:
        return f"spec.placement.poolNames names {listed}, and there is no DevicePool. Create it."
    return (
        f"spec.placement.poolNames names {listed}; the DevicePools there are: {', '.join(sorted(known))}. "
        "Name one of these, or create the pool."
    )


def _problem(
    ask: Ask,
    pools: Sequence[Obj],
    specs: Mapping[str, PoolSpec],
    backed_off: Mapping[str, BackOff] = MappingProxyType({}),
) -> Problem:
    """Of this model alone."""
    known = tuple(pool_of(name(one), specs[name(one)], found_on(one)) for one in pools if name(one) in specs)
    return Problem(known, (model_of(ask, specs, undelivered=backed_off),))


def _why(problem: Problem, pools: Sequence[Obj], places: Mapping[str, int]) -> str:
    (model,) = problem.models
    explainer = Explainer(problem, Plan())
    words = [explainer.why(model, places, 0), *_ask_why(explainer, model, places)]
    return " ".join([*words, *_refusals(problem, pools, without=places)])


def _ask_why(explainer: Explainer, model: Model, places: Mapping[str, int]) -> list[str]:
    """What keeps it from a cheaper pool changes as others come and go: that is for who asks, where it is not
    told anyhow."""
    cheaper = explainer.cheaper(model, places)
    untold = cheaper is not None and cheaper.name not in model.undelivered
    return ["nlpctl why says what keeps it from there."] if untold else []


def _why_shared(problem: Problem, pools: Sequence[Obj], share: Share) -> str:
    """Of its neighbours it says nothing: else each of them that comes or goes would be a write for all."""
    (model,) = problem.models
    ((pool, _),) = share.places
    explainer = Explainer(problem, Plan())
    words = [explainer.why_shared(model, pool, share.server), *_ask_why(explainer, model, {pool: 1})]
    return " ".join([*words, *_refusals(problem, pools, without={pool: 1})])


def _waiting(problem: Problem, share: Share) -> list[str]:
    """Of each pool of it that has nothing to give, or gave nothing."""
    (model,) = problem.models
    pools = [problem.pool[pool] for pool, _ in share.places if pool not in share.undelivered]
    in_vain = [one.message for pool in pools if (one := waited_in_vain(problem, model, pool)) is not None]
    undelivered = [
        f"Pool {pool} did not deliver the devices it was asked for within {within(problem.pool[pool])}; "
        "replicas wait on there, for no other pool has a place (kubectl describe one of their pods says why)."
        for pool in share.undelivered
    ]
    no_devices = [
        f"No node has any of pool {pool.name}'s devices now; a replica that has no node yet waits for one "
        "there (kubectl describe devicepool says why)."
        for pool in pools
        if pool.no_devices
    ]
    return in_vain + undelivered + no_devices


def _refusals(problem: Problem, pools: Sequence[Obj], without: Mapping[str, int] | tuple[()]) -> list[str]:
    """What speaks against each other pool whatever else runs there, a sentence each."""
    (model,) = problem.models
    found = []
    for pool in sorted(pools, key=name):
        if name(pool) in without:
            continue
        if name(pool) not in problem.pool:
            found.append(_unreadable(pool))
        elif (refused := _refused(problem, model, problem.pool[name(pool)])) is not None:
            found.append(refused.message)
    return found


def _refused(problem: Problem, model: Model, pool: Pool) -> Refusal | None:
    """Nodes come and go, and what follows from them is not told; that no node came for this model is."""
    return refusal_of_now(problem, model, pool) or waited_in_vain(problem, model, pool)


def _unreadable(pool: Obj) -> str:
    try:
        parse_pool(pool)
    except SpecInvalid as error:
        return f"Pool {name(pool)}: its spec is invalid. {error}"
    raise AssertionError("only pools that cannot be read come here")


def _told(share: Share) -> str:
    """What is in the way of more replicas, pool by pool, and what would change it."""
    explanation = share.missing
    assert explanation is not None, "a model without places misses its replicas"
    return in_words(explanation)


def in_words(explanation: Explanation) -> str:
    refusals = [one.message for one in explanation.refusals]
    return " ".join([explanation.why, *refusals, explanation.change])


def _nothing_wanted(
    ask: Ask, problem: Problem, pools: Sequence[Obj], specs: Mapping[str, PoolSpec], last_pool: str
) -> Placed | NotPlaced:
    """A server without replicas, where the last one was: it takes no device."""
    impossible = unplaceable(ask, pools)
    if impossible is not None:
        return NotPlaced(impossible)
    (model,) = problem.models
    admitting = [one.name for one in problem.by_price if refusal(problem, model, one) is None]
    pool = last_pool if last_pool in admitting else admitting[0]
    message = f"No replica is wanted; the empty server is on pool {pool}."
    return Placed((Place(pool, specs[pool], 0),), message)


# --- devices that others still hold ---


def _may_be_there(ask: Ask, pool: str, spec: PoolSpec, planned: int, held: Held) -> int:
    """The plan counts with devices that are about to be given back. No more is started than there is room
    for now, and nothing that runs stops for that."""
    room = room_on(ask.namespace, pool, spec, held)
    return min(planned, max(room, held.own.get(pool, 0), 0) // ask.devices)


def room_on(namespace: str, pool: str, spec: PoolSpec, held: Held) -> int:
    """Devices that others leave to this model, those it has among them."""
    others = sum(count for (where, _), count in held.others.items() if where == pool)
    room = spec.max_devices - others
    entry = next((one for one in spec.namespaces if one.name == namespace), None)
    if entry is not None and entry.max_devices is not None:
        room = min(room, entry.max_devices - held.others.get((pool, namespace), 0))
    return room


def _waits(places: Sequence[Place]) -> Violation:
    pools = " and ".join(one.pool for one in places)
    word = "pool" if len(places) == 1 else "pools"
    return Violation(
        "DevicesInUse",
        f"Its place is on {word} {pools}, whose devices others are about to give back.",
        stalled=False,
    )


def _some_wait(places: Sequence[Place], planned: Mapping[str, int]) -> str:
    waits = [
        f"{counted(planned[one.pool] - one.replicas, 'replica')} on pool {one.pool}"
        for one in places
        if one.replicas < planned[one.pool]
    ]
    return f"Devices for {' and '.join(waits)} are in use by others who are about to give them back."
