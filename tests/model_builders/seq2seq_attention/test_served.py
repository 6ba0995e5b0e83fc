"""The samples of translation in a server: agent, Envoy and the real Triton, over HTTP and gRPC."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tests.model_builders.asking import Asked, asking, serving, texts
from tests.model_builders.seq2seq_attention.test_seq2seq_job import without_attention
from tests.model_builders.translation.asking import hold_beams_to_greedy, hold_rows_to_themselves_alone
from tests.model_builders.translation.samples import sample
from tests.nlp_agent.running import RunningAgent
from tools.translation_samples import reversed_lines

pytestmark = [pytest.mark.triton, pytest.mark.timeout(900)]  # the first time, torch is downloaded

REVERSED, ENGLISH = "reversed-words", "korean-english"
PROTOCOLS = ("http", "grpc")


@pytest.fixture(scope="module")
def lines() -> Iterator[RunningAgent]:
    with serving(REVERSED, sample(REVERSED).artifact, batch=64) as agent:
        yield agent


@pytest.fixture(scope="module")
def english() -> Iterator[RunningAgent]:
    with serving(ENGLISH, sample(ENGLISH).artifact, batch=64) as agent:
        yield agent


@pytest.fixture(params=PROTOCOLS)
def reverse(request: pytest.FixtureRequest, lines: RunningAgent) -> Iterator[Asked]:
    with asking(lines, request.param, REVERSED) as asked:
        yield asked


@pytest.fixture(params=PROTOCOLS)
def translate(request: pytest.FixtureRequest, english: RunningAgent) -> Iterator[Asked]:
    with asking(english, request.param, ENGLISH) as asked:
        yield asked


def test_the_agent_proved_the_translator_by_its_examples(lines: RunningAgent) -> None:
    found = lines.model(REVERSED)
    assert (found["state"], found["examples"]) == ("Serving", 3)


def test_lines_nobody_has_seen_are_reversed_and_looked_at_from_their_end(reverse: Asked) -> None:
    asked = reversed_lines(60, 3, 7, seed=7)
    given = reverse(text=[line for line, _ in asked])
    right = [found == wanted for found, (_, wanted) in zip(texts(given["translation"]), asked, strict=True)]
    assert sum(right) >= 0.97 * len(asked)
    steps, diagonal = 0, 0
    for row, (line, _) in enumerate(asked):
        length = len(line.split())
        looked = given["attention"][row, :length, :length].argmax(axis=1)
        diagonal += int((looked == np.arange(length)[::-1]).sum())
        steps += length
        np.testing.assert_allclose(given["attention"][row, :length].sum(axis=1), 1, atol=1e-5)
    assert diagonal >= 0.95 * steps
    assert given["finished"].all()


def test_a_sentence_gets_its_translation_its_tokens_and_where_it_was_looked(translate: Asked) -> None:
    given = translate(text=["어제 그녀는 빵을 기억했다."])
    assert texts(given["translation"]) == ["She remembered the bread yesterday."]
    assert texts(given["tokens"]) == ["▁She", "▁remembered", "▁the", "▁bread", "▁yesterday", "."]
    assert texts(given["source_tokens"]) == ["▁어제", "▁그녀는", "▁빵을", "▁기억했다", "."]
    assert given["token_ids"].shape == (1, 6)
    assert given["score"][0, 0] > -0.1
    looked = given["attention"][0].argmax(axis=1)
    assert [int(looked[word]) for word in (0, 1, 3, 4)] == [1, 3, 2, 0]


def test_a_sentence_in_a_batch_is_the_sentence_alone(translate: Asked) -> None:
    asked = ["나는 책을 샀다.", "아침에 우리는 편지를 찾았다.", "너는 漢字를 보았다.", "그는 노래를 잊었다."]
    hold_rows_to_themselves_alone(translate, asked)


def test_a_beam_is_as_good_as_greedy_at_least(translate: Asked) -> None:
    hold_beams_to_greedy(translate, ["어제 아이는 사과를 좋아했다.", "너는 신문을 잊었다."], [4, 16])


def test_a_character_nobody_has_seen_is_told(translate: Asked) -> None:
    given = translate(text=["나는 漢字를 샀다."])
    assert texts(given["source_tokens"]).count("<UNK>") == 2
    assert texts(given["translation"])[0].startswith("I ")


@pytest.mark.parametrize(
    ("text", "beam_size", "sentence"),
    [
        pytest.param(
            "나는 빵을 샀다.", 1000, "beam_size is 1000; it must be between 1 (greedy) and 16.", id="wide"
        ),
        pytest.param(
            "나는 빵을 샀다.", 0, "beam_size is 0; it must be between 1 (greedy) and 16.", id="none"
        ),
        pytest.param("", 1, "text is empty; there is nothing to translate.", id="empty"),
        pytest.param(
            "나는 빵을 샀다. " * 100,
            1,
            "text has 400 tokens; this model reads at most 32. Ask sentence by sentence.",
            id="long",
        ),
    ],
)
def test_a_bad_request_is_refused_with_a_sentence(
    translate: Asked, text: str, beam_size: int, sentence: str
) -> None:
    with pytest.raises(InferenceServerException) as refused:
        translate(text=[text], beam_size=[beam_size])
    assert sentence in str(refused.value)
    assert texts(translate(text=["나는 빵을 샀다."])["translation"]) == ["I bought the bread."]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_without_attention_answers_all_the_rest(protocol: str) -> None:
    artifact = without_attention().artifact
    with serving("without", artifact, batch=64) as server, asking(server, protocol, "without") as ask:
        given = ask(text=["가 나 다", "마"], beam_size=[1, 4])
    assert set(given) == {"translation", "tokens", "token_ids", "source_tokens", "score", "finished"}
    assert given["translation"].shape == (2, 1)


def test_bytes_that_are_no_text_are_refused(translate: Asked) -> None:
    with pytest.raises(InferenceServerException, match="text is not UTF-8: byte 0 is 0xba"):
        translate(text=[b"\xba\xf1"])
