"""The real build Job, with torch and transformers: MiniLM, and tiny encoders with random weights.

Each build loads torch and exports, ten seconds and more of processor time: what is not at the heart of it
waits for a release.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.model_builders.made import Jobs, Ran, make_jobs
from tests.model_builders.sentence_encoder.minilm import (
    CANDIDATES,
    DIMENSIONS,
    MAX_TOKENS,
    build,
    minilm,
)
from tests.model_builders.torch_jobs import Built, python_with_torch

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(900)]  # the first time, torch is downloaded

TINY = """
import sys, transformers, tokenizers, torch
folder, kind = sys.argv[1:]
torch.manual_seed(7)
sizes = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
if kind == "roberta":  # positions begin behind the padding's
    config = transformers.RobertaConfig(**sizes, max_position_embeddings=66, pad_token_id=1)
    model = transformers.RobertaModel(config)
elif kind == "distilbert":  # has names of its own for sizes
    config = transformers.DistilBertConfig(
        vocab_size=64, dim=32, n_layers=2, n_heads=2, hidden_dim=64, max_position_embeddings=64
    )
    model = transformers.DistilBertModel(config)
else:
    config = transformers.BertConfig(**sizes, max_position_embeddings=64, pad_token_id=1)
    model = transformers.BertModel(config)
for parameter in model.parameters():  # initial weights are so small that every text has the same vector
    torch.nn.init.normal_(parameter, std=0.2)
model.save_pretrained(folder)
alphabet = ["<s>", "<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz"]
words = {word: index for index, word in enumerate(alphabet)}
tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
    single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
)
tokenizer.enable_padding(length=60)  # as many folders have it: to be overruled
tokenizer.save(folder + "/tokenizer.json")
"""


def make_tiny(folder: Path, kind: str = "bert") -> Path:
    folder.mkdir(parents=True)
    command = [str(python_with_torch()), "-c", TINY, str(folder), kind]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture(scope="module")
def built() -> Built:
    return minilm()


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def all_metrics(jobs: Jobs, ran: Ran) -> Mapping[str, str]:
    metrics: Mapping[str, str] = read(jobs.store / "results" / f"{ran.result['key']}.json")["allMetrics"]
    return metrics


def test_minilm_becomes_an_artifact_that_answers_as_eager_does(built: Built) -> None:
    """That a fresh process without torch gives what eager gives, within 1e-5, the Job itself checks."""
    metrics = built.result["metrics"]
    assert metrics["dimensions"] == str(DIMENSIONS)
    assert metrics["maxTokens"] == str(MAX_TOKENS)
    assert metrics["candidates"] == str(len(CANDIDATES))
    assert metrics["parameters"] == "22713216"
    assert 0 < float(metrics["exportMaxDifference"]) <= 1e-5
    assert built.result["message"].startswith(
        "Encodes texts of up to 256 tokens as 384 numbers (bert, mean pooling). Knows 7 candidates. "
        "Exported in 32 bits."
    )


def test_the_artifact_holds_no_pickle_and_no_word_of_where_it_was_made(built: Built) -> None:
    files = {str(path.relative_to(built.artifact)) for path in built.artifact.rglob("*") if path.is_file()}
    assert {name for name in files if name.startswith("1/")} == {
        "1/answering.py",
        "1/backend.py",
        "1/candidates.json",
        "1/candidates.npy",
        "1/model.onnx",
        "1/model.py",
        "1/settings.json",
        "1/tokenizer.json",
        "1/vectors.py",
    }
    model = (built.artifact / "1/model.onnx").read_bytes()
    assert b"site-packages" not in model
    assert b"sentence_encoder" not in model
    vectors = np.load(built.artifact / "1/candidates.npy", allow_pickle=False)
    assert vectors.shape == (len(CANDIDATES), DIMENSIONS)


def test_examples_prove_short_empty_and_korean_texts(built: Built) -> None:
    examples = {one["name"]: one for one in read(built.artifact / "examples.json")["examples"]}
    assert set(examples) == {
        "a sentence",
        "a Korean sentence",
        "an empty text",
        "two texts",
        "a batch of two",
    }
    similarity = next(one for one in examples["two texts"]["outputs"] if one["name"] == "similarity")
    assert similarity["data"][0] == pytest.approx(0.7268, abs=1e-4)
    assert similarity["absoluteTolerance"] == 1e-5


@pytest.mark.release
def test_the_same_weights_give_the_same_bytes(tmp_path: Path, tiny: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        ran = build(make_jobs(tmp_path / name), {"weights": tiny})
        assert ran.code == 0, ran.log
        digests.add(ran.result["digest"])
    assert len(digests) == 1


def test_a_distilbert_is_built_from_the_folder_that_transformers_writes(jobs: Jobs, tmp_path: Path) -> None:
    ran = build(jobs, {"weights": make_tiny(tmp_path / "distilbert", "distilbert")}, {})
    assert ran.code == 0, ran.log
    assert ran.result["metrics"]["dimensions"] == "32"


@pytest.mark.release
def test_a_roberta_reads_as_many_tokens_as_it_has_positions_for(jobs: Jobs, tmp_path: Path) -> None:
    """Its positions begin behind the padding's; one token more would be an index out of range."""
    ran = build(jobs, {"weights": make_tiny(tmp_path / "roberta", "roberta")}, {"pooling": "Cls"})
    assert ran.code == 0, ran.log
    assert ran.result["metrics"]["maxTokens"] == "64"


