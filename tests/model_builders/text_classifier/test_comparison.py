"""Random, frozen and fine-tuned vectors side by side: what a build keeps of it, and what may go wrong."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from model_builders.messages import InputOfBuild
from tests.model_builders.made import Jobs, make_jobs, request_of_build
from tests.model_builders.text_classifier.test_classifier_job import (
    SAMPLE,
    SMALL,
    TEXTS,
    build,
    sample,
    with_vectors,
)
from tests.model_builders.torch_jobs import (
    ROOT,
    fetch,
    killed_and_run_again,
    python_with_torch,
    run_build,
    with_torch,
)

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(900)]  # the first time, torch is downloaded

TITLE = "Random, frozen and fine-tuned"


def drawings(artifact: Path) -> dict[str, dict[str, Any]]:
    """By their titles."""
    numbers = json.loads((artifact / "metrics.json").read_text(encoding="utf-8"))
    return {one["title"]: one for one in numbers["drawings"]}


def request_of_sample(jobs: Jobs, **parameters: Any) -> dict[str, Any]:
    config_map, model = yaml.safe_load_all(SAMPLE.read_text(encoding="utf-8"))
    spec = model["spec"]["build"]
    files = {name.removesuffix(".tsv"): text for name, text in config_map["data"].items()}
    inputs: list[InputOfBuild] = [with_vectors(jobs), *fetch(jobs, **files)]
    return request_of_build(inputs, "TextClassifier", spec["textClassifier"] | parameters, spec["quality"])


def test_an_artifact_keeps_the_curves_of_all_three_kinds_of_vectors() -> None:
    found = drawings(sample().artifact)
    curves = found[TITLE]["series"]
    assert {name: len(one) for name, one in curves.items()} == {
        "random": 20,
        "frozen": 20,
        "fine-tuned": 20,
    }
    assert curves["frozen"] == found["Test texts right"]["series"]["accuracy"]
    assert curves["random"][-1] <= 0.7
    assert min(curves["frozen"][-1], curves["fine-tuned"][-1]) >= 0.8
    caption = found[TITLE]["caption"]
    assert "learnt from the same 64 texts with seed 1 and were measured on the same 32." in caption
    assert caption.endswith("This model is the frozen one.")
    page = (sample().artifact / "report.html").read_text(encoding="utf-8")
    assert f"<h2>{TITLE}</h2>" in page
    assert caption in page


def test_the_three_curves_are_the_same_whichever_of_them_is_the_model(tmp_path: Path) -> None:
    """Also those of frozen vectors, beside a model that has changed the ones it was given."""
    jobs = with_torch(make_jobs(tmp_path))
    ran = run_build(jobs, request_of_sample(jobs, embeddings="FineTuned"))
    assert ran.code == 0, ran.log
    found = drawings(jobs.store / "artifacts" / str(ran.result["digest"]))
    assert found[TITLE]["series"] == drawings(sample().artifact)[TITLE]["series"]
    assert found[TITLE]["caption"].endswith("This model is the fine-tuned one.")


def test_a_build_that_is_killed_in_its_comparison_loses_neither_model_nor_curves(tmp_path: Path) -> None:
    jobs = with_torch(make_jobs(tmp_path))
    request = request_of_sample(jobs)
    again = killed_and_run_again(jobs, request, tmp_path / "termination-log", "comparison")
    assert "an earlier pod has trained all 20 epochs" in again.log
    assert "going on with the comparison; an earlier pod has done random" in again.log
    assert not re.search(r"INFO epoch|comparing with random", again.log)
    assert again.result["digest"] == sample().digest


def test_progress_says_that_it_compares_and_counts_that_in_the_time_left(tmp_path: Path) -> None:
    jobs = with_torch(make_jobs(tmp_path))
    ran = run_build(jobs, request_of_sample(jobs))
    assert ran.code == 0, ran.log
    lines = re.findall(r"INFO (epoch 20 of 20|comparing with .*?, epoch 20 of 20): .* (\d+) s left", ran.log)
    assert [line for line, _ in lines] == [
        "epoch 20 of 20",
        "comparing with random vectors, epoch 20 of 20",
        "comparing with fine-tuned vectors, epoch 20 of 20",
    ]
    assert lines[-1][1] == "0"


def test_without_vectors_the_report_says_that_only_random_ones_are_possible(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path)
    ran = build(jobs, SMALL, train=TEXTS)
    assert ran.code == 0, ran.log
    found = drawings(jobs.store / "artifacts" / str(ran.result["digest"]))
    assert list(found) == ["Training", "Test texts right", "Confusion"]
    assert (
        "With an input vectors, a Word2Vec model, frozen and fine-tuned ones"
        in (found["Test texts right"]["caption"])
    )


def ask_torch(program: str) -> Any:
    """What a program prints as JSON, in the environment that has torch."""
    command = [str(python_with_torch()), "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


SAMPLES = """
import json
from model_builders.text_classifier.comparison import choose_sample
from model_builders.text_classifier.parameters import parse_parameters
found = {}
for name, train, test, tokens, epochs in (
    ("small", 64, 32, 5, 20),
    ("many", 20_000, 4_000, 18, 5),
    ("often", 2_000, 2_000, 18, 50),
    ("long", 5_000, 5_000, 1_000, 50),
):
    parameters = parse_parameters({"epochs": epochs}, {})
    one = choose_sample([[2] * tokens] * train, [[2] * tokens] * test, parameters)
    assert one == choose_sample([[2] * tokens] * train, [[2] * tokens] * test, parameters)
    found[name] = [len(one.train), len(one.test), one.epochs, one.whole, one.texts_to_train]
