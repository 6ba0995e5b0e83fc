"""Translations token by token, with a tokenizer that is written down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from model_builders.hugging_face.served.writing import OneFile
from model_builders.served.callers import LOOK_SECONDS, Caller
from model_builders.served.search import Found
from model_builders.served.streaming import GROWING, Stream, Tensors, responses_to
from model_builders.served.translating import Answering, Question, tensors
from tests.model_builders.translation.test_translating import make_answering


def joined(responses: Sequence[Tensors]) -> dict[str, Any]:
    """What a client makes of a stream: texts joined, tokens one behind the other, the rest as it came."""
    rest = {name: tensor for name, tensor in responses[-1].items() if name not in GROWING}
    texts = [one["translation"][0, 0] for one in responses]
    tokens = {
        name: np.concatenate([one[name] for one in responses[:-1]], axis=axis)
        for name, axis in (("tokens", 1), ("token_ids", 1), ("attention", -2))
        if name in responses[0]
    }
    return {"translation": np.array([[b"".join(texts)]], dtype=np.object_), **tokens, **rest}


def assert_same(found: Tensors, whole: Tensors) -> None:
    """To the letter, and floats within 1e-5."""
    assert set(found) == set(whole)
    for name, tensor in whole.items():
        if tensor.dtype == np.float32:
            np.testing.assert_allclose(found[name], tensor, atol=1e-5)
        else:
            np.testing.assert_array_equal(found[name], tensor)


@pytest.mark.parametrize(
    "question",
    [
        pytest.param(Question("가 나"), id="greedy"),
        pytest.param(Question("다", 2), id="a beam"),
        pytest.param(Question("漢"), id="cut at the limit"),
    ],
)
def test_the_responses_of_a_stream_joined_are_the_answer_of_who_waits(question: Question) -> None:
    answering = make_answering()
    responses = responses_to(answering, question)
    whole = tensors([question], answering.answer([question]))
    assert len(responses) == len(whole["tokens"][0]) + 1
    found = joined(responses)
    assert set(found) == set(whole)
    for name, tensor in whole.items():
        np.testing.assert_array_equal(found[name], tensor)


def test_each_response_of_a_greedy_stream_has_one_token_more() -> None:
    first, second, last = responses_to(make_answering(), Question("가 나"))
    assert [one["translation"][0, 0].decode() for one in (first, second, last)] == ["나", " 다", ""]
    assert [one["tokens"][0, 0].decode() for one in (first, second)] == ["▁나", "▁다"]
    assert first["attention"].tolist() == [[[1.0, 0.0]]]
    assert set(last) == {"translation", "source_tokens", "score", "finished"}


def test_a_translation_of_nothing_is_one_response() -> None:
    (only,) = responses_to(make_answering(), Question("나"))
    assert (only["translation"][0, 0], bool(only["finished"][0, 0])) == (b"", True)


def test_only_outputs_that_are_asked_for_are_sent() -> None:
    responses = responses_to(make_answering(), Question("가 나"), {"translation", "score"})
    assert [sorted(one) for one in responses] == [["translation"], ["translation"], ["score", "translation"]]


class Tidied:
    """Takes the blank before a full stop away, but only when the stop is there; a syllable is two tokens."""

    spelt = ("I", " am", " .", " 한", "\ufffd", "글")

    def spell(self, words: Sequence[int]) -> tuple[str, ...]:
        return tuple(self.spelt[word] for word in words)

    def decode(self, words: Sequence[int]) -> str:
        return "".join(self.spell(words)).replace(" .", ".").replace("\ufffd글", "글")

    def text(self, words: Sequence[int]) -> str:
        return OneFile.settled(OneFile.__new__(OneFile), self.decode(words))

    def whole(self, question: object, found: Found) -> Tensors:
        return {"translation": np.array([[self.decode(found.words).encode()]], dtype=np.object_)}


@pytest.mark.parametrize("cleans_up", [False, True])
def test_what_a_later_token_may_change_is_held_back(cleans_up: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OneFile, "_cleans_up", cleans_up, raising=False)
    sent: list[str] = []
    voice = Tidied()
    stream = Stream(voice, None, lambda tensors, last: sent.append(tensors["translation"][0, 0].decode()))
    found = Found((0, 1, 2, 3, 4, 5), np.zeros((0, 0), np.float32), 0.0, True, 1.0)
    stream.ended(found)
    assert "".join(sent) == voice.decode(found.words)
    assert not any("\ufffd" in piece for piece in sent)
    assert sent == (
        ["", "I", "", " am.", "", "", " 한글"] if cleans_up else ["I", " am", ".", " 한", "", "글", ""]
    )


def test_whether_a_client_has_left_is_asked_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def is_cancelled() -> bool:
        asked.append(now[0])
        return now[0] > 1

    caller = Caller(is_cancelled)
    for _ in range(1000):
        now[0] += 0.0021
        caller.gone()
    assert caller.left
    assert len(asked) == pytest.approx(1 / LOOK_SECONDS, abs=1)  # and never again behind the first yes


def test_who_has_left_gets_no_more_of_the_text() -> None:
    answering: Answering = make_answering(max_tokens=50)
    sent: list[bool] = []
    looks = iter([False, False, True])
    stream = Stream(answering, Question("漢"), lambda tensors, last: sent.append(last), lambda: next(looks))
    answering.answer([Question("漢")], [stream])
    assert sent == [False, False, True]
