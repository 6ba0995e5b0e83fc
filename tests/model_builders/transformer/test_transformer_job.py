"""The real build Job of the sample and of small ones, with torch: what comes out, and what goes wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.model_builders.made import Jobs, Ran, make_jobs, request_of_build
from tests.model_builders.torch_jobs import fetch, killed_and_run_again, with_torch
from tests.model_builders.translation.samples import build as build_translator
from tests.model_builders.translation.samples import sample
from tools.translation_samples import DID, WHAT, reversed_lines, table

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(900)]  # the first time, torch is downloaded

SHAPE = {"hiddenDim": 8, "feedForwardDim": 16, "numLayers": 1, "numHeads": 2}
SMALL = {**SHAPE, "epochs": 2, "batchSize": 16, "maxTokens": 8}
PAIRS = "\n".join(table(reversed_lines(80, 2, 5, seed=1))) + "\n"
SAMPLE = "english-korean"


def build(jobs: Jobs, parameters: Mapping[str, Any], **files: str | bytes) -> Ran:
    return build_translator("Transformer", with_torch(jobs), parameters, **files)


def test_sentences_are_translated_that_were_never_learnt_from() -> None:
    built = sample(SAMPLE)
    assert float(built.result["metrics"]["exactMatch"]) >= 0.95
    assert re.match(
        r"Translates \d+\.\d% of \d+ test texts exactly \(2 layers of 4 heads; ", built.result["message"]
    )
    assert {path.name for path in (built.artifact / "1").iterdir()} == {
        "answering.py",
        "backend.py",
        "callers.py",
        "decoder.onnx",
        "detokenizer.py",
        "encoder.onnx",
        "ends.py",
        "model.py",
        "native.py",
        "search.onnx",
        "search.py",
        "settings.json",
        "source.json",
        "streaming.py",
        "target.json",
        "tokenizer.py",
        "translating.py",
        "translator.py",
        "vectors.py",
        "weights.bin",
    }


def test_the_contract_says_how_many_layers_and_heads_there_are_and_examples_have_them() -> None:
    artifact = sample(SAMPLE).artifact
    contract = json.loads((artifact / "contract.json").read_text(encoding="utf-8"))
    (attention,) = [one for one in contract["outputs"] if one["name"] == "attention"]
    assert attention["shape"] == [2, 4, -1, -1]
    examples = json.loads((artifact / "examples.json").read_text(encoding="utf-8"))["examples"]
    assert [example["name"] for example in examples] == ["a sentence", "a beam", "a batch of two"]
    for example in examples:
        outputs = {one["name"]: one for one in example["outputs"]}
        rows, *heads, words, read = outputs["attention"]["shape"]
        assert heads == [2, 4]
        assert outputs["token_ids"]["shape"] == [rows, words]
        assert outputs["source_tokens"]["shape"] == [rows, read]
        assert "absoluteTolerance" not in outputs["token_ids"]
        assert outputs["attention"]["absoluteTolerance"] == 1e-5


def test_the_report_draws_every_head_of_every_layer_with_words_of_both_scripts() -> None:
    artifact = sample(SAMPLE).artifact
    drawn = json.loads((artifact / "metrics.json").read_text(encoding="utf-8"))["drawings"]
    kinds = [one["kind"] for one in drawn]
    assert kinds[:2] == ["Curve", "LengthCurve"]
    assert kinds[-2:] == ["HeadMaps", "HeadMaps"]
    assert "AttentionMap" in kinds
    page = (artifact / "report.html").read_text(encoding="utf-8")
    layers = [one for one in drawn if one["kind"] == "HeadMaps"]
    assert [one["title"].partition(",")[0] for one in layers] == ["Layer 1", "Layer 2"]
    source, target = layers[0]["source"], layers[0]["target"]
    weights = np.array([one["weights"] for one in layers])
    assert weights.shape == (2, 4, len(target), len(source))
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-3)
    for word in (source[0], target[0]):
        assert f">{word}</text>" in page
    # The verb and the thing are elsewhere in English, and some head found each of them there.
    words = {korean: english for korean, english in DID if korean in target}
    words |= {one: english.split()[-1] for thing, english in WHAT for one in target if one[:-1] == thing}
    assert len(words) == 2
    looked = weights.argmax(axis=-1)
    for korean, english in words.items():
        assert source.index(english) in looked[:, :, target.index(korean)]


def test_the_same_seed_gives_the_same_model_and_a_killed_one_goes_on(tmp_path: Path) -> None:
    parameters = SMALL | {"epochs": 30, "dropout": "0.2"}
    jobs = with_torch(make_jobs(tmp_path))
    request = request_of_build(fetch(jobs, train=PAIRS), "Transformer", parameters)
    again = killed_and_run_again(jobs, request, tmp_path / "termination-log")
    assert re.search(r"going on at epoch (\d+) of 30, batch 1, where an earlier pod was", again.log)
    (tmp_path / "whole").mkdir()
    whole = build(make_jobs(tmp_path / "whole"), parameters, train=PAIRS)
    assert whole.result["digest"] == again.result["digest"]


def test_a_pair_a_hundred_times_longer_is_left_out_and_told(tmp_path: Path) -> None:
    long = " ".join(["가"] * 700)
    jobs = make_jobs(tmp_path)
    ran = build(jobs, SMALL, train=f"{PAIRS}{long}\t{long}\n", test=PAIRS)
    assert ran.code == 0, ran.log
    assert "1 of 81 pairs for training are left out: a side has more than 8 tokens" in ran.log


@pytest.mark.parametrize(
    ("parameters", "files", "reason", "sentence"),
    [
        pytest.param(
            {},
            {"train": "source\ttarget\na\t \n"},
            "InputInvalid",
            "line 2 has nothing in the column target; a pair needs both of its sides.",
            id="an empty side",
        ),
        pytest.param(
            {"maxTokens": 2},
            {"train": f"source\ttarget\n{'가 ' * 30}\t{'나 ' * 40}\n", "test": "source\ttarget\na\tb\n"},
            "ParameterInvalid",
            "the longest one has 40. Raise spec.build.transformer.maxTokens",
            id="all too long",
        ),
        pytest.param({}, {"pairs": PAIRS}, "ParameterInvalid", "Transformer takes train (pairs", id="inputs"),
        pytest.param(
            {"hiddenDim": 9, "numHeads": 2, "warmUp": "1", "heads": 3},
            {"train": PAIRS},
            "ParameterInvalid",
            "spec.build.transformer.warmUp is '1'; it must be a decimal in quotes, 0 to 0.9; "
            "spec.build.transformer.hiddenDim is 9; it must be even, and a multiple of numHeads, which is 2",
            id="parameters",
        ),
    ],
)
def test_bad_pairs_and_parameters_get_a_sentence(
    tmp_path: Path, parameters: dict[str, Any], files: dict[str, str], reason: str, sentence: str
) -> None:
    ran = build(make_jobs(tmp_path), SMALL | parameters, **files)
    assert (ran.code, ran.result["reason"]) == (10, reason), ran.log
    assert sentence in ran.result["message"]
