"""The real build Job of the samples and of small ones, with torch: what comes out, and what goes wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.model_builders.made import Jobs, Ran, make_jobs, request_of_build
from tests.model_builders.torch_jobs import (
    Built,
    fetch,
    kept,
    killed_and_run_again,
    with_torch,
)
from tests.model_builders.translation.samples import build as build_translator
from tests.model_builders.translation.samples import sample
from tools.translation_samples import DID, reversed_lines, table

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(900)]  # the first time, torch is downloaded

SMALL = {"embeddingDim": 8, "hiddenDim": 8, "epochs": 2, "batchSize": 16, "maxTokens": 8}
LINES = reversed_lines(80, 2, 5, seed=1)
PAIRS = "\n".join(table(LINES)) + "\n"
ENGLISH = dict(DID)


def build(jobs: Jobs, parameters: Mapping[str, Any], python: str = "", **files: str | bytes) -> Ran:
    return build_translator("Seq2SeqAttention", jobs if python else with_torch(jobs), parameters, **files)


@cache
def without_attention() -> Built:
    """A small one, which is neither good nor meant to be."""
    return kept("seq2seq-without", lambda jobs: build(jobs, SMALL | {"attention": "None"}, train=PAIRS))


def test_lines_are_reversed_and_sentences_translated_that_were_never_learnt_from() -> None:
    assert float(sample("reversed-words").result["metrics"]["exactMatch"]) >= 0.97
    assert float(sample("korean-english").result["metrics"]["exactMatch"]) >= 0.9
    assert {path.name for path in (sample("korean-english").artifact / "1").iterdir()} == {
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


def test_examples_are_a_sentence_a_beam_and_a_batch_with_whole_numbers_as_tokens() -> None:
    content = json.loads((sample("korean-english").artifact / "examples.json").read_text(encoding="utf-8"))
    names = [example["name"] for example in content["examples"]]
    assert names == ["a sentence", "a beam", "a batch of two"]
    outputs = {one["name"]: one for one in content["examples"][0]["outputs"]}
    assert outputs["token_ids"]["datatype"] == "INT32"
    assert "absoluteTolerance" not in outputs["token_ids"]
    assert outputs["attention"]["absoluteTolerance"] == 1e-5
    asked = [one["name"] for one in content["examples"][1]["inputs"]]
    assert asked == ["text", "beam_size"]


def test_the_report_draws_where_it_looked_with_words_of_both_scripts() -> None:
    artifact = sample("korean-english").artifact
    drawn = json.loads((artifact / "metrics.json").read_text(encoding="utf-8"))["drawings"]
    assert [one["kind"] for one in drawn[:2]] == ["Curve", "LengthCurve"]
    page = (artifact / "report.html").read_text(encoding="utf-8")
    maps = [one for one in drawn if one["kind"] == "AttentionMap"]
    assert maps
    for one in maps:
        verb = one["source"][-2]
        assert verb.endswith("다")
        assert f">{verb}</text>" in page
        assert f">{one['target'][0]}</text>" in page
        # The day and the verb stand elsewhere in English, and that is where it looked.
        by_word = dict(zip(one["target"], one["weights"], strict=True))
        assert one["source"][by_word[ENGLISH[verb]].index(max(by_word[ENGLISH[verb]]))] == verb


def test_the_steps_that_are_drawn_are_those_of_the_answer() -> None:
    """The order of Bahdanau; it looked where the matrix of the same sentence says."""
    drawn = json.loads((sample("korean-english").artifact / "metrics.json").read_text("utf-8"))["drawings"]
    (steps,) = [one for one in drawn if one["kind"] == "DecoderSteps"]
    assert steps["order"][:4] == ["embedded", "attention", "context", "hidden"]
    assert [one["before"] for one in steps["columns"]] == [
        "<END>",
        *(one["word"] for one in steps["columns"][:-1]),
    ]
    said = [one["word"] for one in steps["columns"]]
    maps = [one for one in drawn if one["kind"] == "AttentionMap" and one["target"][: len(said)] == said]
    for one in maps:
        for column, weights in zip(steps["columns"], one["weights"], strict=False):
            assert column["tensors"]["attention"] == pytest.approx(weights, abs=1e-3)
            assert one["source"][weights.index(max(weights))] == column["looked"]
    assert maps


def test_the_same_seed_gives_the_same_model_and_a_killed_one_goes_on(tmp_path: Path) -> None:
    parameters = SMALL | {"epochs": 80, "hiddenDim": 32, "dropout": "0.2"}
    jobs = with_torch(make_jobs(tmp_path))
    request = request_of_build(fetch(jobs, train=PAIRS), "Seq2SeqAttention", parameters)
    again = killed_and_run_again(jobs, request, tmp_path / "termination-log")
    going_on = re.search(r"going on at epoch (\d+) of 80, batch 1, where an earlier pod was", again.log)
    assert going_on, again.log
    assert 1 < int(going_on[1]) <= 80
    (tmp_path / "whole").mkdir()
    whole = build(make_jobs(tmp_path / "whole"), parameters, train=PAIRS)
    assert whole.result["digest"] == again.result["digest"]


def test_progress_says_epoch_losses_speed_and_the_time_left(tmp_path: Path) -> None:
    ran = build(make_jobs(tmp_path), SMALL, train=PAIRS)
    assert ran.code == 0, ran.log
    line = (
        r"INFO epoch 2 of 2: loss \d\.\d{4}, test loss \d\.\d{4}, \d+\.\d % of test tokens right, "
        r"[\d,]+ tokens/s, 0 s left"
    )
    assert re.search(line, ran.log), ran.log
    assert ran.result["message"].startswith("Translates ")
    assert ran.result["metrics"]["trainPairs"] == "72"


def test_without_attention_there_is_no_matrix() -> None:
    built = without_attention()
    contract = json.loads((built.artifact / "contract.json").read_text(encoding="utf-8"))
    assert "attention" not in {one["name"] for one in contract["outputs"]}
    assert "without attention" in built.result["message"]


def test_a_pair_a_hundred_times_longer_is_left_out_and_told(tmp_path: Path) -> None:
    long = " ".join(["가"] * 700)
    jobs = make_jobs(tmp_path)
    ran = build(jobs, SMALL, train=f"{PAIRS}{long}\t{long}\n", test=PAIRS)
    assert ran.code == 0, ran.log
    assert "1 of 81 pairs for training are left out: a side has more than 8 tokens" in ran.log
    artifact = jobs.store / "artifacts" / ran.result["digest"]
    metrics = json.loads((artifact / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    assert (metrics["pairsLeftOut"], metrics["trainPairs"]) == (1, 80)


@pytest.mark.parametrize(
    ("parameters", "files", "reason", "sentence"),
    [
        pytest.param(
            {},
            {"train": "source\ttarget\nHi.\t안녕.\nGo.\t\n"},
            "InputInvalid",
            "line 3 has nothing in the column target; a pair needs both of its sides.",
            id="an empty side",
        ),
        pytest.param(
            {},
            {"train": "source\ttarget\n\t안녕.\n"},
            "InputInvalid",
            "line 2 has nothing in the column source; a pair needs both of its sides.",
            id="the other side",
        ),
        pytest.param(
            {},
            {"train": "a text a line\nand no other\n"},
            "InputInvalid",
            "is 'a text a line'; a text has its target beside it, in a .tsv or .jsonl file with the columns "
            "source and target.",
            id="one column",
        ),
        pytest.param(
            {"maxTokens": 2},
            {"train": f"source\ttarget\n{'가 ' * 30}\t{'나 ' * 40}\n", "test": "source\ttarget\na\tb\n"},
            "ParameterInvalid",
            "Every pair for training has a side of more than 2 tokens, the longest one has 40. Raise "
            "spec.build.seq2SeqAttention.maxTokens",
            id="all too long",
        ),
        pytest.param(
            {},
            {"train": "source\ttarget\na\tb\n"},
            "InputInvalid",
            "1 different texts are too few to keep some for measuring",
            id="too few",
        ),
        pytest.param(
            {"sourceColumn": "eng"},
            {"train": PAIRS},
            "InputInvalid",
            "no eng; the first line of a .tsv must be a header with the columns eng and target.",
            id="no such column",
        ),
        pytest.param(
            {}, {"pairs": PAIRS}, "ParameterInvalid", "Seq2SeqAttention takes train (pairs", id="inputs"
        ),
        pytest.param(
            {"hiddenDim": 7, "attention": "Self"},
            {"train": PAIRS},
            "ParameterInvalid",
            "attention is 'Self'; it must be one of Luong, Bahdanau, None; "
            "spec.build.seq2SeqAttention.hiddenDim is 7; it must be even",
            id="parameters",
        ),
    ],
)
def test_bad_pairs_get_a_sentence(
    tmp_path: Path, parameters: dict[str, Any], files: dict[str, str], reason: str, sentence: str
) -> None:
    ran = build(make_jobs(tmp_path), SMALL | parameters, **files)
    assert (ran.code, ran.result["reason"]) == (10, reason), ran.log
    assert sentence in ran.result["message"]


def test_without_torch_the_image_is_named(tmp_path: Path) -> None:
    ran = build(make_jobs(tmp_path), SMALL, python="this one", train=PAIRS)
    assert (ran.code, ran.result["reason"]) == (10, "BuildFailed")
    assert "no torch and no tokenizers, which a Seq2SeqAttention is trained with" in ran.result["message"]
