"""What the demo decides: whether answers are right, whether two runs are alike, when and whom it kills."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from localcluster.demo.__main__ import from_environment, images_for, parse
from localcluster.demo.flow import kustomization, overlay
from localcluster.demo.questions import QUESTIONS, faults, nearest_in, value_in
from localcluster.demo.report import as_object, table
from localcluster.demo.storm import processes_of, waits
from localcluster.demo.witness import differences, jobs_created, object_set
from localcluster.images import gigabytes_for, image_of
from localcluster.progress import Step

RIGHT: dict[str, list[float]] = {
    "document vector of 운수 좋은 날": [2, 1, 1],
    "word vector of 막걸리": [0, 1, 0, 0],
    "similarity of 막걸리 and 선술집": [0.9999999],
    "similarity of 막걸리 and 기차": [0.1617],
    "similarity of 사랑 손님과 어머니 and 삼포 가는 길": [1.0],
    "similarity of 운수 좋은 날 and 삼포 가는 길": [0.8165],
}


def test_the_answers_of_the_study_note_are_right() -> None:
    assert faults(RIGHT) == []


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        pytest.param({"outputs": {"nearest_words": {"data": ["소년", "왕"]}}}, "소년", id="two words"),
        pytest.param({"outputs": {"nearest_words": {"data": []}}}, "", id="no word"),
        pytest.param({}, "", id="no answer"),
    ],
)
def test_the_nearest_word_of_an_answer_is_its_first(answer: dict[str, Any], word: str) -> None:
    assert nearest_in(answer) == word


def test_only_the_run_without_kills_trains_and_needs_torch() -> None:
    assert "builder-torch" in images_for(parse([]))
    assert "builder-torch" not in images_for(parse(["--kill-every", "3"]))


def test_the_image_with_torch_takes_room_the_first_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calm, stormy = images_for(parse([])), images_for(parse(["--kill-every", "3"]))
    assert (gigabytes_for(calm), gigabytes_for(stormy)) == (7, 0)
    archive = image_of("builder-torch").archive
    archive.parent.mkdir(parents=True)
    archive.with_name("builder-torch-000000000000.tar").touch()  # of another state of this folder
    assert gigabytes_for(calm) == 0


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        pytest.param(
            "document vector of 운수 좋은 날",
            [2, 1, 0],
            "The document vector of 운수 좋은 날 is [2, 1, 0]; it must be [2, 1, 1].",
            id="a wrong count",
        ),
        pytest.param(
            "word vector of 막걸리",
            [0, 1, 0],
            "The word vector of 막걸리 is [0, 1, 0]; it must be [0, 1, 0, 0].",
            id="a vector too short",
        ),
        pytest.param(
            "word vector of 막걸리", [], "There is no answer to 'word vector of 막걸리'.", id="no answer"
        ),
        pytest.param(
            "similarity of 막걸리 and 기차",
            [1.0],
            "The similarity of 막걸리 and 선술집 is 0.9999999; "
            "it must be greater than the similarity of 막걸리 and 기차, 1.0.",
            id="the wrong one is nearer",
        ),
    ],
)
def test_a_wrong_answer_is_told(name: str, value: list[float], sentence: str) -> None:
    assert faults({**RIGHT, name: value}) == [sentence]


def test_the_number_looked_at_is_taken_from_the_answer() -> None:
    answer = {"outputs": {"similarity": {"data": [1]}, "word_vector": {"data": [9]}}}
    assert [value_in(answer, question) for question in QUESTIONS[:3]] == [[], [9.0], [1.0]]


def make_event(
    code: int = 201, namespace: str = "demo", component: str = "build", verb: str = "create", **reference: str
) -> str:
    labels = {"app.kubernetes.io/component": component, "nlp-operator.io/model": "novels"}
    event: dict[str, Any] = {
        "verb": verb,
        "objectRef": {"resource": "jobs", "namespace": namespace, **reference},
        "responseStatus": {"code": code},
        "responseObject": {"metadata": {"labels": labels}},
    }
    return json.dumps(event)


@pytest.mark.parametrize(
    ("lines", "counted"),
    [
        pytest.param(
            [make_event(), make_event(component="fetch")], {"build": 1, "fetch": 1}, id="one of each"
        ),
        pytest.param([make_event(), make_event()], {"build": 2}, id="a second build"),
        pytest.param([make_event(code=409)], {}, id="refused because it exists"),
        pytest.param([make_event(namespace="other")], {}, id="another namespace"),
        pytest.param([make_event(verb="update")], {}, id="an update"),
        pytest.param([make_event(subresource="status")], {}, id="a subresource"),
        pytest.param([make_event()[:-9]], {}, id="a line that is still being written"),
    ],
)
def test_jobs_are_counted_by_their_creation(lines: list[str], counted: dict[str, int]) -> None:
    assert jobs_created(lines, "demo", "novels") == counted


def test_jobs_of_another_model_do_not_count() -> None:
    assert jobs_created([make_event()], "demo", "poems") == {}


def test_two_runs_are_compared_by_kind_and_name() -> None:
    def make(kind: str, name: str) -> dict[str, Any]:
        return {"kind": kind, "metadata": {"name": name}}

    calm = object_set(
        [make("Service", "novels"), make("Job", "novels-build-1"), make("ConfigMap", "kube-root-ca.crt")]
    )
    storm = object_set([make("Service", "novels"), make("Job", "novels-build-2")])
    assert differences(calm, storm) == [
        "Job/novels-build-1 is missing in the run with kills.",
        "Job/novels-build-2 is only in the run with kills.",
    ]


def test_a_seed_gives_the_same_moments_again() -> None:
    first, again, other = (list(itertools.islice(waits(seed, 3.0), 20)) for seed in (7, 7, 8))
    assert first == again != other
    assert all(2.25 <= wait <= 3.75 for wait in first)


def test_only_processes_of_the_container_are_found(tmp_path: Path) -> None:
    for pid, cgroup in (
        ("12", "0::/kubepods/pod1/abc123\n"),
        ("13", "0::/kubepods/pod1/def456\n"),
        ("self", "abc123"),
    ):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cgroup").write_text(cgroup)
    (tmp_path / "14").mkdir()  # ended while we looked: no file
    assert processes_of({"abc123"}, tmp_path) == [12]
    assert processes_of(set(), tmp_path) == []


def test_report_says_every_step_and_whether_all_were_good() -> None:
    steps = [Step("cluster", 61.23456, True), Step("answers", 2.0, False)]
    written = as_object(steps, {"q": [1]}, {"seed": 7})
    assert written == {
        "ok": False,
        "steps": [
            {"name": "cluster", "seconds": 61.235, "ok": True},
            {"name": "answers", "seconds": 2.0, "ok": False},
        ],
        "answers": {"q": [1]},
        "seed": 7,
    }
    assert "answers" in table(steps)
    assert table(steps).splitlines()[-1].split() == ["all", "of", "it", "63.2"]


def test_an_empty_run_is_not_a_good_one() -> None:
    assert as_object([], {}, {})["ok"] is False


def test_make_variables_are_options() -> None:
    given = from_environment({"YES": "1", "KEEP": "", "KILL_EVERY": "3", "SEED": "7"})
    assert given == {"yes": True, "kill_every": 3.0, "seed": 7}


@pytest.mark.parametrize(
    ("variable", "text"), [("YES", "yes"), ("KILL_EVERY", "0"), ("KILL_EVERY", "x"), ("SEED", "1.5")]
)
def test_a_wrong_make_variable_is_told_with_what_is_allowed(variable: str, text: str) -> None:
    with pytest.raises(SystemExit, match=f"{variable} is '{text}'; it must be"):
        from_environment({variable: text})


def test_a_flag_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED", "7")
    assert parse(["--seed", "8"]).seed == 8


def test_images_of_this_machine_take_the_place_of_published_ones() -> None:
    images = {name: f"nlp-operator.local/{name}:abc" for name in ("operator", "builder", "serving")}
    made = kustomization("../../manifests/default", images)
    assert made["images"] == [
        {"name": "nlp-operator/operator", "newName": "nlp-operator.local/operator", "newTag": "abc"}
    ]
    assert made["configMapGenerator"][0]["literals"] == [
        "NLP_OPERATOR_BUILDER_IMAGE=nlp-operator.local/builder:abc",
        "NLP_OPERATOR_TORCH_BUILDER_IMAGE=",
        "NLP_OPERATOR_SERVING_IMAGE=nlp-operator.local/serving:abc",
    ]


def test_a_tag_that_looks_like_a_number_stays_a_text() -> None:
    images = {name: f"nlp-operator.local/{name}:12e45678" for name in ("operator", "builder", "serving")}
    with overlay(images) as folder:
        written = (folder / "kustomization.yaml").read_text(encoding="utf-8")
    assert '"newTag": "12e45678"' in written


def test_help_names_the_make_variables() -> None:
    command = [sys.executable, "-m", "localcluster.demo", "--help"]
    shown = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    ).stdout
    assert "KILL_EVERY=3 SEED=7" in shown