print(json.dumps(found))
"""


def test_a_comparison_goes_through_a_bounded_number_of_texts() -> None:
    assert ask_torch(SAMPLES) == {
        "small": [64, 32, 20, True, 2 * 20 * 64],  # two: the third is the model itself
        "many": [2_000, 2_000, 5, False, 3 * 5 * 2_000],
        "often": [2_000, 2_000, 10, True, 2 * 10 * 2_000],
        "long": [100, 100, 50, False, 3 * 50 * 100],
    }


COMPARED = """
import json
import numpy as np
from model_builders.checkpoints import Checkpoints
from model_builders.text_classifier.comparison import Comparison, choose_sample, drawn
from model_builders.text_classifier.parameters import parse_parameters
from model_builders.text_classifier.rows import Labelled
from model_builders.text_classifier.run import Material, train

parameters = parse_parameters({"embeddings": "Frozen", "epochs": 3, "filters": 4, "dropout": "0"}, {})
choice = np.random.default_rng(3)
texts = Labelled([[int(row) for row in choice.integers(2, 9, 5)] for _ in range(12)], [0, 1] * 6)
vectors = choice.normal(size=(5000, 6)).astype(np.float32)
"""


def test_words_that_no_text_of_the_sample_has_change_nothing_and_are_left_out() -> None:
    found = ask_torch(
        COMPARED
        + """
material = Material(vectors, texts, texts)
sample = choose_sample(texts.rows, texts.rows, parameters)
small = drawn(material, sample)
accuracies = [
    [one.measured.accuracy for one in train(each, 2, parameters, Checkpoints()).epochs]
    for each in (material, small)
]
print(json.dumps({"rows": len(small.vectors), "accuracies": accuracies}))
"""
    )
    assert found["rows"] == 9  # two for padding and unknown words, and seven words
    assert found["accuracies"][0] == found["accuracies"][1]


def test_a_network_that_diverges_in_the_comparison_ends_its_curve_and_not_the_build() -> None:
    found = ask_torch(
        COMPARED
        + """
whole = Material(vectors, texts, texts)
broken = Material(np.full((9, 6), np.nan, dtype=np.float32), texts, texts)
sample = choose_sample(texts.rows, texts.rows, parameters)
trained = train(whole, 2, parameters, Checkpoints())
comparison = Comparison(sample, drawn(whole, sample), broken, 2, parameters)
curves = comparison.run(trained, Checkpoints())
print(json.dumps({"lengths": {name: len(one) for name, one in curves.items()},
                  "caption": comparison.draw(curves).caption}))
"""
    )
    assert found["lengths"] == {"random": 3, "frozen": 3, "fine-tuned": 0}
    assert found["caption"].endswith("With fine-tuned vectors the loss was not finite any more.")
