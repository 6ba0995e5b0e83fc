"""The sample of transfer in a server: agent, Envoy and the real Triton, over HTTP and gRPC."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tests.model_builders.asking import Asked, asking, serving, texts
from tests.model_builders.text_classifier.test_classifier_job import sample
from tests.nlp_agent.running import RunningAgent
from tools.korean_words import ASKED_ABOUT, labelled

pytestmark = [pytest.mark.triton, pytest.mark.timeout(900)]  # the first time, torch is downloaded

MODEL = "korean-people"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningAgent]:
    with serving(MODEL, sample().artifact, batch=64) as agent:
        yield agent


@pytest.fixture(params=["http", "grpc"])
def ask(request: pytest.FixtureRequest, server: RunningAgent) -> Iterator[Asked]:
    with asking(server, request.param, MODEL) as asked:
        yield asked


def test_the_agent_proved_the_classifier_by_its_examples(server: RunningAgent) -> None:
    found = server.model(MODEL)
    assert (found["state"], found["examples"]) == ("Serving", 3)


def test_texts_about_people_without_a_label_of_their_own_get_the_right_one(ask: Asked) -> None:
    rows = [line.split("\t") for line in labelled(ASKED_ABOUT)[1:]]
    given = ask(text=[text for text, _ in rows])
    right = [found == label for found, (_, label) in zip(texts(given["label"]), rows, strict=True)]
    assert sum(right) >= 0.9 * len(rows)
    np.testing.assert_allclose(given["probabilities"].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(given["score"].ravel(), given["probabilities"].max(axis=1), atol=1e-6)
    assert texts(given["labels"][0]) == ["남", "여"]


def test_a_text_in_a_batch_is_the_text_alone(ask: Asked) -> None:
    """A long one, an empty one, one of unknown words: none of them changes the others."""
    asked = ["소년은 밥을 먹었다.", "", "우주선", "할머니의 노래를 들었다. " * 40, "왕"]
    together = ask(text=asked)["probabilities"]
    for text, row in zip(asked, together, strict=True):
        np.testing.assert_allclose(ask(text=[text])["probabilities"][0], row, atol=1e-5)


def test_bytes_that_are_no_text_are_refused(ask: Asked) -> None:
    with pytest.raises(InferenceServerException, match="text is not UTF-8: byte 0 is 0xba"):
        ask(text=[b"\xba\xf1"])
    assert ask(text=["왕"], outputs=["label"]).keys() == {"label"}
