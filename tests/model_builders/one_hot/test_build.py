"""The sample through both Jobs, and out of its artifact."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from model_builders.one_hot.served.answering import Question, load, tensors
from tests.model_builders.made import Jobs

pytestmark = pytest.mark.jobs

SAMPLE = Path(__file__).resolve().parents[3] / "manifests/samples/word-places.yaml"
TERMS = ["다음", "막걸리", "선술집", "시간", "앞", "역", "잔", "첫", "한", "기차"]


def build_sample(jobs: Jobs) -> Path:
    config_map, model = yaml.safe_load_all(SAMPLE.read_text(encoding="utf-8"))
    build = model["spec"]["build"]
    digest = jobs.corpus(config_map["data"]["texts.txt"], "texts.txt")
    ran = jobs.build(digest, build["oneHot"], build["quality"], build["architecture"])
    assert ran.code == 0, ran.log
    return jobs.store / "artifacts" / str(ran.result["digest"])


def test_sample_becomes_an_artifact_without_a_model_file(jobs: Jobs) -> None:
    artifact = build_sample(jobs)
    assert {path.name for path in (artifact / "1").iterdir()} == {
        "answering.py",
        "backend.py",
        "model.py",
        "settings.json",
        "vectors.py",
        "vocabulary.json",
        "words.py",
    }
    vocabulary = json.loads((artifact / "1/vocabulary.json").read_text(encoding="utf-8"))
    assert vocabulary == sorted(TERMS)
    kept = json.loads((artifact / "metrics.json").read_text(encoding="utf-8"))
    assert kept["metrics"] == {
        "terms": 10,
        "texts": 5,
        "tokens": 16,
        "coverage": 1.0,
        "tokensPerText": 3.2,
        "filesPassedOver": 0,
    }
    (beside,) = kept["drawings"]
    assert beside["head"] == ["bytes", "indices", "one-hot", "dense"]
    assert beside["rows"] == [
        ["a word", 8, 40, 400],
        ["a text, in one vector", 25.6, 40, 400],
        ["the table behind them", 0, 0, 4000],
    ]
    assert "takes 1,000 multiplications as a one-hot vector" in beside["caption"]
    assert beside["caption"] in (artifact / "report.html").read_text(encoding="utf-8")


def test_artifact_answers_places_and_vectors(jobs: Jobs) -> None:
    answering = load(build_sample(jobs) / "1")
    asked = [Question("기차 시간 기차 소년", "MultiHot")]
    answer = tensors(asked, answering.answer(asked))
    train, time = answering.terms.index("기차"), answering.terms.index("시간")
    assert answer["indices"].tolist() == [[train, time, train, -1]]
    assert answer["multi_hot"].sum() == 2
    assert answer["multi_hot"][0, [train, time]].tolist() == [1, 1]


def test_examples_hold_every_encoding(jobs: Jobs) -> None:
    content = json.loads((build_sample(jobs) / "examples.json").read_text(encoding="utf-8"))
    outputs = {
        example["name"]: {output["name"] for output in example["outputs"]} for example in content["examples"]
    }
    assert outputs == {
        "a word": {"indices", "tokens"},
        "a text": {"indices", "tokens"},
        "one-hot vectors": {"indices", "tokens", "one_hot"},
        "a multi-hot vector": {"indices", "tokens", "multi_hot"},
        "a batch of two": {"indices", "tokens"},
    }
