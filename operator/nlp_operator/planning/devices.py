"""How many devices of a pool a pod holds."""

from __future__ import annotations

from nlp_operator.api.objects import Obj, dig, listed
from nlp_operator.api.spec import PoolSpec
from nlp_operator.resources.pods import thousandths


def devices_of(pod: Obj, pool: PoolSpec) -> int:
    """By the requests of a pod or a pod template; of a Cpu pool every slot it has begun."""
    total = 0
    for container in listed(pod, "spec", "containers"):
        if pool.device.cpu is not None:
            requested = amount(container, "resources", "requests", "cpu")
            total += -(-requested // pool.device.cpu.millicores)
        elif pool.device.extended_resource is not None:
            total += amount(container, "resources", "limits", pool.device.extended_resource.name) // 1000
    return total


def amount(obj: Obj, *path: str) -> int:
    """A quantity in thousandths; 0 where there is none, or one of a form that nobody uses for devices."""
    value = dig(obj, *path, default=0)
    if not isinstance(value, str | int) or isinstance(value, bool):
        return 0
    try:
        return thousandths(value)
    except ValueError:
        return 0
