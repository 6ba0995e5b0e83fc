"""The typed spec and the schema in crds/ say the same, field by field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from nlp_operator.api.spec import ModelSpec, PoolSpec, to_camel_name

ROOT = Path(__file__).resolve().parents[3]
CRDS: dict[str, type[BaseModel]] = {"nlpmodels": ModelSpec, "devicepools": PoolSpec}
KUBECTL_ANNOTATION_LIMIT = 256 * 1024
"""`kubectl apply` keeps the whole manifest in an annotation; all of them together may have so many bytes."""
GOAL = 64 * 1024


def schema_of(crd: str) -> dict[str, Any]:
    manifest = yaml.safe_load((ROOT / "crds" / f"{crd}.yaml").read_text())
    schema: dict[str, Any] = manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def facts_of_crd(node: dict[str, Any], path: str = "spec") -> dict[str, Any]:
    """What can be said of each field, flat: `spec.build.trigger maxLength` is 256. Defaults of fields in list
    items are our reader's, not the API server's (see below)."""
    facts = _bounds(node, path)
    if node.get("x-kubernetes-int-or-string"):
        facts[f"{path} type"] = "integer or string"
        return facts
    facts[f"{path} type"] = node["type"]
    for name, child in node.get("properties", {}).items():
        facts |= facts_of_crd(child, f"{path}.{name}")
        facts[f"{path}.{name} required"] = name in node.get("required", [])
        default = child.get("default")
        if default is not None:
            facts[f"{path}.{name} default"] = with_inner_defaults(child, default)
    if "items" in node:
        facts |= facts_of_crd(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        facts |= facts_of_crd(node["additionalProperties"], f"{path}{{}}")
    return facts


def _bounds(node: dict[str, Any], path: str) -> dict[str, Any]:
    words = (
        "enum",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "pattern",
        "minItems",
        "maxItems",
        "maxProperties",
    )
    return {f"{path} {word}": node[word] for word in words if word in node}


def with_inner_defaults(node: dict[str, Any], value: Any) -> Any:
    """A default as the API server fills it in."""
    if not isinstance(value, dict):
        return value
    filled = dict(value)
    for name, child in node.get("properties", {}).items():
        if name in filled:
            filled[name] = with_inner_defaults(child, filled[name])
        elif "default" in child:
            filled[name] = with_inner_defaults(child, child["default"])
    return filled


def facts_of_types(shape: type[BaseModel]) -> dict[str, Any]:
    schema = shape.model_json_schema(by_alias=True)
    return _facts_of_type(schema, schema.get("$defs", {}), "spec")


def _facts_of_type(node: dict[str, Any], defs: dict[str, Any], path: str) -> dict[str, Any]:
    node = _resolved(node, defs)
    kinds = {one.get("type") for one in node.get("anyOf", [])}
    if kinds == {"integer", "string"}:
        text = next(one for one in node["anyOf"] if one["type"] == "string")
        return _bounds(text, path) | {f"{path} type": "integer or string"}
    facts = _bounds(node, path) | {f"{path} type": node["type"]}
    if "const" in node:
        facts[f"{path} enum"] = [node["const"]]
    for name, child in node.get("properties", {}).items():
        facts |= _facts_of_type(child, defs, f"{path}.{name}")
        facts[f"{path}.{name} required"] = name in node.get("required", [])
        default = _resolved(child, defs).get("default", child.get("default"))
        if default is not None and not (isinstance(default, dict) and not _is_object(child, defs)):
            facts[f"{path}.{name} default"] = _without_empty(default)
    if "items" in node:
        facts |= _facts_of_type(node["items"], defs, f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        facts |= _facts_of_type(node["additionalProperties"], defs, f"{path}{{}}")
    return facts


def _is_object(child: dict[str, Any], defs: dict[str, Any]) -> bool:
    return "properties" in _resolved(child, defs)


def _resolved(node: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """Without references, and without the null of an optional field: absent is the API's null."""
    if "$ref" in node:
        there: dict[str, Any] = defs[node["$ref"].rsplit("/", 1)[1]]
        return there | {key: value for key, value in node.items() if key != "$ref"}
    choices = [one for one in node.get("anyOf", []) if one != {"type": "null"}]
    if len(choices) == 1:
        return _resolved(choices[0], defs) | {key: value for key, value in node.items() if key == "default"}
    return node


def _without_empty(value: Any) -> Any:
    """A default as the schema writes it: what is empty or unset is left out."""
    if not isinstance(value, dict):
        return value
    kept = {key: _without_empty(inner) for key, inner in value.items()}
    return {key: inner for key, inner in kept.items() if inner is not None and inner != [] and inner != {}}


def _normal(facts: dict[str, Any]) -> dict[str, Any]:
    """Empty containers default to themselves in Python, and to nothing in the schema; both mean the same."""
    normal = {}
    for key, value in facts.items():
        value = _without_empty(value) if key.endswith(" default") else value
        if key.endswith(" default") and value in ({}, []):
            continue
        if key.endswith(" default") and "[]" in key:
            continue
        normal[key] = sorted(value) if key.endswith(" enum") else value
    return normal


