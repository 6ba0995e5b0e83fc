"""Models of every task in a server: agent, Envoy and the real Triton, over HTTP and gRPC."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from nlpctl.__main__ import main
from tests.model_builders.asking import Asked, asking, serving_all, streaming, texts
from tests.model_builders.hugging_face.folders import Kind, built
from tests.model_builders.hugging_face.rows import animal_pairs, mood_texts
from tests.model_builders.translation.test_streaming import assert_same, joined
from tests.nlp_agent.running import RunningAgent, make_wanted

pytestmark = [pytest.mark.triton, pytest.mark.timeout(900)]  # the first time, torch is downloaded

KINDS: tuple[Kind, ...] = ("moods", "names", "animals", "digits")


STREAMED: dict[Kind, str] = {"animals": "animals-live", "digits": "digits-live", "moods": "moods-live"}
"""Of the same artifacts; labels cannot be streamed."""


@pytest.fixture(scope="module")
def server() -> Iterator[RunningAgent]:
    with serving_all({kind: built(kind).artifact for kind in KINDS}, batch=64) as agent:
        digests = {kind: built(kind).digest for kind in KINDS}
        streamed = [make_wanted(live, digests[kind], responses="Streamed") for kind, live in STREAMED.items()]
        agent.want(*(make_wanted(kind, digest, batch=64) for kind, digest in digests.items()), *streamed)
        for live in ("animals-live", "digits-live"):
            agent.wait_model(live, state="Serving")
        yield agent


@pytest.fixture(params=("http", "grpc"))
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ask(protocol: str, server: RunningAgent) -> Iterator[dict[Kind, Asked]]:
    asked = {kind: Asked(server, protocol, kind) for kind in KINDS}
    yield asked
    for one in asked.values():
        one.client.close()


def test_the_agent_proved_each_by_its_examples(server: RunningAgent) -> None:
    assert {
        kind: (server.model(kind)["state"], server.model(kind)["examples"]) for kind in KINDS
    } == dict.fromkeys(KINDS, ("Serving", 3))


def test_a_text_has_a_label_and_what_is_too_long_is_cut_as_declared(ask: dict[Kind, Asked]) -> None:
    asked = [text for text, _ in mood_texts()[-6:]]
    given = ask["moods"](text=[*asked, "재미있었다. " * 60])
    assert texts(given["label"])[:6] == [label for _, label in mood_texts()[-6:]]
    np.testing.assert_allclose(given["probabilities"].sum(axis=1), 1, atol=1e-5)
    assert texts(given["labels"][0]) == ["긍정", "부정"]
    assert given["truncated"].ravel().tolist() == [False] * 6 + [True]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_and_places_stand_where_they_are_in_korean_of_both_forms(
    ask: dict[Kind, Asked], form: str
) -> None:
    """NFD is how macOS writes 김: as three letters."""
    asked = [
        unicodedata.normalize("NFC" if form == "NFC" else "NFD", text)
        for text in ("김민준은 부산에서 태어났다.", "이서연은 지금 서울에서 공부했다. 🎸")
    ]
    given = ask["names"](text=asked)
    for row, wanted in enumerate([("김민준", "부산"), ("이서연", "서울")]):
        found = [name.decode() for name in given["entity"][row]]
        assert tuple(unicodedata.normalize("NFC", name) for name in found) == wanted
        assert [label.decode() for label in given["entity_label"][row]] == ["PER", "LOC"]
        places = zip(given["entity_start"][row], given["entity_end"][row], strict=True)
        assert [asked[row][start:end] for start, end in places] == found
        assert (given["entity_score"][row] > 0.9).all()
    assert given["token"].shape == given["token_label"].shape == given["token_end"].shape


def test_sentences_are_translated_in_a_batch_as_alone_greedy_and_by_beams(ask: dict[Kind, Asked]) -> None:
    asked = animal_pairs()[-8:]
    sources = [source for source, _ in asked]
    together = ask["animals"](text=sources, beam_size=[1, 2, 3, 4, 1, 2, 3, 4])
    assert texts(together["translation"]) == [target for _, target in asked]
    assert together["finished"].all()
    for row, source in enumerate(sources):
        alone = ask["animals"](text=[source], beam_size=[(1, 2, 3, 4)[row % 4]])
        length = alone["token_ids"].shape[1]
        assert together["token_ids"][row, :length].tolist() == alone["token_ids"][0].tolist()
        assert not together["token_ids"][row, length:].any()
        np.testing.assert_allclose(alone["score"][0], together["score"][row], atol=1e-5)


def test_t5_is_told_what_to_do_by_the_prefix_of_the_spec(ask: dict[Kind, Asked]) -> None:
    given = ask["digits"](text=["3 7 0 2", "5"], max_tokens=[0, 1])
    assert texts(given["translation"]) == ["삼 칠 영 이", "오"]
    assert given["source_tokens"][0, 0].decode() == "▁읽기:"
    assert given["finished"].ravel().tolist() == [True, False]


@pytest.mark.parametrize(
    ("kind", "columns", "sentence"),
    [
        pytest.param(
            "names", {"text": ["가 " * 70]}, "text has 72 tokens; this model reads at most 64", id="too long"
        ),
        pytest.param(
            "animals", {"text": ["The " * 70]}, "this model reads at most 64", id="too long to translate"
        ),
        pytest.param(
            "animals", {"text": ["a"], "beam_size": [1000]}, "beam_size is 1000", id="a beam of 1,000"
        ),
        pytest.param("digits", {"text": [" "]}, "text is empty", id="nothing"),
        pytest.param("moods", {"text": [b"\xba\xf1"]}, "text is not UTF-8: byte 0 is 0xba", id="no text"),
    ],
)
def test_what_cannot_be_answered_is_refused_and_the_next_is_answered(
    ask: dict[Kind, Asked], kind: Kind, columns: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InferenceServerException, match=sentence):
        ask[kind](**columns)
    assert ask[kind](text=["가"])


def test_characters_that_the_tokenizer_has_never_seen_are_told_and_harm_nothing(
    ask: dict[Kind, Asked],
) -> None:
    given = ask["animals"](text=["The red 漢字 sees the old dog.", "The red cat sees the old dog."])
    assert "<unk>" in texts(given["source_tokens"][0])
    assert given["translation"][1, 0].decode() == "빨간 고양이가 늙은 강아지를 본다."
    assert len(ask["names"](text=["漢字는 서울에서 일한다."])["token"][0]) > 5


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        pytest.param("animals", "The red cat sees the old dog.", id="Marian"),
        pytest.param("animals", "The red 漢字 sees the old dog.", id="Marian, unknown characters"),
        pytest.param("digits", "3 7 0 2", id="T5"),
    ],
)
def test_a_stream_joined_is_the_answer_of_who_waits(server: RunningAgent, kind: Kind, text: str) -> None:
    with asking(server, "grpc", kind) as ask, streaming(server, STREAMED[kind]) as stream:
        for size in (1, 3):
            whole, responses = ask(text=[text], beam_size=[size]), stream.all(text, beam_size=size)
            assert len(responses) == whole["tokens"].shape[1] + 1
            assert_same(joined(responses), whole)


def test_labels_are_not_streamed_and_a_sentence_says_so(server: RunningAgent) -> None:
    found = server.wait_model("moods-live", state="Quarantined")
    assert (found["reason"], server.model("moods")["state"]) == ("TargetMissing", "Serving")
    assert "HuggingFace with the task Translation" in found["message"]


def test_nlpctl_shows_entities_beside_their_labels(
    server: RunningAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["infer", "names", "김민준은 부산에서 태어났다.", "--address", f"127.0.0.1:{server.http}"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["entity", "label", "[PER,", "LOC]"] in lines
    assert [line for line in lines if "김민준" in line], lines
