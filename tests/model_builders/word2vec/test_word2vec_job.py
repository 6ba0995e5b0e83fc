"""The real build Job, with torch: the sample, and what happens when it is killed or diverges."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster.ports import Ports
from model_builders.word2vec.served.answering import Question, load
from tests.model_builders.made import Jobs, Ran, make_jobs, request_of_build
from tests.model_builders.test_progress import ask
from tests.model_builders.torch_jobs import (
    ROOT,
    WHERE,
    Built,
    fetch,
    kept,
    killed_and_run_again,
    run_build,
    with_torch,
)
from tools.korean_words import PEOPLE, sentences

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(900)]  # the first time, torch is downloaded

SAMPLE = ROOT / "manifests/samples/korean-words.yaml"
CHUNK_TOKENS = 1 << 16
"""What a worker trains at a time (training.py, which needs torch)."""
BLANKS = {"tokenizer": "Whitespace", "embeddingDim": 16, "minCount": 2, "epochs": 3}


def build(jobs: Jobs, parameters: Mapping[str, Any], **files: str | bytes) -> Ran:
    request = request_of_build(fetch(jobs, **files), "Word2Vec", parameters)
    return run_build(with_torch(jobs), request)


def corpus() -> str:
    return "\n".join(sentences()) + "\n"


@cache
def sample() -> Built:
    return kept("korean-words", make_sample)


@cache
def sample_by_cbow() -> Built:
    return kept("korean-words-cbow", partial(make_sample, model="Cbow", epochs=80))


def make_sample(jobs: Jobs, **parameters: Any) -> Ran:
    config_map, model = yaml.safe_load_all(SAMPLE.read_text(encoding="utf-8"))
    spec, data = model["spec"]["build"], config_map["data"]
    found = fetch(jobs, corpus=data["corpus.txt"], analogies=data["analogies.txt"])
    request = request_of_build(found, "Word2Vec", spec["word2Vec"] | parameters, spec["quality"])
    return run_build(with_torch(jobs), request)


def test_the_analogy_of_the_note_comes_first_on_the_sample() -> None:
    answering = load(sample().artifact / "1")
    (answer,) = answering.answer([Question("아들", None, ("소녀",), ("딸",), top_k=3)])
    assert answer.nearest[0].name == "소년"
    metrics = json.loads((sample().artifact / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    assert metrics["analogyTop1"] >= 0.9
    assert metrics["analogyCoverage"] == 1
    assert int(sample().result["metrics"]["wordsPerSecond"]) > 0


def test_artifact_of_word_vectors_holds_no_torch_and_no_pickle() -> None:
    names = {path.name for path in (sample().artifact / "1").iterdir()}
    assert names == {
        "answering.py",
        "backend.py",
        "model.onnx",
        "model.py",
        "settings.json",
        "vectors.py",
        "vocabulary.json",
        "words.py",
    }
    settings = json.loads((sample().artifact / "1/settings.json").read_text(encoding="utf-8"))
    assert settings["tokenizer"] == "KoreanMorphemes"
    text = (sample().artifact / "metrics.json").read_text(encoding="utf-8")
    assert "wordsPerSecond" not in text  # differs from machine to machine


@pytest.mark.parametrize(("pair", "kinds"), [pytest.param(*one, id=one[0][0]) for one in PEOPLE])
def test_words_of_one_pair_are_near_and_of_different_kind_far(
    pair: tuple[str, str], kinds: tuple[str, ...]
) -> None:
    """A person is nearer to the other of the pair, and to each of what belongs to them, than to anything of
    the other pairs."""
    answering = load(sample().artifact / "1")
    elsewhere = [thing for others, things in PEOPLE if others != pair for thing in things]

    def similarities(person: str, words: Sequence[str]) -> list[float]:
        found = [one.similarity for one in answering.answer([Question(person, word) for word in words])]
        return [one for one in found if one is not None]

    for person, other in (pair, pair[::-1]):
        near, far = similarities(person, (other, *kinds)), similarities(person, elsewhere)
        assert (len(near), len(far)) == (1 + len(kinds), len(elsewhere))
        assert min(near) > max(far)


def test_cbow_finds_the_analogies_of_the_sample_too() -> None:
    """It learns from one mean of a window where skip-gram learns from each of its words, so it needs more
    epochs; 40 of them find 0.57 of the analogies."""
    answering = load(sample_by_cbow().artifact / "1")
    (answer,) = answering.answer([Question("아들", None, ("소녀",), ("딸",), top_k=3)])
    assert answer.nearest[0].name == "소년"
    metrics = json.loads((sample_by_cbow().artifact / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    assert metrics["analogyTop1"] >= 0.9
    assert metrics["analogyCoverage"] == 1


@pytest.mark.parametrize("model", ["SkipGram", "Cbow"])
def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path: Path, model: str) -> None:
    digests = []
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        (tmp_path / name).mkdir()
        ran = build(make_jobs(tmp_path / name), BLANKS | {"model": model, "seed": seed}, corpus=corpus())
        assert ran.code == 0, ran.log
        digests.append(ran.result["digest"])
    assert digests[0] == digests[1] != digests[2]


def test_a_killed_build_goes_on_at_a_later_step_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    parameters = BLANKS | {"embeddingDim": 300, "epochs": 40}
    jobs = with_torch(make_jobs(tmp_path))
    request = request_of_build(fetch(jobs, corpus=corpus() * 4), "Word2Vec", parameters)
    again = killed_and_run_again(jobs, request, tmp_path / "termination-log")
    assert "the corpus was read by an earlier pod" in again.log
    going_on = re.search(r"going on at step (\d+) of 40, where an earlier pod was", again.log)
    assert going_on, again.log
    assert 0 < int(going_on[1]) < 40

    (tmp_path / "whole").mkdir()
    whole = make_jobs(tmp_path / "whole")
    assert build(whole, parameters, corpus=corpus() * 4).result["digest"] == again.result["digest"]


def test_several_workers_train_the_same_weights_and_none_is_left(tmp_path: Path) -> None:
    """Of a text that is more than one chunk, or there would be work for one only."""
    text = corpus() * (CHUNK_TOKENS // len(corpus().split()) + 2)
    ran = build(make_jobs(tmp_path), BLANKS | {"workers": 2}, corpus=text)
    assert ran.code == 0, ran.log
    losses = re.findall(r"epoch (\d) of 3, 100 %: loss ([\d.]+)", ran.log)
    assert losses[-1][0] == "3"
    assert float(losses[-1][1]) < 3.0  # of random vectors it is 6 ln 2 = 4.2


def test_progress_says_epoch_loss_speed_and_time_left(tmp_path: Path) -> None:
    ran = build(make_jobs(tmp_path), BLANKS, corpus=corpus())
    assert ran.code == 0, ran.log
    line = r"INFO epoch 3 of 3, 100 %: loss \d+\.\d{4}, [\d,]+ words/s, 0 s left"
    assert re.search(line, ran.log), ran.log


def test_a_training_with_workers_tells_whoever_asks_how_far_it_is(tmp_path: Path) -> None:
    jobs, ports = with_torch(make_jobs(tmp_path)), Ports()
    port = ports.take()
    text = corpus() * (CHUNK_TOKENS // len(corpus().split()) + 2)
    request = request_of_build(fetch(jobs, corpus=text), "Word2Vec", BLANKS | {"workers": 2, "epochs": 1000})
    variables = {"NLP_PROGRESS_PORT": str(port), "PYTHONPATH": WHERE}
    training = subprocess.Popen(
        [jobs.python, "-m", "model_builders", "build"],
        env=jobs.environment(request, tmp_path / "termination-log", **variables),
        stderr=subprocess.DEVNULL,
    )
    deadline, told = time.monotonic() + 120, ""
    try:
        while "epoch" not in told:
            assert training.poll() is None, "it ended before it was asked"
            assert time.monotonic() < deadline, told
            time.sleep(0.1)
            with suppress(OSError):  # it does not listen yet
                told = str(ask(port)["message"])
    finally:
        training.terminate()
        training.wait()
        ports.release()
    line = r"epoch \d+ of 1000, \d+ %: loss \d+\.\d{4}, [\d,]+ words/s, \d+ (s|min) left"
    assert re.fullmatch(line, told), told


def test_a_loss_that_is_not_finite_stops_the_build_with_a_sentence(tmp_path: Path) -> None:
    ran = build(make_jobs(tmp_path), BLANKS | {"learningRate": "10", "epochs": 100}, corpus=corpus())
    assert (ran.code, ran.result["reason"]) == (10, "TrainingDiverged")
    assert re.match(
        r"The loss is (nan|inf) in epoch \d+ of 100: the vectors have grown without bound. Lower "
        r"spec.build.word2Vec.learningRate, which is 10 \(0.025 is usual\), or raise minCount.",
        ran.result["message"],
    )


def test_vectors_are_imported_measured_and_served_as_they_are(tmp_path: Path) -> None:
    vectors = "아들 1 1 0\n딸 1 -1 0\n소년 0 1 1\n소녀 0 -1 1\n"
    ran = build(
        make_jobs(tmp_path), {}, vectors=vectors, analogies=": one\n딸 아들 소녀 소년\n딸 아들 왕 여왕\n"
    )
    assert ran.code == 0, ran.log
    metrics = {"analogyTop1": "1", "analogyTop5": "1", "analogyQuestions": "1", "analogyCoverage": "0.5"}
    assert ran.result["metrics"] == metrics | {"terms": "4"}
    assert ran.result["message"].startswith("Imported 4 vectors of 3 numbers (GloVe).")
    (answer,) = load(tmp_path / "store/artifacts" / ran.result["digest"] / "1").answer([Question("소년")])
    assert answer.vector.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("files", "reason", "sentence"),
    [
        pytest.param({"corpus": "a b\n"}, "ParameterInvalid", "minCount is 2: of the 2 different", id="few"),
        pytest.param(
            {"corpus": b"a a a\n\xb0\xa1 b\n"},
            "InputEncoding",
            "Input 'corpus': corpus.txt, line 2 is not UTF-8: its byte 1 (byte 7 of the file) is "
            "0xb0. It looks like CP949",
            id="encoding",
        ),
        pytest.param(
            {"corpus": "a b\n" + "a" * 1_000_001},
            "InputInvalid",
            "Input 'corpus': corpus.txt, line 2 has more than 1,000,000 bytes",
            id="a megabyte line",
        ),
        pytest.param(
            {"corpus": "id\tdocument\n1\ta\n"},
            "InputInvalid",
            "Input 'corpus': corpus.txt, line 1 has the columns 'id', 'document' and no text",
            id="missing column",
        ),
        pytest.param(
            {"corpus": "\n \n"}, "InputEmpty", "Input 'corpus' holds no line with a text in it", id="empty"
        ),
        pytest.param(
            {"corpus": "id\tdocument\n1\ta\n", "texts": "x"},
            "ParameterInvalid",
            "spec.build.inputs names corpus, texts; Word2Vec takes corpus",
            id="inputs",
        ),
        pytest.param(
            {"corpus": "a a b b\n", "analogies": "a b a\n"},
            "InputInvalid",
            "Input 'analogies': analogies.txt, line 1 is 'a b a'; an analogy has four words",
            id="analogies",
        ),
    ],
)
def test_bad_data_of_word_vectors_gets_a_sentence(
    tmp_path: Path, files: dict[str, Any], reason: str, sentence: str
) -> None:
    ran = build(make_jobs(tmp_path), BLANKS, **files)
    assert (ran.code, ran.result["reason"]) == (10, reason), ran.log
    assert sentence in ran.result["message"]


def test_a_bound_on_what_no_input_measures_says_so(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path)
    quality = [{"metric": "analogyTop1", "atLeast": "0.5"}]
    request = request_of_build(fetch(jobs, corpus=corpus()), "Word2Vec", BLANKS, quality)
    ran = with_torch(jobs).run("build", request, PYTHONPATH=WHERE)
    assert (ran.code, ran.result["reason"]) == (10, "ParameterInvalid")
    assert "a bound for analogyTop1, which was not measured for want of an input" in ran.result["message"]


def test_training_without_torch_names_the_image_and_import_needs_none(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path)
    ran = jobs.run("build", request_of_build(fetch(jobs, corpus=corpus()), "Word2Vec", BLANKS))
    assert (ran.code, ran.result["reason"]) == (10, "BuildFailed")
    assert "no torch, which Word2Vec is trained with. Run the image builder-torch" in ran.result["message"]
    ran = jobs.run("build", request_of_build(fetch(jobs, vectors="a 1 2\nb 3 4\n"), "Word2Vec", {}))
    assert ran.code == 0, ran.log