@pytest.mark.parametrize("crd", sorted(CRDS))
def test_typed_spec_and_schema_agree(crd: str) -> None:
    schema = _normal(facts_of_crd(schema_of(crd)["properties"]["spec"]))
    types = _normal(facts_of_types(CRDS[crd]))
    for only_here in ("maxLength", "pattern"):  # what is allowed beyond the list, docs/extending.md says
        types.pop(f"spec.build.architecture {only_here}", None)
    offered = schema.pop("spec.build.architecture enum", [])
    members = {to_camel_name(one) for one in offered}
    assert {f"spec.build.{one} type" for one in members} <= types.keys()
    differing = {key: (schema.get(key), types.get(key)) for key in sorted(schema.keys() | types.keys())}
    assert {key: pair for key, pair in differing.items() if pair[0] != pair[1]} == {}


@pytest.mark.parametrize("crd", sorted(CRDS))
def test_no_field_in_a_list_has_a_default(crd: str) -> None:
    """`kubectl apply` and Argo CD compare lists of custom resources whole: a default that the API server puts
    into an item differs from the manifest in git for ever. The typed spec fills in what is absent there."""
    nodes = walk(schema_of(crd)["properties"]["spec"], "spec")
    assert [path for path, node in nodes if "default" in node and "[]" in path] == []


@pytest.mark.parametrize("crd", sorted(CRDS))
def test_a_status_that_nobody_has_written_is_in_progress_for_kstatus(crd: str) -> None:
    assert schema_of(crd)["properties"]["status"]["default"] == {"observedGeneration": -1}


WORDS = {
    "additionalProperties", "anyOf", "default", "description", "enum", "format", "items", "maxItems",
    "maxLength", "maxProperties", "maximum", "minItems", "minLength", "minProperties", "minimum",
    "multipleOf", "pattern", "properties", "required", "type", "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type", "x-kubernetes-map-type", "x-kubernetes-validations",
}  # fmt: skip
"""Those of the API server's schemas that ours use."""


@pytest.mark.parametrize("crd", sorted(CRDS))
def test_a_schema_holds_no_word_that_the_api_server_does_not_know(crd: str) -> None:
    """As a comma in a description without quotes makes one: YAML takes what follows for a key."""
    nodes = walk(schema_of(crd), "")
    assert [(path, word) for path, node in nodes for word in node if word not in WORDS] == []


@pytest.mark.parametrize("crd", sorted(CRDS))
def test_crd_file_is_small_enough_for_kubectl_apply(crd: str) -> None:
    assert len((ROOT / "crds" / f"{crd}.yaml").read_bytes()) < GOAL < KUBECTL_ANNOTATION_LIMIT


def walk(node: dict[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    found = [(path, node)]
    for name, child in node.get("properties", {}).items():
        found += walk(child, f"{path}.{name}")
    if "items" in node:
        found += walk(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        found += walk(node["additionalProperties"], f"{path}{{}}")
    return found


@pytest.mark.parametrize("crd", sorted(CRDS))
def test_every_field_is_described_and_bounded(crd: str) -> None:
    wanting = []
    for path, node in walk(schema_of(crd), crd):
        kind = node.get("type")
        bounds = {
            "string": ("maxLength", "enum", "format"),
            "array": ("maxItems",),
            "object": ("properties", "maxProperties"),
        }.get(kind or "", ())
        fixed = path == f"{crd}.metadata" or path.endswith((".apiVersion", ".kind"))
        if bounds and not fixed and not any(bound in node for bound in bounds):
            wanting.append(f"{path} has no bound")
        numeric = kind == "integer" and ".spec." in path
        if numeric and not {"minimum", "maximum"} <= node.keys():
            wanting.append(f"{path} has no minimum or maximum")
        if "description" not in node and not path.endswith(("[]", "{}", ".metadata")):
            wanting.append(f"{path} has no description")
    assert wanting == []


@pytest.mark.parametrize("crd", sorted(CRDS))
def test_every_rule_has_a_sentence_as_its_message(crd: str) -> None:
    rules = [
        rule for _, node in walk(schema_of(crd), crd) for rule in node.get("x-kubernetes-validations", [])
    ]
    assert rules
    for rule in rules:
        assert rule["message"].endswith("."), rule
        assert " " in rule["message"], rule


@pytest.mark.parametrize("crd", sorted(CRDS))
def test_schema_uses_no_float_and_keeps_no_unknown_field(crd: str) -> None:
    nodes = walk(schema_of(crd), crd)
    assert not [path for path, node in nodes if node.get("type") == "number"]
    assert not [path for path, node in nodes if "x-kubernetes-preserve-unknown-fields" in node]


def test_samples_parse() -> None:
    from nlp_operator.api.spec import parse_model, parse_pool

    parsed = 0
    for path in sorted((ROOT / "manifests" / "samples").rglob("*.yaml")):
        for manifest in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if manifest["kind"] == "NLPModel":
                parse_model(manifest)
                parsed += 1
            elif manifest["kind"] == "DevicePool":
                parse_pool(manifest)
                parsed += 1
    assert parsed >= 3


def test_sample_holds_the_counts_of_the_example() -> None:
    path = ROOT / "manifests" / "samples" / "korean-novels.yaml"
    config_map = next(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    header, *rows = config_map["data"]["novels.tsv"].splitlines()
    assert header == "document\ttext"
    counts = {}
    for row in rows:
        document, text = row.split("\t")
        tokens = text.split()
        counts[document] = [tokens.count(word) for word in ("기차", "막걸리", "선술집")]
    assert counts == {
        "메밀꽃 필 무렵": [0, 0, 0],
        "운수 좋은 날": [2, 1, 1],
        "사랑 손님과 어머니": [10, 0, 0],
        "삼포 가는 길": [7, 0, 0],
    }
