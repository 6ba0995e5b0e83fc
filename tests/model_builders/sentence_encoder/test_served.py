"""MiniLM in a server: agent, Envoy and the real Triton, over HTTP and gRPC."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from model_builders.sentence_encoder.samples import SENTENCES
from nlpctl.__main__ import main
from tests.model_builders.asking import Asked, asking, serving
from tests.model_builders.sentence_encoder.minilm import CANDIDATES, DIMENSIONS, minilm
from tests.nlp_agent.running import RunningAgent

pytestmark = [
    pytest.mark.triton,
    pytest.mark.timeout(900),
]  # the first time, torch is downloaded and MiniLM built

MODEL = "sentences"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningAgent]:
    with serving(MODEL, minilm().artifact, batch=32, instances=2) as agent:
        yield agent


@pytest.fixture(params=["http", "grpc"])
def ask(request: pytest.FixtureRequest, server: RunningAgent) -> Iterator[Asked]:
    with asking(server, request.param, MODEL) as asked:
        yield asked


def test_texts_that_mean_the_same_are_near_and_others_are_not(ask: Asked) -> None:
    given = ask(
        text=["A man is playing the guitar."] * 2,
        text_pair=["Someone plays an instrument.", "Stocks fell sharply on Monday."],
    )
    near, far = given["similarity"].ravel()
    assert near >= 0.60
    assert far <= 0.10
    assert given["vector"].shape == (2, DIMENSIONS)
    np.testing.assert_allclose(np.linalg.norm(given["vector"], axis=1), 1, atol=1e-5)


def test_the_nearest_candidates_are_named(ask: Asked) -> None:
    given = ask(text=["I forgot my password", "the strings of my instrument sound wrong"])
    names = [[name.decode() for name in row] for row in given["nearest_candidates"]]
    assert names[0][0] == CANDIDATES[0]
    assert names[1][0] == "The guitar is out of tune."
    assert given["nearest_candidates_similarity"].shape == (2, 3)
    assert (np.diff(given["nearest_candidates_similarity"], axis=1) <= 0).all()


def test_a_row_in_a_batch_is_the_row_alone(ask: Asked) -> None:
    """Korean, emoji, nothing at all, and a text longer than the model reads, in one request."""
    texts = [*SENTENCES[-24:], "word " * 300]
    together = ask(text=texts)["vector"]
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_allclose(ask(text=[text], outputs=["vector"])["vector"][0], row, atol=1e-5)


def test_what_is_longer_than_the_model_reads_has_no_influence(ask: Asked) -> None:
    cut = "river " * 254  # with the two special tokens, 256
    given = ask(text=[cut, cut + "guitar", cut + "stocks " * 1000])
    np.testing.assert_allclose(given["vector"][1:], given["vector"][:1].repeat(2, axis=0), atol=1e-6)
    assert given["truncated"].ravel().tolist() == [False, True, True]


def test_requests_at_the_same_time_get_their_own_answers(server: RunningAgent) -> None:
    """Triton puts them into batches; short and long ones share a pass or not."""
    texts = [sentence * repeats for sentence in SENTENCES[:12] for repeats in (1, 6)]
    with asking(server, "grpc", MODEL) as asked, ThreadPoolExecutor(16) as pool:
        alone = [asked(text=[text])["vector"][0] for text in texts]
        found = list(pool.map(lambda text: asked(text=[text])["vector"][0], texts))
    np.testing.assert_allclose(found, alone, atol=1e-5)


def test_bytes_that_are_not_text_are_refused_and_other_requests_are_answered(ask: Asked) -> None:
    with pytest.raises(InferenceServerException, match="text is not UTF-8: byte 3 is 0xba"):
        ask(text=[b"abc" + "비".encode("cp949")])
    assert ask(text=["abc"])["vector"].shape == (1, DIMENSIONS)


def test_the_agent_proved_it_by_its_examples_and_measured_its_memory(server: RunningAgent) -> None:
    found = server.model(MODEL)
    assert (found["state"], found["examples"]) == ("Serving", 5)
    assert 100 < found["memoryMebibytes"] < 1500


def test_nlpctl_shows_vector_cosine_and_candidates(
    server: RunningAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["infer", MODEL, "a guitar", "--pair", "an instrument", "--address", f"127.0.0.1:{server.http}"]
    main(words)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert any(line.startswith("vector ") and line.endswith("(384 in all)]") for line in lines)
    assert any(line.startswith("similarity ") and float(line.split()[-1]) >= 0.6 for line in lines)
    assert any("The guitar is out of tune." in line for line in lines)
    main([*words, "--json"])
    outputs = json.loads(capsys.readouterr().out)["outputs"]
    assert len(outputs["vector"]["data"]) == DIMENSIONS
    assert len(outputs["nearest_candidates"]["data"]) == 3
