"""The sample of a Transformer in a server: agent, Envoy and the real Triton, over HTTP and gRPC."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tests.model_builders.asking import Asked, asking, serving, texts
from tests.model_builders.translation.asking import hold_beams_to_greedy, hold_rows_to_themselves_alone
from tests.model_builders.translation.samples import sample
from tests.nlp_agent.running import RunningAgent

pytestmark = [pytest.mark.triton, pytest.mark.timeout(900)]  # the first time, torch is downloaded

NAME = "english-korean"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningAgent]:
    with serving(NAME, sample(NAME).artifact, batch=64) as agent:
        yield agent


@pytest.fixture(params=("http", "grpc"))
def translate(request: pytest.FixtureRequest, server: RunningAgent) -> Iterator[Asked]:
    with asking(server, request.param, NAME) as asked:
        yield asked


def test_the_agent_proved_the_translator_by_its_examples(server: RunningAgent) -> None:
    found = server.model(NAME)
    assert (found["state"], found["examples"]) == ("Serving", 3)


def test_a_sentence_gets_its_translation_its_tokens_and_what_each_head_looked_at(translate: Asked) -> None:
    given = translate(text=["She remembered the bread yesterday."])
    assert texts(given["translation"]) == ["어제 그녀는 빵을 기억했다."]
    assert texts(given["source_tokens"]) == ["▁She", "▁remembered", "▁the", "▁bread", "▁yesterday", "."]
    assert texts(given["tokens"]) == ["▁어제", "▁그녀는", "▁빵을", "▁기억했다", "."]
    assert given["attention"].shape == (1, 2, 4, 5, 6)
    np.testing.assert_allclose(given["attention"].sum(axis=-1), 1, atol=1e-5)
    assert given["finished"].all()
    looked = given["attention"][0].argmax(axis=-1)  # (layers, heads, T)
    for word, place in enumerate((4, 0, 3, 1)):
        assert place in looked[:, :, word]


def test_a_sentence_in_a_batch_is_the_sentence_alone(translate: Asked) -> None:
    asked = ["I bought the book.", "We found the letter in the morning.", "You saw 漢字.", "He forgot it."]
    hold_rows_to_themselves_alone(translate, asked, heads=8)


def test_a_beam_is_as_good_as_greedy_at_least(translate: Asked) -> None:
    asked = ["The child liked the apple yesterday.", "You forgot the newspaper."]
    hold_beams_to_greedy(translate, asked, [4, 16])


def test_a_character_nobody_has_seen_is_told(translate: Asked) -> None:
    given = translate(text=["I bought 漢字."])
    assert texts(given["source_tokens"]).count("<UNK>") == 2
    assert given["translation"].shape == (1, 1)


@pytest.mark.parametrize(
    ("text", "beam_size", "sentence"),
    [
        pytest.param("I saw.", 1000, "beam_size is 1000; it must be between 1 (greedy) and 16.", id="wide"),
        pytest.param("", 1, "text is empty; there is nothing to translate.", id="empty"),
        pytest.param(
            "I saw. " * 100, 1, "text has 300 tokens; this model reads at most 32. Ask sentence", id="long"
        ),
    ],
)
def test_a_bad_request_is_refused_with_a_sentence(
    translate: Asked, text: str, beam_size: int, sentence: str
) -> None:
    with pytest.raises(InferenceServerException) as refused:
        translate(text=[text], beam_size=[beam_size])
    assert sentence in str(refused.value)
    assert texts(translate(text=["I bought the bread."])["translation"]) == ["나는 빵을 샀다."]


def test_bytes_that_are_no_text_are_refused(translate: Asked) -> None:
    with pytest.raises(InferenceServerException, match="text is not UTF-8: byte 0 is 0xba"):
        translate(text=[b"\xba\xf1"])
