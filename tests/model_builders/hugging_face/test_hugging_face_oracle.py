"""What is served, held against transformers: pipelines, tokenizers and `generate`.

At every change the gates (`benchmarks/builders/hugging_face.py`) run what is marked for a release here.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.model_builders.hugging_face.folders import Kind, built, folder_of, sentencepiece
from tests.model_builders.torch_jobs import ROOT, WHERE, python_with_torch

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(900)]  # the first time, torch is downloaded


def compared(name: str, kind: Kind) -> Any:
    """What the function of in_transformers found."""
    module = "tests.model_builders.hugging_face.in_transformers"
    folders = (str(folder_of(kind)), str(built(kind).artifact / "1"))
    environment = {"PYTHONPATH": f"{WHERE}:{sentencepiece()}", "HF_HUB_OFFLINE": "1"}
    command = [str(python_with_torch()), "-m", module, name, *folders]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.release
def test_probabilities_of_texts_are_those_of_the_pipeline_in_batches_of_every_size() -> None:
    found = compared("moods", "moods")
    assert found["texts"] > 60
    assert found["difference"] <= 1e-5


def test_a_second_text_has_types_of_its_own() -> None:
    found = compared("pairs", "moods")
    assert found["difference"] <= 1e-5
    assert found["influence"] > 1e-4, "the second text says nothing"


@pytest.mark.release
def test_entities_of_korean_stand_where_the_pipeline_has_them_in_both_normal_forms() -> None:
    found = compared("names", "names")
    assert found["others"] == []
    assert found["places"] >= 4 * 100
    assert found["difference"] <= 1e-5


@pytest.mark.release
@pytest.mark.parametrize("kind", ["animals", "digits"])
def test_a_translation_is_what_generate_writes_greedy_and_by_beams_of_every_size(kind: Kind) -> None:
    found = compared(kind, kind)
    assert found["differ"] == 0, found["others"]
    assert found["compared"] > 5 * found["unfirm"]
    assert found["compared"] > 150


def test_marians_pieces_are_those_of_sentencepiece_whatever_the_text() -> None:
    found = compared("marian_tokens", "animals")
    assert (found["texts"], found["differ"]) == (2000, 0), found["others"]


@pytest.mark.parametrize("kind", ["animals", "digits"])
def test_the_search_is_that_of_generate_under_every_rule_of_a_folder(kind: Kind) -> None:
    found = compared("rules", kind)
    assert found["differ"] == 0, found["others"]
    assert found["compared"] > 200
    assert found["lengths"] > 3, "all texts are equally long"
