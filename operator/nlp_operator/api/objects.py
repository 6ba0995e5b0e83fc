"""What a Kubernetes object is to this program: a plain dict, as the API server sends it."""

from collections.abc import Mapping
from typing import Any

Obj = dict[str, Any]
"""An object of the API, or any JSON object inside one."""


def dig(obj: Any, *path: str | int, default: Any = None) -> Any:
    """The value at a path such as `("status", "containerStatuses", 0, "state")`; `default` where it ends
    early.

    Tolerant of any shape: whatever is not a mapping or a list on the way gives `default`, so that an odd
    object
    (an older schema, a hand-edited status) is never a crash.
    """
    here = obj
    for step in path:
        if isinstance(step, int):
            if not isinstance(here, list | tuple) or not -len(here) <= step < len(here):
                return default
            here = here[step]
        else:
            if not isinstance(here, Mapping) or step not in here:
                return default
            here = here[step]
    return default if here is None else here


def kind(obj: Obj) -> str:
    return str(obj.get("kind", ""))


def name(obj: Obj) -> str:
    return str(dig(obj, "metadata", "name", default=""))


def namespace(obj: Obj) -> str:
    return str(dig(obj, "metadata", "namespace", default=""))


def uid(obj: Obj) -> str:
    return str(dig(obj, "metadata", "uid", default=""))


def generation(obj: Obj) -> int:
    value = dig(obj, "metadata", "generation", default=0)
    return value if isinstance(value, int) else 0


def labels(obj: Obj) -> Mapping[str, str]:
    value = dig(obj, "metadata", "labels", default={})
    return value if isinstance(value, Mapping) else {}


def annotations_of(obj: Obj) -> Mapping[str, str]:
    value = dig(obj, "metadata", "annotations", default={})
    return value if isinstance(value, Mapping) else {}


annotations = annotations_of  # the name some callers still use


def deleting(obj: Obj) -> bool:
    return bool(dig(obj, "metadata", "deletionTimestamp"))
