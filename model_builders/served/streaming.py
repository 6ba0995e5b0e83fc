"""A translation as it is written: what each token adds, and at its end the rest.

Copied into every artifact whose code imports it (`model_builders/served/__init__.py`); needs numpy alone.

Dimensions: S source tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_builders.served.search import Asker, Found
from model_builders.served.vectors import Floats

GROWING = ("translation", "tokens", "token_ids", "attention")
"""Of these each response has what one token adds; joined they are the answer of who waits for all of it. The
other outputs are in the last response, with the rest of the text."""

Tensors = Mapping[str, NDArray[Any]]


class Voice(Protocol):
    """What a translator knows beside the words."""

    def spell(self, words: Sequence[int]) -> tuple[str, ...]:
        """Each token as it is written."""

    def text(self, words: Sequence[int]) -> str:
        """Of a translation that begins with these words, as much of the text as no later word changes."""

    def whole(self, question: Any, found: Found) -> Tensors:
        """Every output of the answer."""


class Stream(Asker):
    """Sends a response for each token, then the last one.

    A beam knows its first token at its end: all its responses come then.
    """

    def __init__(
        self,
        voice: Voice,
        question: Any,
        send: Callable[[Tensors, bool], None],
        gone: Callable[[], bool] = lambda: False,
    ) -> None:
        """`send` gets the tensors of a response, and whether it is the last."""
        self._voice = voice
        self._question = question
        self._send = send
        self._gone = gone
        self._words: list[int] = []
        self._text = ""

    def wrote(self, word: int, attention: Floats) -> None:
        self._words.append(word)
        (token,) = self._voice.spell([word])
        added = {
            "translation": _one_text(self._new(self._voice.text(self._words))),
            "tokens": _one_text(token),
            "token_ids": np.array([[word]], dtype=np.int32),
        }
        if attention.size:
            added["attention"] = attention[np.newaxis, ..., np.newaxis, :].astype(
                np.float32
            )  # (1, ..., 1, S)
        self._send(added, False)

    def gone(self) -> bool:
        return self._gone()

    def ended(self, found: Found) -> None:
        for place in range(len(self._words), len(found.words)):
            self.wrote(found.words[place], _looked(found, place))
        whole = self._voice.whole(self._question, found)
        rest = {name: tensor for name, tensor in whole.items() if name not in GROWING}
        text = whole["translation"][0, 0].decode("utf-8")
        self._send({"translation": _one_text(self._new(text)), **rest}, True)

    def _new(self, text: str) -> str:
        """What was not sent yet of it."""
        if not text.startswith(self._text):
            return ""
        new = text[len(self._text) :]
        self._text = text
        return new


def _looked(found: Found, place: int) -> Floats:
    return found.attention[..., place, :] if found.attention.shape[-2] else found.attention


def _one_text(text: str) -> NDArray[np.object_]:
    return np.array([[text.encode("utf-8")]], dtype=np.object_)


def responses_to(
    answering: Any, question: Any, names: set[str] | None = None
) -> list[dict[str, NDArray[Any]]]:
    """All responses to one question, of the outputs that `names` has."""
    sent: list[dict[str, NDArray[Any]]] = []

    def keep(tensors: Tensors, last: bool) -> None:
        del last
        sent.append({name: tensor for name, tensor in tensors.items() if names is None or name in names})

    answering.answer([question], [Stream(answering, question, keep)])
    return sent
