"""The chart follows the manifests, and says so when it cannot."""

from __future__ import annotations

import dataclasses
import tomllib
from typing import Any

import pytest

from nlp_operator.settings import Settings
from tools import helm_chart
from tools.helm_chart import ROOT, Change, Differs, Manifest, bind, camel, insert, only_if, read

VALUES = {"replicas": 1, "resources": {"limits": {"memory": "512Mi"}}}
DEPLOYMENT = """\
spec:
  replicas: 1
  template:
    spec:
      containers:
        - name: operator
          resources:
            # why
            limits: {memory: 512Mi}
          ports: []
"""


def change(with_: Change, text: str = DEPLOYMENT, values: dict[str, Any] = VALUES) -> str:
    return with_(text, Manifest("manifests/x.yaml", values))


def test_value_takes_the_place_of_a_key_and_of_all_below_it() -> None:
    assert "\n  replicas: {{ $.Values.replicas }}\n" in change(bind("replicas", "replicas"))
    changed = change(bind("resources", "resources"))
    assert "\n          resources: {{- toYaml $.Values.resources | nindent 12 }}\n          ports" in changed


def test_default_that_is_not_the_manifests_is_told_with_both() -> None:
    with pytest.raises(Differs, match=r"^manifests/x.yaml says 1 for 'replicas', but replicas in .* is 2\."):
        change(bind("replicas", "replicas"), values={"replicas": 2})


@pytest.mark.parametrize(
    "with_",
    [bind("image", "images.operator"), insert("  absent: true", "x"), only_if("x", "ClusterRole")],
    ids=["key", "line", "document"],
)
def test_manifest_without_what_the_chart_replaces_is_told(with_: Change) -> None:
    with pytest.raises(Differs, match=r"^manifests/x.yaml has "):
        change(with_)


def test_every_setting_can_be_set() -> None:
    offered = read("charts/nlp-operator/values.schema.json")["properties"]["settings"]["properties"]
    of_their_own = {camel(name) for name in helm_chart.NOT_SETTINGS}
    assert set(offered) | of_their_own == {camel(one.name) for one in dataclasses.fields(Settings)}
    assert not set(offered) & of_their_own


def test_chart_and_images_have_the_version_of_the_release() -> None:
    release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = read("charts/nlp-operator/Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (release, release)
    images = read("charts/nlp-operator/values.yaml")["images"].values()
    assert {image.rpartition(":")[2] for image in images} == {release}
