"""The sample in a server: agent, Envoy and the real Triton, over HTTP and gRPC."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from nlpctl.__main__ import main
from tests.model_builders.asking import Asked, asking, serving, texts
from tests.model_builders.made import make_jobs, request_of_build
from tests.model_builders.torch_jobs import fetch
from tests.model_builders.word2vec.test_word2vec_job import sample
from tests.model_builders.word2vec.test_words_as_numbers import VECTORS, as_binary, as_text
from tests.nlp_agent.running import RunningAgent

pytestmark = [pytest.mark.triton, pytest.mark.timeout(900)]  # the first time, torch is downloaded

MODEL = "korean-words"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningAgent]:
    with serving(MODEL, sample().artifact, batch=32) as agent:
        yield agent


@pytest.fixture(params=["http", "grpc"])
def ask(request: pytest.FixtureRequest, server: RunningAgent) -> Iterator[Asked]:
    with asking(server, request.param, MODEL) as asked:
        yield asked


def test_the_agent_proved_the_vectors_by_their_examples(server: RunningAgent) -> None:
    found = server.model(MODEL)
    assert (found["state"], found["examples"]) == ("Serving", 5)


def test_son_minus_daughter_plus_girl_is_boy(ask: Asked) -> None:
    for columns in (
        {"positive": [["아들", "소녀"]], "negative": [["딸"]]},
        {"text": ["아들"], "positive": [["소녀"]], "negative": [["딸"]]},
    ):
        given = ask(**columns)
        assert texts(given["nearest_words"])[0] == "소년"
        np.testing.assert_allclose(np.linalg.norm(given["vector"], axis=1), 1, atol=1e-5)


def test_a_word_has_a_vector_a_similarity_and_neighbours(ask: Asked) -> None:
    given = ask(text=["아들", "아들"], text_pair=["딸", "백성"], top_k=[3, 3])
    assert given["vector"].shape == (2, 32)
    assert given["similarity"][0, 0] > given["similarity"][1, 0]
    assert given["nearest_words"].shape == (2, 3)
    assert (np.diff(given["nearest_words_similarity"], axis=1) <= 0).all()
    assert "similarity" not in ask(text=["아들"])
    assert ask(text=["아들"], outputs=["nearest_words"]).keys() == {"nearest_words"}


def test_a_row_among_others_is_the_row_alone(ask: Asked) -> None:
    rows = [["아들", "소녀"], ["왕", ""], ["학교", "숙제"]]
    negatives = [["딸"], [""], [""]]
    together = ask(positive=rows, negative=negatives)
    for row, (positive, negative) in enumerate(zip(rows, negatives, strict=True)):
        alone = ask(positive=[positive], negative=[negative])
        np.testing.assert_allclose(together["vector"][row], alone["vector"][0], atol=1e-5)
        assert texts(together["nearest_words"][row]) == texts(alone["nearest_words"])


def test_a_word_out_of_vocabulary_fails_its_request_and_not_its_batch(server: RunningAgent) -> None:
    """Many requests at once, so that Triton batches good and bad ones."""
    asked = Asked(server, "grpc", MODEL)

    def one(index: int) -> str:
        word = "우주선" if index % 3 == 0 else "소녀"
        try:
            return texts(asked(positive=[["아들", word]], negative=[["딸"]])["nearest_words"])[0]
        except InferenceServerException as error:
            return "refused" if "'우주선' is not one of the" in str(error) else str(error)

    with asked.client, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, range(90)))
    assert answers == ["refused" if index % 3 == 0 else "소년" for index in range(90)]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("3 3\n" + as_text(), id="word2vec, text"),
        pytest.param(as_text(), id="GloVe"),
        pytest.param(as_binary(line_feeds=True), id="word2vec, binary"),
    ],
)
def test_vectors_of_a_file_are_built_and_answer_as_they_are(tmp_path: Path, content: str | bytes) -> None:
    """By the real Jobs, which need no torch for it, and the real Triton."""
    jobs = make_jobs(tmp_path)
    ran = jobs.run("build", request_of_build(fetch(jobs, vectors=content), "Word2Vec", {}))
    assert ran.code == 0, ran.log
    artifact = jobs.store / "artifacts" / str(ran.result["digest"])
    with serving("imported", artifact, batch=4) as agent, asking(agent, "grpc", "imported") as ask:
        given = ask(text=list(VECTORS), text_pair=["왕"] * 3)
        np.testing.assert_array_equal(given["vector"], list(VECTORS.values()))
        assert texts(given["nearest_words"][0]) == ["왕", "소녀"]
        assert given["similarity"].ravel() == pytest.approx([0.254367, -0.77562, 1], abs=1e-5)
        subtracted = ask(positive=[["소년"]], negative=[["소녀"]])
        assert texts(subtracted["nearest_words"]) == ["왕"]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        pytest.param({"top_k": [3]}, "There is no word to answer; give text, or", id="nothing"),
        pytest.param({"text": ["소년"], "top_k": [0]}, "top_k is 0; it must be between 1", id="top_k"),
        pytest.param({"text": ["왕"], "negative": [["왕"]]}, "is a positive and a negative word", id="both"),
        pytest.param({"positive": [[b"\xba\xf1"]]}, "positive is not UTF-8: byte 0 is 0xba", id="encoding"),
    ],
)
def test_bad_request_for_words_gets_a_sentence(ask: Asked, columns: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InferenceServerException, match=sentence):
        ask(**columns)
    assert ask(text=["소년"])["vector"].shape == (1, 32)


def test_generate_takes_lists_of_words(server: RunningAgent) -> None:
    """Triton's shorthand for one row, which is what one wants at a terminal."""
    body = {"text": "아들", "positive": "소녀", "negative": "딸", "top_k": 1}
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.http}/v2/models/{MODEL}/generate", json.dumps(body).encode()
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        assert json.load(response)["nearest_words"] == "소년"


def test_the_report_of_the_model_that_serves_is_saved(
    server: RunningAgent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "words.html"
    words = ["--address", f"127.0.0.1:{server.port}"]
    main(["report", MODEL, *words, "-o", str(target)])
    assert capsys.readouterr().out.strip() == str(target)
    page = target.read_text(encoding="utf-8")
    assert page == (sample().artifact / "report.html").read_text(encoding="utf-8")
    assert page.count('class="arrow"') >= 4
    assert ">소년</text>" in page
    assert "≥ 0.9: holds" in page
    with pytest.raises(SystemExit) as ended:
        main(["report", "another", *words, "-o", str(target)])
    assert ended.value.code != 0
    assert "another has no report at 127.0.0.1" in capsys.readouterr().err


def test_nlpctl_asks_for_an_analogy(server: RunningAgent, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["infer", MODEL, "아들", "--input", "negative=딸", "--input", "positive=소녀"]
    words += ["--input", "positive="]  # empty words mean nothing
    main([*words, "--address", f"127.0.0.1:{server.http}"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["1", "소년"] in [line[:2] for line in lines]
