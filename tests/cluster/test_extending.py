"""The schema entry of docs/extending.md, put in by the overlay it shows, before a real API server."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster.api import ApiRefused
from localcluster.control_plane import ControlPlane
from tests.model_builders.extending.page import (
    ENTRY,
    KUSTOMIZATION,
    ROOT,
    Page,
    crd,
    patched,
    read_page,
)

GROUP = "extending.nlp-operator.io"
"""Of its own, for the other tests share the API server and its CRDs."""
CRD_NAME = f"nlpmodels.{GROUP}"
MODELS = f"/apis/{GROUP}/v1alpha1/namespaces/{{}}/nlpmodels?fieldValidation=Strict&dryRun=All"

Object = dict[str, Any]


@pytest.fixture(scope="module")
def page() -> Page:
    return read_page()


@pytest.fixture(scope="module")
def rendered(
    control_plane: ControlPlane, page: Page, tmp_path_factory: pytest.TempPathFactory
) -> list[Object]:
    root = tmp_path_factory.mktemp("overlay")
    (root / "manifests").symlink_to(ROOT / "manifests")
    (root / "mine").mkdir()
    for name in (KUSTOMIZATION, ENTRY):
        (root / "mine" / name).write_text(page.files[name], encoding="utf-8")
    return kustomized(control_plane, root / "mine")


def kustomized(control_plane: ControlPlane, folder: Path) -> list[Object]:
    return list(yaml.safe_load_all(control_plane.kubectl("kustomize", folder)))


def named(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [one for one in objects if one["kind"] == kind and one["metadata"]["name"].startswith(name)]
    return found


def test_the_overlay_changes_the_definition_and_the_builders_image_alone(
    control_plane: ControlPlane, rendered: list[Object], page: Page
) -> None:
    before = kustomized(control_plane, ROOT / "manifests/default")
    definition = named(rendered, "CustomResourceDefinition", "nlpmodels.")
    assert definition["spec"] == patched(crd(), page.entry)["spec"]
    settings = named(rendered, "ConfigMap", "nlp-operator-settings")
    earlier = named(before, "ConfigMap", "nlp-operator-settings")
    image = {"NLP_OPERATOR_BUILDER_IMAGE": "registry.example/team/builder:0.1.0"}
    assert settings["data"] == {**earlier["data"], **image}
    names = [(earlier["metadata"]["name"], settings["metadata"]["name"])]  # with the hash of what is in it
    changed = ("CustomResourceDefinition", "nlpmodels.nlp-operator.io"), ("ConfigMap", names[0][1])
    assert [one for one in rendered if key(one) not in changed] == [
        yaml.safe_load(yaml.safe_dump(one).replace(*names[0]))
        for one in before
        if key(one) not in (changed[0], ("ConfigMap", names[0][0]))
    ]


def key(one: Object) -> tuple[str, str]:
    return one["kind"], one["metadata"]["name"]


@pytest.fixture(scope="module")
def defined(control_plane: ControlPlane, rendered: list[Object]) -> Iterator[None]:
    definition = copy.deepcopy(named(rendered, "CustomResourceDefinition", "nlpmodels."))
    definition["metadata"] = {"name": CRD_NAME}
    definition["spec"]["group"] = GROUP
    del definition["spec"]["names"]["shortNames"]
    control_plane.apply(definition)
    control_plane.wait_for_crds(f"crd/{CRD_NAME}")
    yield
    control_plane.kubectl("delete", f"crd/{CRD_NAME}", "--timeout=60s")


def model(page: Page, **build: Any) -> Object:
    made = {**page.model, "apiVersion": f"{GROUP}/v1alpha1"}
    made["spec"] = {**made["spec"], "build": {**made["spec"]["build"], **build}}
    made["spec"]["build"] = {name: one for name, one in made["spec"]["build"].items() if one is not None}
    return made


@pytest.mark.usefixtures("defined")
def test_the_api_server_fills_in_the_defaults_of_the_entry(
    control_plane: ControlPlane, namespace: str, page: Page
) -> None:
    stored = control_plane.api.post(MODELS.format(namespace), model(page))
    assert stored["spec"]["build"]["ngramProfiles"] == {"longest": 5, "profileSize": 300}


@pytest.mark.usefixtures("defined")
@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        pytest.param(
            {"ngramProfiles": {"longest": 6}},
            "spec.build.ngramProfiles.longest in body should be less than or equal to 5",
            id="out of its bounds",
        ),
        pytest.param(
            {"ngramProfiles": {"size": 3}},
            'unknown field "spec.build.ngramProfiles.size"',
            id="a misspelt parameter",
        ),
        pytest.param(
            {"ngramProfiles": None},
            "spec.build.ngramProfiles must be set (it may be {}) when the architecture is NgramProfiles",
            id="no member",
        ),
        pytest.param(
            {"architecture": "OneHot", "oneHot": {}},
            "spec.build.ngramProfiles must be set (it may be {}) when the architecture is NgramProfiles, and "
            "only then.",
            id="the member of another architecture",
        ),
    ],
)
def test_the_api_server_refuses_what_the_entry_does_not_allow(
    control_plane: ControlPlane, namespace: str, page: Page, build: Object, sentence: str
) -> None:
    with pytest.raises(ApiRefused) as refused:
        control_plane.api.post(MODELS.format(namespace), model(page, **build))
    assert sentence in str(refused.value)