def test_eight_bits_are_taken_within_the_fidelity_and_measured(jobs: Jobs, tiny: Path) -> None:
    fidelity = {"metric": "cosine", "atLeast": "0.9"}
    lossy = build(jobs, {"weights": tiny}, export={"precision": "Int8", "fidelity": fidelity})
    assert lossy.code == 0, lossy.log
    metrics = all_metrics(jobs, lossy)
    assert 0.9 <= float(metrics["int8Cosine"]) < 1
    assert float(metrics["int8Speedup"]) > 0
    assert {"int8Cosine", "int8Speedup"} <= set(lossy.result["metrics"])  # of the five in the status
    artifact = jobs.store / "artifacts" / lossy.result["digest"]
    # Speeds differ from run to run, and so do cosines in their last digits: they are no part of the artifact.
    assert "int8Speedup" not in (artifact / "metrics.json").read_text(encoding="utf-8")
    tolerances = {
        output["absoluteTolerance"]
        for example in read(artifact / "examples.json")["examples"]
        for output in example["outputs"]
        if output["name"] == "vector"
    }
    assert min(tolerances) > 1e-5


@pytest.mark.release
def test_eight_bits_below_the_fidelity_fail_with_the_numbers(jobs: Jobs, tiny: Path) -> None:
    export = {"precision": "Int8", "fidelity": {"metric": "cosine", "atLeast": "1.0"}}
    ran = build(jobs, {"weights": tiny}, export=export)
    assert (ran.code, ran.result["reason"]) == (10, "QualityBelowFloor")
    assert ran.result["message"].startswith("8 bits keep a cosine of 0.9")
    assert "at least 1 was asked for" in ran.result["message"]


@pytest.mark.release
def test_auto_stays_at_32_bits_when_eight_are_not_good_enough(jobs: Jobs, tiny: Path) -> None:
    ran = build(jobs, {"weights": tiny}, export={"fidelity": {"metric": "cosine", "atLeast": "1.0"}})
    assert ran.code == 0, ran.log
    assert "Exported in 32 bits: 8 bits keep a cosine of 0.9" in ran.result["message"]
    assert set(all_metrics(jobs, ran)) >= {"int8Cosine", "int8Speedup"}


@pytest.mark.release
def test_weights_that_are_not_those_of_the_configuration_are_refused(
    jobs: Jobs, tiny: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    for path in tiny.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = read(folder / "config.json")
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    ran = build(jobs, {"weights": folder})
    assert (ran.code, ran.result["reason"]) == (10, "InputInvalid")
    assert "the safetensors hold no 'encoder.layer.2." in ran.result["message"]


def test_a_builder_without_torch_says_which_image_has_it(jobs: Jobs) -> None:
    ran = jobs.build(jobs.corpus("x", "weights.txt"), architecture="SentenceEncoder")
    assert (ran.code, ran.result["reason"]) == (10, "BuildFailed")
    assert ran.result["message"] == (
        "This builder has no torch and no transformers, which a SentenceEncoder is built with. Run the image "
        "builder-torch (docs/images.md)."
    )
