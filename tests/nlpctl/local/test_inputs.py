"""What stands in for a cluster's sources, and what is asked of the fetch then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nlp_operator.api.objects import Obj
from nlp_operator.resources.jobs import fetch_request
from nlpctl.errors import BuildFailed, WrongUse
from nlpctl.local.builds import in_order
from nlpctl.local.inputs import (
    Given,
    entries_of,
    local_request,
    parse_given,
    take_given,
    without_credentials,
)
from nlpctl.local.manifests import Manifests, read_manifests
from tests.nlpctl.local.making import make_config_map, make_model, write

NOTHING = Given({}, {})
CLAIM = {"persistentVolumeClaim": {"claimName": "datasets", "path": "novels"}}


def read(folder: Path, *objects: object) -> Manifests:
    return read_manifests([write(folder, *objects)])


def asked(manifests: Manifests, given: Given, volumes: Path) -> list[Obj]:
    """The inputs of the fetch of the first model."""
    taken = take_given(manifests, given)
    model = taken.models[0]
    request = fetch_request(model.obj, model.spec.build)
    inputs: list[Obj] = local_request(request, model, taken, given, volumes)["inputs"]
    return inputs


def test_a_config_map_of_the_same_file_is_laid_out_as_a_volume(tmp_path: Path) -> None:
    volumes = tmp_path / "volumes"
    (one,) = asked(read(tmp_path, make_config_map(), make_model()), NOTHING, volumes)
    assert one["path"] == str(volumes / "corpus")
    assert {path.name: path.read_text() for path in (volumes / "corpus").iterdir()} == {
        "a.txt": "기차 막걸리",
        "b.txt": "기차",
    }


def test_a_file_given_for_an_input_needs_no_secret(tmp_path: Path) -> None:
    model = make_model(source={"s3": {"bucket": "corpora"}})
    model["spec"]["build"]["inputs"][0]["secretName"] = "bucket-keys"
    (one,) = asked(read(tmp_path, model), Given({("", "corpus"): tmp_path}, {}), tmp_path)
    assert one == {"name": "corpus", "sha256": "", "path": str(tmp_path)}


def test_one_key_of_a_config_map_is_one_file(tmp_path: Path) -> None:
    model = make_model(source={"configMap": {"name": "novels", "key": "b.txt"}})
    (one,) = asked(read(tmp_path, make_config_map(), model), NOTHING, tmp_path / "volumes")
    assert Path(one["path"]).read_text() == "기차"
    assert [path.name for path in Path(one["path"]).parent.iterdir()] == ["b.txt"]


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    model = make_model(source={"configMap": {"name": "novels", "key": "c.txt"}})
    with pytest.raises(BuildFailed, match=r"InputMissing: .* no key 'c.txt'; it has a.txt, b.txt"):
        asked(read(tmp_path, make_config_map(), model), NOTHING, tmp_path / "volumes")


def test_binary_data_is_decoded() -> None:
    obj: dict[str, Any] = {**make_config_map(a="기"), "binaryData": {"b": "6riw"}}
    assert entries_of(obj) == {"a": "기".encode(), "b": "기".encode()}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        pytest.param({"data": {"a": 1}}, "data.a is 1; it must be a text", id="number"),
        pytest.param({"binaryData": {"a": "!"}}, "binaryData.a is not base64", id="no base64"),
        pytest.param({"data": {"../a": "x"}}, "the key '../a' is no file name", id="leads out"),
    ],
)
def test_a_config_map_the_api_server_would_refuse_is_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(WrongUse) as refused:
        entries_of({**make_config_map(), **fields})
    assert sentence in str(refused.value)


def test_a_given_path_comes_before_every_source(tmp_path: Path) -> None:
    given = Given(parse_given("--input", [f"corpus={tmp_path}"]), {})
    for source in (CLAIM, {"configMap": {"name": "elsewhere"}}, {"nlpModel": {"name": "elsewhere"}}):
        (one,) = asked(read(tmp_path, make_model(source=source)), given, tmp_path)
        assert one["path"] == str(tmp_path)


def test_a_pin_holds_for_a_given_path_too(tmp_path: Path) -> None:
    model = make_model(inputs=[{"name": "corpus", "source": CLAIM, "sha256": "a" * 64}])
    given = Given({("", "corpus"): tmp_path}, {})
    assert asked(read(tmp_path, model), given, tmp_path)[0]["sha256"] == "a" * 64


WEB = {"https": {"url": "https://files.example/novels.tsv"}}


def make_private() -> dict[str, Any]:
    return make_model(inputs=[{"name": "corpus", "source": WEB, "sha256": "a" * 64, "secretName": "token"}])


def test_a_source_over_the_network_stays_as_it_is(tmp_path: Path) -> None:
    (one,) = asked(read(tmp_path, make_private()), NOTHING, tmp_path)
    assert one == {"name": "corpus", "sha256": "a" * 64, "credentials": "", **WEB}


def test_credentials_are_passed_on_by_name(tmp_path: Path) -> None:
    given = Given({}, {("novels", "corpus"): tmp_path})
    (one,) = asked(read(tmp_path, make_private()), given, tmp_path)
    assert one["credentials"] == str(tmp_path)


def test_a_secret_that_nothing_stands_in_for_is_said(tmp_path: Path) -> None:
    (model,) = read(tmp_path, make_private()).models
    (sentence,) = without_credentials(model, NOTHING)
    assert "without its Secret token; --credentials corpus=DIR gives" in sentence
    assert without_credentials(model, Given({}, {("", "corpus"): tmp_path})) == []


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        pytest.param(CLAIM, "PersistentVolumeClaim datasets, which only a cluster has. Say", id="claim"),
        pytest.param(
            {"configMap": {"name": "x"}}, "ConfigMap x, which is not in these files", id="config map"
        ),
        pytest.param({"nlpModel": {"name": "x"}}, "NLPModel x, which is not in these files", id="model"),
    ],
)
def test_a_source_that_only_a_cluster_has_says_what_to_give(
    tmp_path: Path, source: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(WrongUse) as refused:
        take_given(read(tmp_path, make_model(source=source)), NOTHING)
    assert sentence in str(refused.value)
    assert "--input corpus=PATH" in str(refused.value)


def test_a_name_that_no_model_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="no model has an input 'korpus'; there are novels/corpus"):
        take_given(read(tmp_path, make_config_map(), make_model()), Given({("", "korpus"): tmp_path}, {}))


@pytest.mark.parametrize("word", ["corpus", "=x", "corpus=", "m/=x"])
def test_a_word_of_another_form_is_refused(word: str) -> None:
    with pytest.raises(WrongUse, match="it must be NAME=PATH"):
        parse_given("--input", [word])


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="there is no /"):
        parse_given("--input", [f"corpus={tmp_path / 'none'}"])


def taking(name: str, *sources: str) -> dict[str, Any]:
    inputs = [{"name": f"input-{one}", "source": {"nlpModel": {"name": one}}} for one in sources]
    return make_model(name, inputs=inputs)


def test_models_are_built_after_those_they_take_from(tmp_path: Path) -> None:
    manifests = read(tmp_path, taking("c", "b", "a"), taking("b", "a"), make_model("a"))
    assert [model.name for model in in_order(manifests.models)] == ["a", "b", "c"]


def test_models_that_take_from_each_other_are_refused(tmp_path: Path) -> None:
    manifests = read(tmp_path, taking("a", "b"), taking("b", "c"), taking("c", "a"))
    with pytest.raises(BuildFailed, match=r"DependencyCycle: .* a -> b -> c -> a"):
        in_order(manifests.models)
