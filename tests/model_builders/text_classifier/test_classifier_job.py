"""The real build Job, with torch: transfer from the sample's vectors, and what happens when it goes wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from model_builders.messages import InputOfBuild
from tests.model_builders.made import Jobs, Ran, make_jobs, request_of_build
from tests.model_builders.torch_jobs import (
    ROOT,
    Built,
    fetch,
    kept,
    killed_and_run_again,
    python_with_torch,
    run_build,
    with_torch,
)
from tests.model_builders.word2vec.test_word2vec_job import sample as vectors_sample
from tools.korean_words import ASKED_ABOUT, LEARNT_ABOUT, labelled

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(900)]  # the first time, torch is downloaded

SAMPLE = ROOT / "manifests/samples/korean-people.yaml"
SMALL = {"tokenizer": "Whitespace", "embeddingDim": 8, "filters": 4, "minCount": 1, "epochs": 2}
TEXTS = "text\tlabel\n" + "".join(
    f"{'good fine' if place % 2 else 'bad poor'} film {place % 7}\t{'yes' if place % 2 else 'no'}\n"
    for place in range(60)
)


def with_vectors(jobs: Jobs) -> InputOfBuild:
    """The artifact of korean-words, in this store, as the input `vectors`."""
    artifact = vectors_sample().artifact
    shutil.copytree(artifact, jobs.store / "artifacts" / artifact.name)
    return InputOfBuild("vectors", artifact.name, "Artifact")


def build(
    jobs: Jobs, parameters: Mapping[str, Any], *more: InputOfBuild, python: str = "", **files: str | bytes
) -> Ran:
    request = request_of_build([*more, *fetch(jobs, **files)], "TextClassifier", parameters)
    return run_build(jobs if python else with_torch(jobs), request)


def people() -> dict[str, str]:
    return {
        name: "\n".join(labelled(pairs)) for name, pairs in (("train", LEARNT_ABOUT), ("test", ASKED_ABOUT))
    }


@cache
def sample() -> Built:
    def make(jobs: Jobs) -> Ran:
        config_map, model = yaml.safe_load_all(SAMPLE.read_text(encoding="utf-8"))
        spec = model["spec"]["build"]
        files = {name.removesuffix(".tsv"): text for name, text in config_map["data"].items()}
        found = [with_vectors(jobs), *fetch(jobs, **files)]
        request = request_of_build(found, "TextClassifier", spec["textClassifier"], spec["quality"])
        return run_build(with_torch(jobs), request)

    return kept("korean-people", make)


def test_vectors_of_another_model_tell_people_apart_that_no_label_was_given_for() -> None:
    assert float(sample().result["metrics"]["accuracy"]) >= 0.9
    names = {path.name for path in (sample().artifact / "1").iterdir()}
    assert names == {
        "answering.py",
        "backend.py",
        "labels.json",
        "model.onnx",
        "model.py",
        "settings.json",
        "vectors.py",
        "vocabulary.json",
        "words.py",
    }
    manifest = json.loads((sample().artifact / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["inputs"][0] == {
        "name": "vectors",
        "sha256": vectors_sample().artifact.name,
        "kind": "Artifact",
    }


def test_without_vectors_the_same_texts_teach_nothing_about_them(tmp_path: Path) -> None:
    """The other half of the promise: what transfers is in the vectors and not in the labelled texts."""
    ran = build(
        make_jobs(tmp_path), {"tokenizer": "KoreanMorphemes", "filters": 32, "epochs": 20}, **people()
    )
    assert ran.code == 0, ran.log
    assert float(ran.result["metrics"]["accuracy"]) <= 0.7


def test_fine_tuned_vectors_are_learnt_on(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path)
    parameters = {"embeddings": "FineTuned", "tokenizer": "KoreanMorphemes", "filters": 32, "epochs": 20}
    ran = build(jobs, parameters, with_vectors(jobs), **people())
    assert ran.code == 0, ran.log
    assert float(ran.result["metrics"]["accuracy"]) >= 0.8


def test_the_same_seed_gives_the_same_classifier_and_a_killed_one_goes_on(tmp_path: Path) -> None:
    parameters = SMALL | {"epochs": 60, "filters": 100, "embeddingDim": 200}
    jobs = with_torch(make_jobs(tmp_path))
    request = request_of_build(fetch(jobs, train=TEXTS), "TextClassifier", parameters)
    again = killed_and_run_again(jobs, request, tmp_path / "termination-log")
    going_on = re.search(r"going on at epoch (\d+) of 60, where an earlier pod was", again.log)
    assert going_on, again.log
    assert 0 < int(going_on[1]) < 60
    (tmp_path / "whole").mkdir()
    whole = build(make_jobs(tmp_path / "whole"), parameters, train=TEXTS)
    assert whole.result["digest"] == again.result["digest"]


def test_progress_of_a_classifier_says_epoch_loss_accuracy_and_speed(tmp_path: Path) -> None:
    ran = build(make_jobs(tmp_path), SMALL, train=TEXTS)
    assert ran.code == 0, ran.log
    line = r"INFO epoch 2 of 2: loss \d\.\d{4}, accuracy \d\.\d{4}, [\d,]+ texts/s, 0 s left"
    assert re.search(line, ran.log), ran.log
    assert ran.result["message"].startswith("Tells 2 labels apart, ")
    assert (ran.result["metrics"]["trainTexts"]) == "54"


@pytest.mark.parametrize(
    ("parameters", "files", "reason", "sentence"),
    [
        pytest.param(
            {},
            {"train": "text\tlabel\na\tx\nb\tx\n", "test": "text\tlabel\na\tx\n"},
            "InputInvalid",
            "Input 'train': train.txt, line 3: all 2 texts up to here have the label 'x'; a classifier "
            "needs at least two.",
            id="one label",
        ),
        pytest.param(
            {"minCount": 99},
            {"train": TEXTS},
            "ParameterInvalid",
            "that is in 99 of them (minCount)",
            id="rare",
        ),
        pytest.param(
            {"embeddings": "Frozen"},
            {"train": TEXTS},
            "ParameterInvalid",
            "embeddings is Frozen, and there is no input 'vectors'",
            id="no vectors",
        ),
        pytest.param(
            {"embeddings": "Frozen"},
            {"train": TEXTS, "vectors": "a 1 2\nb 1 2\n"},
            "InputInvalid",
            "Input 'vectors' is a file; it must be another NLPModel of the architecture Word2Vec",
            id="a file",
        ),
        pytest.param({}, {"texts": TEXTS}, "ParameterInvalid", "a TextClassifier takes train", id="inputs"),
    ],
)
def test_bad_data_of_a_classifier_gets_a_sentence(
    tmp_path: Path, parameters: dict[str, Any], files: dict[str, str], reason: str, sentence: str
) -> None:
    ran = build(make_jobs(tmp_path), SMALL | parameters, **files)
    assert (ran.code, ran.result["reason"]) == (10, reason), ran.log
    assert sentence in ran.result["message"]


DIVERGES = """
import numpy as np
from model_builders.checkpoints import Checkpoints
from model_builders.errors import Refused
from model_builders.text_classifier.parameters import parse_parameters
from model_builders.text_classifier.rows import Labelled
from model_builders.text_classifier.run import Material, train
parameters = parse_parameters({"learningRate": "0.5"}, {})
vectors = np.full((4, 6), np.nan, dtype=np.float32)  # Adam's steps are bounded: no learning rate gets there
material = Material(vectors, Labelled([[2, 3]] * 4, [0, 1, 0, 1]), Labelled([[2]], [0]))
try:
    train(material, 2, parameters, Checkpoints())
except Refused as refused:
    print(refused.reason, refused.message)
"""


def test_a_classifiers_loss_that_is_not_finite_stops_it_with_a_sentence() -> None:
    command = [str(python_with_torch()), "-W", "error", "-c", DIVERGES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == (
        "TrainingDiverged The loss is nan in epoch 1 of 5: the network has grown without bound. Lower "
        "spec.build.textClassifier.learningRate, which is 0.5 (0.001 is usual).\n"
    )


def test_vectors_of_other_words_are_refused(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path)
    ran = build(jobs, SMALL | {"embeddings": "Frozen"}, with_vectors(jobs), train=TEXTS)
    assert (ran.code, ran.result["reason"]) == (10, "ParameterInvalid")
    assert (
        "tokenizer is Whitespace, but the vectors of input 'vectors' were made with KoreanMorphemes"
        in ran.result["message"]
    )


def test_a_classifier_without_torch_names_the_image(tmp_path: Path) -> None:
    ran = build(make_jobs(tmp_path), SMALL, python="this one", train=TEXTS)
    assert (ran.code, ran.result["reason"]) == (10, "BuildFailed")
    assert "no torch, which a TextClassifier is trained with" in ran.result["message"]
