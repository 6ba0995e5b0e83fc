"""docs/extending.md as what it tells its reader to make: files, and a schema entry."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs/extending.md"
CRD = ROOT / "crds/nlpmodels.yaml"

_FILE = re.compile(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_JSON = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ASKED = re.compile(r"^curl \S+/generate -d '(.*)'$", re.MULTILINE)

FOLDER = "nlp_architectures/ngram_profiles/"
ENTRY = "ngram-profiles.yaml"
KUSTOMIZATION = "kustomization.yaml"
MANIFEST = "speech-levels.yaml"
DOCKERFILE = "Dockerfile"


@dataclass(frozen=True)
class Page:
    text: str

    @cached_property
    def files(self) -> Mapping[str, str]:
        """Every file that the page shows, by its path: `path`: and a block of code below."""
        return dict(_FILE.findall(self.text))

    @property
    def folder(self) -> Mapping[str, str]:
        return {path: content for path, content in self.files.items() if path.startswith(FOLDER)}

    @property
    def entry(self) -> list[dict[str, Any]]:
        """The operations of the patch."""
        operations: list[dict[str, Any]] = yaml.safe_load(self.files[ENTRY])
        return operations

    @property
    def config_map(self) -> dict[str, Any]:
        return self._manifests[0]

    @property
    def model(self) -> dict[str, Any]:
        return self._manifests[1]

    @property
    def _manifests(self) -> list[dict[str, Any]]:
        return list(yaml.safe_load_all(self.files[MANIFEST]))

    @property
    def asked(self) -> dict[str, Any]:
        """The body of the request it shows."""
        (body,) = _ASKED.findall(self.text)
        asked: dict[str, Any] = json.loads(body)
        return asked

    @property
    def answered(self) -> dict[str, Any]:
        """The answer it shows."""
        (body,) = _JSON.findall(self.text)
        answered: dict[str, Any] = json.loads(body)
        return answered


def read_page() -> Page:
    return Page(PAGE.read_text(encoding="utf-8"))


def crd() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(CRD.read_text(encoding="utf-8"))
    return content


def patched(document: dict[str, Any], operations: list[dict[str, Any]]) -> dict[str, Any]:
    """With the additions of a JSON patch (RFC 6902); kustomize does the same on a cluster."""
    changed = copy.deepcopy(document)
    for operation in operations:
        assert operation["op"] == "add"
        *way, last = operation["path"].removeprefix("/").split("/")
        place: Any = changed
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        if isinstance(place, list):
            assert last == "-"
            place.append(operation["value"])
        else:
            assert last not in place
            place[last] = operation["value"]
    return changed


def spec_schema(document: dict[str, Any]) -> dict[str, Any]:
    """The schema of `spec` in a CRD."""
    schema: dict[str, Any] = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return dict(schema["spec"])


def write_image(page: Page, folder: Path) -> Path:
    """`/opt/app` of an image made by the page's Dockerfile: our code, untouched, and what its COPY adds."""
    first, second = page.files[DOCKERFILE].splitlines()
    word, source, target = second.split()
    assert first.startswith("FROM ")
    assert (word, target.rpartition("/")[0]) == ("COPY", "/opt/app")
    app, context = folder / "app", folder / "context"
    for path, content in page.folder.items():
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        (context / path).write_text(content, encoding="utf-8")
    app.mkdir()
    (app / "nlp_bucket").symlink_to(ROOT / "operator/nlp_bucket")
    (app / "model_builders").symlink_to(ROOT / "model_builders")
    (context / source).rename(app / Path(target).name)
    return app
