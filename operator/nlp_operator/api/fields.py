"""Which fields a manifest has that the API has not.

The API server drops unknown fields, and `kubectl apply` refuses them before; where neither is at hand, a
misspelt field would silently be its default.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel


def unknown_fields(shape: type[BaseModel], value: Any, path: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The path of each field in `value` that `shape` does not have, and the names it has there.

    What is of another type than the shape says is left to the parser.
    """
    if not isinstance(value, dict):
        return
    fields = {field.alias or name: field for name, field in shape.model_fields.items()}
    for key, inner in value.items():
        if key not in fields:
            yield f"{path}.{key}", tuple(fields)
            continue
        for member in _shapes_in(fields[key].annotation):
            items = enumerate(inner) if isinstance(inner, list) else ()
            if isinstance(inner, dict):
                yield from unknown_fields(member, inner, f"{path}.{key}")
            for number, item in items:
                yield from unknown_fields(member, item, f"{path}.{key}[{number}]")


def _shapes_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The objects a field can hold: itself, what is in its list, what is not None in its union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, list):
        for one in get_args(annotation):
            yield from _shapes_in(one)
    elif get_origin(annotation) is Annotated:
        yield from _shapes_in(get_args(annotation)[0])
