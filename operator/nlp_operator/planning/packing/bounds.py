"""What speaks against a model on a pool whatever else runs there: small checks, in the order in which they
are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nlp_operator.planning.back_offs import BackOff
from nlp_operator.planning.packing.problem import Model, Pool, Problem


@dataclass(frozen=True)
class Refusal:
    """Why a pool is not taken."""

    pool: str
    reason: str
    message: str
    """One sentence, which begins with the pool's name."""
    change: str
    """What would make it possible: a clause that follows "if"."""
    needed: int = 0
    available: int = 0
    unit: str = ""
    """Of the two numbers: `MiB`, `devices`, `replicas`, `priority`, `millis` (of a device that are busy);
    empty when there is nothing to count."""


_Check = Callable[[Problem, Model, Pool], Refusal | None]


def not_named(problem: Problem, model: Model, pool: Pool) -> Refusal | None:
    if not model.pool_names or pool.name in model.pool_names:
        return None
    return Refusal(
        pool.name,
        "NotNamed",
        f"Pool {pool.name}: not in spec.placement.poolNames.",
        "spec.placement.poolNames named it",
    )


def namespace_not_admitted(problem: Problem, model: Model, pool: Pool) -> Refusal | None:
    if not pool.namespaces or model.namespace in pool.namespaces:
        return None
    return Refusal(
        pool.name,
        "NamespaceNotAdmitted",
        f"Pool {pool.name}: not allowed in namespace {model.namespace}.",
        f"the pool admitted namespace {model.namespace}",
    )


def priority_too_high(problem: Problem, model: Model, pool: Pool) -> Refusal | None:
    limit = pool.namespaces.get(model.namespace)
    if limit is None or limit.highest_priority is None or model.priority <= limit.highest_priority:
        return None
    return Refusal(
        pool.name,
        "PriorityTooHigh",
        f"Pool {pool.name}: spec.scaling.priority is {model.priority}; namespace {model.namespace} may have "
        f"at most {limit.highest_priority} here.",
        f"spec.scaling.priority were {limit.highest_priority} or lower",
        model.priority,
        limit.highest_priority,
        "priority",
    )


def computes_on_cores_only(problem: Problem, model: Model, pool: Pool) -> Refusal | None:
    if pool.cores or not model.cores_only:
        return None
    return Refusal(
        pool.name,
        "CoresOnly",
        f"Pool {pool.name}: its devices are not cores, and a model of this architecture computes on nothing "
        "else: a server there would refuse it.",
        "it were a pool of cores (spec.device.type Cpu)",
    )


def memory_unknown(problem: Problem, model: Model, pool: Pool) -> Refusal | None:
    if pool.memory_mebibytes:
        return None
    return Refusal(
        pool.name,
        "MemoryUnknown",
        f"Pool {pool.name}: the memory of its devices is not known: spec.memoryMebibytes is left out, and no "
        "node has said it yet.",
        "the pool said its memoryMebibytes",
    )


def too_little_memory(problem: Problem, model: Model, pool: Pool) -> Refusal | None:
    needed, there = problem.mebibytes(model, pool.name), problem.slot_mebibytes(pool, model.devices)
    if needed <= there or not pool.memory_mebibytes:
        return None
    return Refusal(
        pool.name,
        "TooLittleMemory",
        f"Pool {pool.name}: {_memory_needed(problem, model, pool)}",
        _less_memory(model, pool, needed, there, pool.memory_mebibytes),
        needed - min(there, 0),
        max(there, 0),
        "MiB",
    )


def _less_memory(model: Model, pool: Pool, needed: int, there: int, of_device: int) -> str:
    """Where the server alone takes all that is there, no smaller model would do."""
    lacks = needed - there
    if model.need(pool.name).memory.source == "its pod's":
        return f"spec.serving.pod.resources said no more than {of_device * model.devices:,} MiB of memory"
    if there <= 0:
        return f"each device there had {-(-lacks // model.devices):,} MiB more"
    return f"the model took {lacks:,} MiB less"


def _memory_needed(problem: Problem, model: Model, pool: Pool) -> str:
    """A dedicated model declares the memory of a whole replica, so it is told in the same terms."""
    memory, slot = model.need(pool.name).memory, counted(model.devices, "device")
    whole = f"{memory.mebibytes + pool.server_mebibytes:,} MiB"
    has = "has" if model.devices == 1 else "have"
    there_is = f"{slot} there {has} {pool.memory_mebibytes * model.devices:,} MiB."
    if memory.source == "its pod's":
        return f"spec.serving.pod.resources say {whole} of memory; {there_is}"
    if not model.shared:
        return f"a replica takes {whole} ({memory.source}); {there_is}"
    margin = problem.mebibytes(model, pool.name) - memory.mebibytes
    with_margin = f" and {margin:,} MiB of margin" if margin else ""
    there = max(problem.slot_mebibytes(pool, model.devices), 0)
    return (
        f"the model takes {memory.mebibytes:,} MiB ({memory.source}){with_margin}; a slot of {slot} has "
        f"{there:,} MiB for models."
    )


