"""Manifests for the tests; each says only what it is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

SAMPLES = Path(__file__).resolve().parents[3] / "manifests/samples"


def make_model(name: str = "novels", source: dict[str, Any] | None = None, **build: Any) -> dict[str, Any]:
    source = source or {"configMap": {"name": name}}
    return {
        "apiVersion": "nlp-operator.io/v1alpha1",
        "kind": "NLPModel",
        "metadata": {"name": name},
        "spec": {
            "build": {
                "architecture": "TermDocumentMatrix",
                "termDocumentMatrix": {"tokenizer": "Whitespace"},
                "inputs": [{"name": "corpus", "source": source}],
                **build,
            }
        },
    }


def make_config_map(name: str = "novels", **data: str) -> dict[str, Any]:
    data = data or {"a.txt": "기차 막걸리", "b.txt": "기차"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def write(folder: Path, *objects: object, name: str = "model.yaml") -> str:
    """The path of a file with these documents."""
    path = folder / name
    path.write_text(yaml.safe_dump_all(objects, allow_unicode=True), encoding="utf-8")
    return str(path)
