"""On which pool a model runs: the cheapest allowed one with room. Deterministic, and stable: a
model stays where it is while that is allowed, whatever became cheaper. Every pool that is refused
is explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from nlp_operator.api import spec as api
from nlp_operator.api.objects import Obj, name
from nlp_operator.api.spec import ModelSpec, PoolSpec, parse_pool
from nlp_operator.errors import SpecInvalid
from nlp_operator.planning.snapshot import PoolNamespace
from nlp_operator.planning.violations import Violation

MEBIBYTE = 1024 * 1024
BASE_MEBIBYTES = 256
"""Triton, Envoy, the agent and one Python backend together, at rest; measured with room to spare."""
MEMORY_PER_ARTIFACT_BYTE = 3
"""The artifact's file, the loaded weights, and what a batch needs; a guess until memory is measured."""


@dataclass(frozen=True)
class Demand:
    """What is to be placed."""

    namespace: str
    spec: ModelSpec
    replicas: int
    artifact_bytes: int = 0

    @property
    def devices(self) -> int:
        return self.replicas * self.spec.serving.devices_per_replica

    @property
    def mebibytes(self) -> int:
        """Device memory of one replica: declared, else estimated from the artifact."""
        declared = self.spec.serving.memory_mebibytes
        estimate = BASE_MEBIBYTES + MEMORY_PER_ARTIFACT_BYTE * self.artifact_bytes // MEBIBYTE
        return declared or estimate


@dataclass(frozen=True)
class Refusal:
    """Why a pool is not taken."""

    pool: str
    reason: str
    message: str
    """Begins with the pool's name."""
    for_good: bool = False
    """However many devices others give back, it does not become possible."""


@dataclass(frozen=True)
class Placed:
    pool: str
    pool_spec: PoolSpec
    replicas: int
    """At most what was asked for."""
    message: str
    limited: str = ""
    """Why there are fewer replicas than asked for; empty when there are not."""


@dataclass(frozen=True)
class NotPlaced:
    violation: Violation


@dataclass(frozen=True)
class _Candidate:
    pool: str
    spec: PoolSpec
    room: int
    """Devices this model may hold here."""
    limit: str
    """What bounds the room, in words."""


def place(
    demand: Demand,
    pools: Sequence[Obj],
    usage: Mapping[PoolNamespace, int],
    current: str = "",
    current_replicas: int = 0,
) -> Placed | NotPlaced:
    """`current`: the pool the model runs on now, empty for none; `usage`: devices of other models."""
    refusals: list[Refusal] = []
    candidates: list[_Candidate] = []
    for pool in sorted(pools, key=name):
        found = _admit(demand, pool, usage)
        if isinstance(found, Refusal):
            refusals.append(found)
        else:
            candidates.append(found)
    staying = next((one for one in candidates if one.pool == current), None)
    if staying is not None and _may_stay(demand, staying, current_replicas):
        return _stay(demand, staying, current_replicas, refusals)
    each = demand.spec.serving.devices_per_replica
    roomy = [one for one in candidates if one.room >= max(demand.devices, each)]
    if not roomy:
        refusals += [_no_room(demand, one) for one in candidates]
        return NotPlaced(_unplaced(demand, refusals))
    best = min(roomy, key=lambda one: (Decimal(one.spec.price_per_hour) * each, one.pool))
    return Placed(best.pool, best.spec, demand.replicas, _why(best, refusals))


def refuse(demand: Demand, pool: Obj, usage: Mapping[PoolNamespace, int]) -> Refusal | None:
    """Why this pool could not take a new model of this demand; `None` when it could."""
    found = _admit(demand, pool, usage)
    if isinstance(found, Refusal):
        return found
    roomy = found.room >= max(demand.devices, demand.spec.serving.devices_per_replica)
    return None if roomy else _no_room(demand, found)


