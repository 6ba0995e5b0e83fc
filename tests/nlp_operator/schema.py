"""A value against the schema of a CRD, for tests without an API server: the part of OpenAPI our CRDs use."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PYTHON_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
}


def crd_schema(crd: str) -> dict[str, Any]:
    manifest = yaml.safe_load((ROOT / "crds" / f"{crd}.yaml").read_text(encoding="utf-8"))
    schema: dict[str, Any] = manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def misfits(schema: dict[str, Any], value: Any, path: str = "") -> list[str]:
    """Where a value leaves the schema, unknown fields included; CEL rules are not looked at."""
    if schema.get("x-kubernetes-int-or-string"):
        return [] if isinstance(value, int | str) else [f"{path} is no integer or string"]
    if not isinstance(value, PYTHON_TYPES[schema["type"]]) or (
        schema["type"] == "integer" and isinstance(value, bool)
    ):
        return [f"{path} is no {schema['type']}"]
    found = _bounds(schema, value, path)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        found += [f"{path}.{name} is missing" for name in schema.get("required", []) if name not in value]
        for name, inner in value.items():
            below = known.get(name, schema.get("additionalProperties"))
            where = f"{path}.{name}"
            found += [f"{where} is unknown"] if below is None else misfits(below, inner, where)
    if isinstance(value, list):
        for number, inner in enumerate(value):
            found += misfits(schema["items"], inner, f"{path}[{number}]")
    return found


def _bounds(schema: dict[str, Any], value: Any, path: str) -> list[str]:
    size = len(value) if isinstance(value, str | list | dict) else 0
    checks: list[tuple[str, Callable[[Any], bool]]] = [
        ("enum", lambda bound: value in bound),
        ("minimum", lambda bound: value >= bound),
        ("maximum", lambda bound: value <= bound),
        ("maxLength", lambda bound: size <= bound),
        ("maxItems", lambda bound: size <= bound),
        ("maxProperties", lambda bound: size <= bound),
        ("pattern", lambda bound: re.search(bound, value) is not None),
    ]
    return [f"{path} breaks {word}" for word, holds in checks if word in schema and not holds(schema[word])]
