"""A manifest is read as kubectl reads it and held to what the operator holds it to."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from nlpctl.errors import ManifestInvalid
from nlpctl.local.manifests import read_manifests
from tests.nlpctl.local.making import SAMPLES, make_config_map, make_model, write


def test_every_sample_with_a_model_is_read() -> None:
    for sample in sorted(SAMPLES.glob("*.yaml")):
        objects = list(yaml.safe_load_all(sample.read_text(encoding="utf-8")))
        named = [one["metadata"]["name"] for one in objects if one["kind"] == "NLPModel"]
        assert not named or [model.name for model in read_manifests([str(sample)]).models] == named


def test_documents_of_several_files_and_lists_come_together(tmp_path: Path) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [make_model("a"), make_config_map("a")]}
    files = [write(tmp_path, listed, name="1.yaml"), write(tmp_path, None, make_model("b"), name="2.yaml")]
    found = read_manifests(files)
    assert [model.name for model in found.models] == ["a", "b"]
    assert list(found.config_maps) == [("default", "a")]


def test_what_means_nothing_without_a_cluster_is_named(tmp_path: Path) -> None:
    pool = {"apiVersion": "nlp-operator.io/v1alpha1", "kind": "DevicePool", "metadata": {"name": "cpu"}}
    assert read_manifests([write(tmp_path, pool, make_model())]).left_out == ("DevicePool cpu",)


def test_standard_input_is_a_file_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(yaml.safe_dump(make_model())))
    assert [model.name for model in read_manifests(["-"]).models] == ["novels"]


def test_a_folder_stands_for_the_manifests_in_it(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.json", "c.yml"):
        write(tmp_path, make_model(name[0]), name=name)
    (tmp_path / "notes.txt").write_text("not a manifest")
    (tmp_path / "deeper.yaml").mkdir()
    write(tmp_path / "deeper.yaml", make_model("d"), name="d.yaml")
    assert [model.name for model in read_manifests([str(tmp_path)]).models] == ["a", "b", "c"]


def test_in_a_folder_the_wrong_file_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, {**make_model(), "apiVersion": "v1"})
    with pytest.raises(ManifestInvalid, match=f"^{file}: NLPModel novels: apiVersion is 'v1'"):
        read_manifests([str(tmp_path)])


def test_a_folder_without_manifests_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a manifest")
    with pytest.raises(ManifestInvalid, match=r"no file in this folder ends in \.json, \.yaml, \.yml\."):
        read_manifests([str(tmp_path)])


def with_spec(**spec: Any) -> dict[str, Any]:
    model = make_model()
    return {**model, "spec": {**model["spec"], **spec}}


@pytest.mark.parametrize(
    ("obj", "sentence"),
    [
        pytest.param(
            make_model(termDocumentMatrix={"weigting": "Count"}),
            "spec.build.termDocumentMatrix.weigting is no field. Did you mean weighting?",
            id="misspelt field",
        ),
        pytest.param(
            with_spec(serving={"zzz": 1}),
            "spec.serving.zzz is no field. There are: devicesPerReplica,",
            id="no such",
        ),
        pytest.param(
            with_spec(serving={"maxBatchSize": 0}),
            "spec.serving.maxBatchSize is 0: input should be greater than or equal to 1.",
            id="out of bounds",
        ),
        pytest.param(
            make_model(inputs=[{"name": "c", "source": {"configMap": {"nam": "x"}}}]),
            "spec.build.inputs[0].source.configMap.nam is no field. Did you mean name?",
            id="in a list",
        ),
        pytest.param(make_model("Novels"), "metadata.name is 'Novels'; it must be", id="name"),
        pytest.param(make_model("n" * 41), "at most 40", id="long name"),
        pytest.param(
            {**make_model(), "apiVersion": "v1"}, "apiVersion is 'v1'; it must be nlp-", id="version"
        ),
        pytest.param({**make_model(), "spec": None}, "NLPModel novels: spec", id="no spec"),
        pytest.param({"kind": "NLPModel"}, "a NLPModel has no metadata", id="no metadata"),
        pytest.param(make_config_map(), "there is no NLPModel in it, only", id="no model"),
        pytest.param("just text", "document 1 is a str; it must be an object", id="no object"),
    ],
)
def test_a_wrong_manifest_says_where_and_what(tmp_path: Path, obj: object, sentence: str) -> None:
    with pytest.raises(ManifestInvalid) as refused:
        read_manifests([write(tmp_path, obj)])
    assert sentence in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path))


def test_labels_of_the_user_are_no_unknown_fields(tmp_path: Path) -> None:
    obj = with_spec(serving={"pod": {"labels": {"team": "a"}, "resources": {"limits": {"memory": "1Gi"}}}})
    assert read_manifests([write(tmp_path, obj)]).models[0].spec.serving.pod.labels == {"team": "a"}


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    files = [write(tmp_path, make_model("A"), name="1.yaml"), write(tmp_path, with_spec(x=1), name="2.yaml")]
    with pytest.raises(ManifestInvalid) as refused:
        read_manifests(files)
    assert list(dict.fromkeys(line.split(": ")[0] for line in str(refused.value).splitlines())) == files


def test_two_models_of_a_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid, match="NLPModel novels is in these files twice"):
        read_manifests([write(tmp_path, make_model(), make_model())])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(None, "it cannot be read: No such file", id="missing"),
        pytest.param(b"\xff\xfe", "it is not UTF-8 (byte 0)", id="not text"),
        pytest.param(b"a: [1", "it is not YAML: ", id="not YAML"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "m.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ManifestInvalid) as refused:
        read_manifests([str(path)])
    assert str(refused.value).startswith(f"{path}: {sentence}")