def spot_not_wanted(problem: Problem, model: Model, pool: Pool) -> Refusal | None:
    """A shared model has all its replicas in one pool: there it is all or none."""
    if not pool.spot or model.spot_millis >= (1000 if model.shared else 1):
        return None
    share = f"{model.spot_millis / 10:g} %"
    return Refusal(
        pool.name,
        "SpotShare",
        f"Pool {pool.name}: its nodes can be taken away, and at most {share} of the replicas may be on such.",
        more_on_spot(model, max(model.replicas, 1) if model.shared else 1),
    )


def too_little_on_its_nodes(problem: Problem, model: Model, pool: Pool) -> Refusal | None:
    if pool.new_mebibytes == pool.memory_mebibytes:
        return None
    needed, there = problem.mebibytes(model, pool.name), problem.new_slot_mebibytes(pool, model.devices)
    if needed <= there:
        return None
    return Refusal(
        pool.name,
        "TooLittleMemory",
        f"Pool {pool.name}: its nodes say that a device has {pool.new_mebibytes:,} MiB, and not "
        f"{pool.memory_mebibytes:,} as the pool does; {needed - there:,} more are needed.",
        _less_memory(model, pool, needed, there, pool.new_mebibytes),
        needed - min(there, 0),
        max(there, 0),
        "MiB",
    )


def too_many_for_a_node(problem: Problem, model: Model, pool: Pool) -> Refusal | None:
    if not pool.most_on_node or model.devices <= pool.most_on_node:
        return None
    return Refusal(
        pool.name,
        "NodesTooSmall",
        f"Pool {pool.name}: no node there has {counted(model.devices, 'device')}, which one replica takes; "
        f"the largest has {pool.most_on_node:,}.",
        f"a node had {counted(model.devices, 'device')}, or spec.serving.devicesPerReplica were "
        f"{pool.most_on_node} or lower",
        model.devices,
        pool.most_on_node,
        "devices",
    )


def waited_in_vain(problem: Problem, model: Model, pool: Pool) -> Refusal | None:
    back_off = model.undelivered.get(pool.name)
    if back_off is None:
        return None
    return Refusal(
        pool.name,
        "NotDelivered",
        f"Pool {pool.name}: it {gave_no_node(back_off, pool)}.",
        f"it had a node when it is asked again, from {_moment(back_off)} on",
    )


def gave_no_node(back_off: BackOff, pool: Pool) -> str:
    """What the pool did to a model that is backed off from it, without its name."""
    return (
        f"gave a pod of the model no node within {within(pool)}, and is asked for nothing more of it until "
        f"{_moment(back_off)}"
    )


def _moment(back_off: BackOff) -> str:
    return f"{back_off.until:%H:%M:%S} UTC"


def within(pool: Pool) -> str:
    """How long pods wait there, in words."""
    minutes, rest = divmod(pool.patience_seconds, 60)
    return f"{pool.patience_seconds:,} s" if rest else counted(minutes, "minute")


CHECKS: tuple[_Check, ...] = (
    not_named,
    namespace_not_admitted,
    priority_too_high,
    computes_on_cores_only,
    memory_unknown,
    too_little_memory,
    spot_not_wanted,
)


def too_few_for_spot(model: Model, pool: Pool) -> Refusal | None:
    """Its share of so few replicas is none. Not among `CHECKS`: with more replicas the pool admits it, and so
    scaling is offered it."""
    if not pool.spot or model.shared or not model.replicas or not model.spot_millis or model.spot_replicas:
        return None
    return Refusal(
        pool.name,
        "SpotShare",
        f"Pool {pool.name}: its nodes can be taken away, and {model.spot_millis / 10:g} % of "
        f"{counted(model.replicas, 'replica')} (spec.placement.spotPercent), rounded down, is none.",
        more_on_spot(model, 1),
        1,
        0,
        "replicas",
    )


def more_on_spot(model: Model, replicas: int) -> str:
    """What would let so many of its replicas be on spot pools."""
    least = min(-(-100 * replicas // max(model.replicas, 1)), 100)
    return f"spec.placement.spotPercent were {'100' if least == 100 else f'at least {least}'}"


NEW_CHECKS: tuple[_Check, ...] = (too_little_on_its_nodes, too_many_for_a_node, waited_in_vain)
"""What keeps more of it from being placed there, and takes nothing from what runs: it follows from what nodes
are there now, and they come and go."""


def gets_nothing_new(problem: Problem, model: Model, pool: Pool) -> bool:
    return any(check(problem, model, pool) is not None for check in NEW_CHECKS)


def refusal(problem: Problem, model: Model, pool: Pool) -> Refusal | None:
    return next((found for check in CHECKS if (found := check(problem, model, pool))), None)


def refusal_of_now(problem: Problem, model: Model, pool: Pool) -> Refusal | None:
    """Of as many replicas as it asks for, whatever else runs."""
    return refusal(problem, model, pool) or too_few_for_spot(model, pool)


def admits(problem: Problem, model: Model, pool: Pool) -> bool:
    for check in CHECKS:  # noqa: SIM110 - asked for every model and pool: a generator takes twice as long
        if check(problem, model, pool) is not None:
            return False
    return True


def counted(count: int, thing: str) -> str:
    return f"1 {thing}" if count == 1 else f"{count:,} {thing}s"
