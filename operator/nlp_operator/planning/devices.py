"""How many devices of a pool a pod holds, or a Deployment."""

from __future__ import annotations

from collections.abc import Iterable

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, dig, labels, listed, name, number
from nlp_operator.api.spec import PoolSpec, parse_pool
from nlp_operator.errors import SpecInvalid
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


def devices_of_deployment(deployment: Obj, pools: Iterable[Obj]) -> int:
    """Replicas times what the pod template holds. Of a pool that is gone or not readable nobody else can be
    given a device, so there any count will do."""
    pool = next((one for one in pools if name(one) == labels(deployment).get(names.LABEL_POOL)), None)
    try:
        spec = parse_pool(pool) if pool is not None else None
    except SpecInvalid:
        spec = None
    each = devices_of(dig(deployment, "spec", "template", default={}), spec) if spec is not None else 1
    return number(deployment, "spec", "replicas") * each


def amount(obj: Obj, *path: str) -> int:
    """A quantity in thousandths; 0 where there is none, or one of a form that nobody uses for devices."""
    value = dig(obj, *path, default=0)
    if not isinstance(value, str | int) or isinstance(value, bool):
        return 0
    try:
        return thousandths(value)
    except ValueError:
        return 0
