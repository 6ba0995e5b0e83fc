"""Whether an object still says what we wrote: every field of the manifest, and nothing about the fields of
others.

A matching hash annotation does not prove that nobody edited the object, and after a restart no memory is left
of what the server answered. So the manifest itself is compared with what is seen, field by field. The server
adds defaults and others may add labels or containers; neither is drift. Pure, and cheap enough to run for
every child on every look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from nlp_operator.api.objects import Obj

ATOMIC_MAPS = frozenset({"selector", "matchLabels", "nodeSelector", "podSelector", "namespaceSelector"})
"""One more entry changes what these mean, so a foreign entry is drift (the API calls them atomic)."""

KEYED_LISTS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "ports": ("name", "containerPort", "port", "protocol"),
}
"""Lists whose items have an identity, so that others may add theirs. All other lists are compared whole."""

QUANTITIES = frozenset({"limits", "requests", "sizeLimit"})
"""Under these the server may spell a number anew: 1000m becomes 1."""

_SUFFIXES = {
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(["", "k", "M", "G", "T", "P", "E"])},
    **{
        suffix: Decimal(1024) ** power
        for power, suffix in enumerate(["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
        if suffix
    },
    "m": Decimal("0.001"),
    "u": Decimal("0.000001"),
    "n": Decimal("0.000000001"),
}


def drift(wanted: Obj, seen: Obj) -> str | None:
    """The path of the first field that differs, such as `spec.template.spec.containers[serving].image`; else
    `None`."""
    return _differs({key: value for key, value in wanted.items() if key != "status"}, seen, "", "")


def _differs(wanted: Any, seen: Any, path: str, field: str) -> str | None:
    if isinstance(wanted, Mapping):
        return _map_differs(wanted, seen, path, field)
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return _list_differs(wanted, seen, path, field)
    if wanted == seen or (wanted in (None, "") and seen in (None, "")):
        return None
    if isinstance(wanted, str | int) and isinstance(seen, str | int) and _is_quantity(path):
        left, right = quantity(wanted), quantity(seen)
        if left is not None and left == right:
            return None
    return path


def _map_differs(wanted: Mapping[str, Any], seen: Any, path: str, field: str) -> str | None:
    if not isinstance(seen, Mapping):
        # `{}` and absent are one to a server that leaves empty fields out.
        return path if wanted or seen is not None else None
    if field in ATOMIC_MAPS and set(seen) - set(wanted):
        return path
    for name, value in wanted.items():
        found = _differs(value, seen.get(name), f"{path}.{name}" if path else name, name)
        if found is not None:
            return found
    return None


def _list_differs(wanted: Sequence[Any], seen: Any, path: str, field: str) -> str | None:
    if not isinstance(seen, Sequence) or isinstance(seen, str):
        return path if wanted or seen is not None else None
    keys = KEYED_LISTS.get(field)
    if keys is None or not all(isinstance(item, Mapping) for item in (*wanted, *seen)):
        if len(wanted) != len(seen):
            return path
        pairs = [
            (f"{path}[{number}]", item, other)
            for number, (item, other) in enumerate(zip(wanted, seen, strict=True))
        ]
    else:
        pairs = [(f"{path}[{_label(item, keys)}]", item, _find(item, seen, keys)) for item in wanted]
    for where, item, other in pairs:
        found = _differs(item, other, where, "")
        if found is not None:
            return found
    return None


def _label(item: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    return str(next((item[key] for key in keys if key in item), "?"))


def _find(item: Mapping[str, Any], seen: Sequence[Any], keys: tuple[str, ...]) -> Any:
    present = [key for key in keys if key in item]
    return next((other for other in seen if all(other.get(key) == item[key] for key in present)), None)


def _is_quantity(path: str) -> bool:
    parts = path.replace("[", ".").split(".")
    return any(part in QUANTITIES for part in parts)


def quantity(value: str | int) -> Decimal | None:
    """A Kubernetes quantity as a number; `None` when it is none."""
    text = str(value)
    number = text.rstrip("".join(sorted({letter for suffix in _SUFFIXES for letter in suffix})))
    factor = _SUFFIXES.get(text[len(number) :])
    try:
        return None if factor is None else Decimal(number) * factor
    except InvalidOperation:
        try:
            return Decimal(text)  # 1e3, which ends in a digit, and 12E2
        except InvalidOperation:
            return None


def merge_patch(seen: Any, wanted: Any) -> Any:
    """The JSON merge patch (RFC 7386) that turns one value into the other; lists are sent whole. `{}` when
    they are equal."""
    if not isinstance(seen, Mapping) or not isinstance(wanted, Mapping):
        return wanted
    patch: dict[str, Any] = {name: None for name in seen if name not in wanted}
    for name, value in wanted.items():
        if name not in seen:
            patch[name] = value
        elif seen[name] != value:
            patch[name] = merge_patch(seen[name], value)
    return patch
