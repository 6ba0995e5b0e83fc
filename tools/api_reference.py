"""docs/api/nlpmodel.md from the CRDs: every field a user can set, and every one the operator fills in.

python -m tools.api_reference --write FILE
python -m tools.api_reference --check FILE     exit 1 when the file is not what the CRDs say
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
CRDS = ("nlpmodels", "devicepools")
INTRODUCTION = """# API reference

Generated from `crds/` by `python -m tools.api_reference`; change a description there. Group
`nlp-operator.io`, version `v1alpha1`. `kubectl explain nlpmodel.spec` shows the same on a cluster.

A field in **bold** is required. Defaults are filled in by the API server. Decimals are strings, so that no
tool rounds them.
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.api_reference", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", type=Path, metavar="FILE")
    action.add_argument("--check", type=Path, metavar="FILE")
    chosen = parser.parse_args(arguments)
    text = render()
    if chosen.write is not None:
        chosen.write.parent.mkdir(parents=True, exist_ok=True)
        chosen.write.write_text(text, encoding="utf-8")
        return 0
    if chosen.check.exists() and chosen.check.read_text(encoding="utf-8") == text:
        return 0
    print(
        f"{chosen.check} is not what crds/ say; run `python -m tools.api_reference --write {chosen.check}`.",
        file=sys.stderr,
    )
    return 1


def render() -> str:
    return "\n".join([INTRODUCTION, *(_kind(name) for name in CRDS)])


def _kind(crd: str) -> str:
    manifest = yaml.safe_load((ROOT / "crds" / f"{crd}.yaml").read_text(encoding="utf-8"))
    version = manifest["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    names = manifest["spec"]["names"]
    lines = [f"## {names['kind']}", "", schema["description"], ""]
    lines += [f"{manifest['spec']['scope']}. {_names(names)}", ""]
    lines += ["### Rules the API server checks", ""]
    lines += [f"* {message}" for message in _rules(schema)]
    for part in ("spec", "status"):
        lines += ["", f"### {names['kind']} {part}", "", schema["properties"][part]["description"], ""]
        lines += ["| field | type | default | what it is |", "| --- | --- | --- | --- |"]
        lines += _rows(schema["properties"][part], part)
    return "\n".join(lines) + "\n"


def _names(names: dict[str, Any]) -> str:
    short = "".join(f", `kubectl get {name}`" for name in names.get("shortNames", []))
    return f"`kubectl get {names['plural']}`{short}."


def _rules(schema: dict[str, Any]) -> list[str]:
    """Each message once, in the order of the schema."""
    found = [rule["message"] for rule in schema.get("x-kubernetes-validations", [])]
    for child in _children(schema):
        found += _rules(child)
    return list(dict.fromkeys(found))


def _children(schema: dict[str, Any]) -> list[dict[str, Any]]:
    children = [*schema.get("properties", {}).values()]
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            children.append(schema[key])
    return children


def _rows(schema: dict[str, Any], path: str) -> list[str]:
    rows = []
    for name, child in schema.get("properties", {}).items():
        where = f"{path}.{name}"
        shown = f"**`{where}`**" if name in schema.get("required", []) else f"`{where}`"
        cells = (shown, _type(child), _default(child), child.get("description", ""))
        rows.append("| " + " | ".join(_markdown(cell) for cell in cells) + " |")
        rows += _rows(child, where)
        if "items" in child:
            rows += _rows(child["items"], f"{where}[]")
    return rows


def _markdown(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(str(value) if value != "" else '""' for value in schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    kind: str = schema["type"]
    if kind == "array":
        inner = schema["items"]
        of = "" if inner["type"] == "object" else f" of {inner['type']}"
        return f"list{of}{_at_most(schema, 'maxItems')}"
    if kind == "object" and "additionalProperties" in schema:
        return f"map{_at_most(schema, 'maxProperties')}"
    if kind == "integer":
        return kind + _range(schema)
    return kind + _at_most(schema, "maxLength")


def _at_most(schema: dict[str, Any], word: str) -> str:
    return f", at most {schema[word]:,}" if word in schema else ""


def _range(schema: dict[str, Any]) -> str:
    if "minimum" not in schema:
        return ""
    return f", {schema['minimum']:,} to {schema['maximum']:,}"


def _default(schema: dict[str, Any]) -> str:
    default = schema.get("default")
    if default in (None, "", {}):
        return ""
    if isinstance(default, dict):
        return ", ".join(f"{key}: {value}" for key, value in default.items())
    return str(default).lower() if isinstance(default, bool) else str(default)


if __name__ == "__main__":
    sys.exit(main())