def _may_stay(demand: Demand, here: _Candidate, current_replicas: int) -> bool:
    """A model of which nothing runs here, and for which there is no room, is as free as a new one."""
    return (
        demand.replicas == 0
        or max(here.room // demand.spec.serving.devices_per_replica, current_replicas) > 0
    )


def _stay(demand: Demand, here: _Candidate, current_replicas: int, refusals: Sequence[Refusal]) -> Placed:
    """No more replicas than there is room for, and no fewer than run: a lowered limit takes nothing away."""
    fitting = here.room // demand.spec.serving.devices_per_replica
    replicas = min(demand.replicas, max(fitting, current_replicas))
    limited = ""
    if replicas < demand.replicas:
        run = "1 runs" if replicas == 1 else f"{replicas} run"
        limited = f"{demand.replicas} replicas are wanted and {run}: {here.limit}"
    return Placed(here.pool, here.spec, replicas, _why(here, refusals), limited)


def _why(here: _Candidate, refusals: Sequence[Refusal]) -> str:
    """The same words at the first placement and ever after, and nothing of other models in them: it goes into
    a status, which changes only when something of this model does."""
    notes = " ".join(refusal.message for refusal in refusals)
    return f"Runs on pool {here.pool}, at {here.spec.price_per_hour} an hour and device. {notes}".strip()


# --- why not this pool ---

_Check = Callable[[Demand, str, PoolSpec], Refusal | None]


def not_named(demand: Demand, pool: str, spec: PoolSpec) -> Refusal | None:
    names = demand.spec.placement.pool_names
    if names and pool not in names:
        return Refusal(pool, "NotNamed", f"Pool {pool}: not in spec.placement.poolNames.")
    return None


def namespace_not_admitted(demand: Demand, pool: str, spec: PoolSpec) -> Refusal | None:
    if spec.namespaces and all(one.name != demand.namespace for one in spec.namespaces):
        return Refusal(
            pool, "NamespaceNotAdmitted", f"Pool {pool}: not allowed in namespace {demand.namespace}."
        )
    return None


def _entry(demand: Demand, spec: PoolSpec) -> api.PoolNamespace | None:
    """What the pool says of the model's namespace."""
    return next((one for one in spec.namespaces if one.name == demand.namespace), None)


def priority_too_high(demand: Demand, pool: str, spec: PoolSpec) -> Refusal | None:
    entry = _entry(demand, spec)
    priority = demand.spec.scaling.priority
    if entry is None or entry.highest_priority is None or priority <= entry.highest_priority:
        return None
    return Refusal(
        pool,
        "PriorityTooHigh",
        f"Pool {pool}: spec.scaling.priority is {priority}; namespace {demand.namespace} may have at most "
        f"{entry.highest_priority} here.",
    )


def too_little_memory(demand: Demand, pool: str, spec: PoolSpec) -> Refusal | None:
    there = spec.memory_mebibytes * demand.spec.serving.devices_per_replica
    if demand.mebibytes <= there:
        return None
    origin = "declares" if demand.spec.serving.memory_mebibytes else "is estimated to need"
    return Refusal(
        pool,
        "TooLittleMemory",
        f"Pool {pool}: the model {origin} {demand.mebibytes} MiB a replica; its devices have {there} MiB.",
    )


CHECKS: tuple[_Check, ...] = (not_named, namespace_not_admitted, priority_too_high, too_little_memory)


def _admit(demand: Demand, pool: Obj, usage: Mapping[PoolNamespace, int]) -> _Candidate | Refusal:
    pool_name = name(pool)
    try:
        spec = parse_pool(pool)
    except SpecInvalid as error:
        return Refusal(pool_name, "PoolInvalid", f"Pool {pool_name}: its spec is invalid. {error}")
    for check in CHECKS:
        refusal = check(demand, pool_name, spec)
        if refusal is not None:
            return refusal
    room, limit = _room(demand, pool_name, spec, usage)
    return _Candidate(pool_name, spec, room, limit)


def _room(demand: Demand, pool: str, spec: PoolSpec, usage: Mapping[PoolNamespace, int]) -> tuple[int, str]:
    taken = sum(count for (where, _), count in usage.items() if where == pool)
    room = max(0, spec.max_devices - taken)
    limit = f"pool {pool} has {_devices(spec.max_devices)}, and other models hold {taken}."
    entry = _entry(demand, spec)
    if entry is not None and entry.max_devices is not None:
        taken_here = usage.get((pool, demand.namespace), 0)
        room_here = max(0, entry.max_devices - taken_here)
        if room_here < room:
            room = room_here
            limit = (
                f"pool {pool} gives namespace {demand.namespace} {_devices(entry.max_devices)}, and its "
                f"other models hold {taken_here}."
            )
    return room, limit


def _no_room(demand: Demand, one: _Candidate) -> Refusal:
    needed = max(demand.devices, demand.spec.serving.devices_per_replica)
    are, left = ("is" if count == 1 else "are" for count in (needed, one.room))
    return Refusal(
        one.pool,
        "NoRoom",
        f"Pool {one.pool}: {_devices(needed)} {are} needed and {one.room} {left} left; {one.limit}",
        for_good=needed > _most(demand, one.spec),
    )


def _most(demand: Demand, spec: PoolSpec) -> int:
    """Devices that the model could have if there were no other."""
    entry = _entry(demand, spec)
    if entry is None or entry.max_devices is None:
        return spec.max_devices
    return min(spec.max_devices, entry.max_devices)


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"


def _unplaced(demand: Demand, refusals: Sequence[Refusal]) -> Violation:
    names = demand.spec.placement.pool_names
    known = {refusal.pool for refusal in refusals}
    missing = [pool for pool in names if pool not in known]
    notes = [f"Pool {pool}: there is no DevicePool of that name." for pool in missing]
    notes += [refusal.message for refusal in refusals]
    full = [refusal for refusal in refusals if refusal.reason == "NoRoom"]
    if full:
        advice = "Wait until devices are free, raise the limit, lower the replicas, or allow another pool."
        if all(refusal.for_good for refusal in full):
            advice = "Raise the limit, lower the replicas, or allow another pool; no waiting helps."
        return Violation("NoRoom", " ".join([*notes, advice]))
    if not refusals and not names:
        return Violation(
            "NoSuchPool", "There is no DevicePool. Create one, or ask your administrator for it."
        )
    if names and all(refusal.reason == "NotNamed" for refusal in refusals):
        missed = ", ".join(missing)
        if not known:
            sentence = f"spec.placement.poolNames names {missed}, and there is no DevicePool. Create it."
        else:
            sentence = (
                f"spec.placement.poolNames names {missed}; the DevicePools there are: "
                f"{', '.join(sorted(known))}. Name one of these, or create the pool."
            )
        return Violation("NoSuchPool", sentence)
    return Violation("NoPoolFits", " ".join([*notes, "Change the model, or ask for a pool that admits it."]))
