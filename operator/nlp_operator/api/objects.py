"""What a Kubernetes object is to this program: a plain dict, as the API server sends it."""

from collections.abc import Mapping
from typing import Any

Obj = dict[str, Any]
"""An object of the API, or any JSON object inside one."""


def dig(obj: Any, *path: str | int, default: Any = None) -> Any:
    """The value at a path such as `("status", "containerStatuses", 0, "state")`; `default` where it ends
    early.

    Tolerant of any shape: whatever is not a mapping or a list on the way gives `default`, so that an odd
    object (an older schema, a hand-edited status) is never a crash.
    """
    here = obj
    for step in path:
        # `type(...) is dict` first: it is what the API server's answers are made of, and asking an abstract
        # class costs six times as much; a pass over one model digs three hundred times.
        if type(here) is dict or isinstance(here, Mapping):
            if step not in here:
                return default
            here = here[step]
        elif isinstance(step, int) and isinstance(here, list | tuple) and -len(here) <= step < len(here):
            here = here[step]
        else:
            return default
    return default if here is None else here


def listed(obj: Any, *path: str | int) -> list[Obj]:
    """The objects in the list at a path; empty where there is none. What is no object is left out."""
    found = dig(obj, *path)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list | tuple) else []


def text(obj: Any, *path: str | int) -> str:
    """The string at a path; empty where there is none."""
    found = dig(obj, *path)
    return found if isinstance(found, str) else ""


def number(obj: Any, *path: str | int) -> int:
    """The integer at a path; 0 where there is none."""
    found = dig(obj, *path)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def kind(obj: Obj) -> str:
    return text(obj, "kind")


def name(obj: Obj) -> str:
    return text(obj, "metadata", "name")


def namespace(obj: Obj) -> str:
    return text(obj, "metadata", "namespace")


def uid(obj: Obj) -> str:
    return text(obj, "metadata", "uid")


def generation(obj: Obj) -> int:
    return number(obj, "metadata", "generation")


def labels(obj: Obj) -> dict[str, str]:
    return _strings(obj, "labels")


def annotations_of(obj: Obj) -> dict[str, str]:
    return _strings(obj, "annotations")


def _strings(obj: Obj, field: str) -> dict[str, str]:
    found = dig(obj, "metadata", field)
    if not isinstance(found, Mapping):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)}


def deleting(obj: Obj) -> bool:
    return bool(dig(obj, "metadata", "deletionTimestamp"))
