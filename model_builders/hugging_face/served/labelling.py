"""The tasks SequenceClassification and TokenClassification: copied into every artifact.

Dimensions: N questions, S tokens of the longest, L labels.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_builders.hugging_face.served.tokens import (
    Integers,
    Question,
    Tokenizer,
    Tokens,
    fill_up,
    passes_of,
    text_tensor,
)
from model_builders.served.vectors import CPU, BadQuestion, Floats, open_model

OUTSIDE = "O"
"""The label of what is no entity."""


class Network(Protocol):
    def __call__(self, inputs: Mapping[str, Integers]) -> Floats:
        """Probabilities: (N, L) of texts, (N, S, L) of their tokens. `inputs` are (N, S) each: input_ids,
        attention_mask, which is 1 where a token counts, and token_type_ids, which not all take."""


class OnnxNetwork:
    """Runs `model.onnx`."""

    def __init__(self, path: Path, threads: int = 1, providers: tuple[Any, ...] = CPU) -> None:
        self._session = open_model(path, threads, providers)
        self._names = [one.name for one in self._session.get_inputs()]

    def __call__(self, inputs: Mapping[str, Integers]) -> Floats:
        taken = {name: inputs[name] for name in self._names}
        found: Floats = self._session.run(["probabilities"], taken)[0]
        return found


@dataclass(frozen=True)
class Labelled:
    """A text with its label."""

    probabilities: Floats
    """Shape (L,)."""
    labels: tuple[str, ...]
    truncated: bool

    @staticmethod
    def together(answers: Sequence["Labelled"]) -> dict[str, NDArray[Any]]:
        """A tensor for each output, one row an answer."""
        probabilities = np.stack([answer.probabilities for answer in answers]).astype(np.float32)
        best = probabilities.argmax(axis=1)[:, np.newaxis]  # (N, 1)
        labels = np.array([label.encode("utf-8") for label in answers[0].labels], dtype=np.object_)
        return {
            "label": labels[best],
            "score": np.take_along_axis(probabilities, best, axis=1),
            "probabilities": probabilities,
            "labels": np.tile(labels, (len(answers), 1)),
            "truncated": np.array([[answer.truncated] for answer in answers], dtype=np.bool_),
        }


@dataclass(frozen=True)
class Piece:
    """A token, or an entity."""

    text: str
    label: str
    score: float
    start: int
    end: int
    margin: float = np.inf
    """How much more probable its label is than the next."""


@dataclass(frozen=True)
class Tagged:
    """A text whose tokens have labels."""

    tokens: tuple[Piece, ...]
    entities: tuple[Piece, ...]
    truncated: bool

    @staticmethod
    def together(answers: Sequence["Tagged"]) -> dict[str, NDArray[Any]]:
        """A tensor for each output, one row an answer; shorter rows are filled up with empty texts and 0."""
        tokens = [answer.tokens for answer in answers]
        entities = [answer.entities for answer in answers]
        return {
            **_columns("token", tokens),
            **_columns("entity", entities),
            "truncated": np.array([[answer.truncated] for answer in answers], dtype=np.bool_),
        }


def _columns(name: str, rows: Sequence[Sequence[Piece]]) -> dict[str, NDArray[Any]]:
    longest = max(1, *map(len, rows))
    scores = np.zeros((len(rows), longest), dtype=np.float32)
    places = np.zeros((2, len(rows), longest), dtype=np.int32)
    for place, row in enumerate(rows):
        scores[place, : len(row)] = [one.score for one in row]
        places[:, place, : len(row)] = [[one.start for one in row], [one.end for one in row]]
    return {
        name: text_tensor([[one.text for one in row] for row in rows]),
        f"{name}_label": text_tensor([[one.label for one in row] for row in rows]),
        f"{name}_score": scores,
        f"{name}_start": places[0],
        f"{name}_end": places[1],
    }


class Labelling:
    """Gives labels: to texts, or to their tokens."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        network: Network,
        labels: Sequence[str],
        pad_token_id: int,
        *,
        of_tokens: bool,
    ) -> None:
        self._tokenizer = tokenizer
        self._network = network
        self._labels = tuple(labels)
        self._pad_token_id = pad_token_id
        self._of_tokens = of_tokens

    def check(self, question: Question) -> None:
        """Raises BadQuestion. A question that passes is answered."""
        if question.text_pair is not None and self._of_tokens:
            raise BadQuestion("text_pair is given; this model labels the tokens of one text.")
        self._tokenizer.limit.check(self._tokenizer.count(question))

    def answer(self, questions: list[Question]) -> list[Labelled | Tagged]:
        """Texts of about the same length share a pass; a text's answer does not depend on its company."""
        rows = self._tokenizer(questions)
        found: dict[int, Floats] = {}
        for share in passes_of([row.ids for row in rows]):
            probabilities = self._network(self._inputs([rows[place] for place in share]))
            for place, given in zip(share, probabilities, strict=True):
                found[place] = given[: len(rows[place].ids)] if self._of_tokens else given
        if not self._of_tokens:
            return [Labelled(found[place], self._labels, row.truncated) for place, row in enumerate(rows)]
        return [
            self._tag(question.text, row, found[place])
            for place, (question, row) in enumerate(zip(questions, rows, strict=True))
        ]

    def _inputs(self, rows: Sequence[Tokens]) -> dict[str, Integers]:
        return {
            "input_ids": fill_up([row.ids for row in rows], self._pad_token_id),
            "attention_mask": fill_up([[1] * len(row.ids) for row in rows], 0),
            "token_type_ids": fill_up([row.types for row in rows], 0),
        }

    def _tag(self, text: str, row: Tokens, probabilities: Floats) -> Tagged:
        """`probabilities` is (S, L)."""
        best = probabilities.argmax(axis=1)
        ordered = np.sort(probabilities, axis=1)
        tokens = [
            Piece(
                text[start:end],
                self._labels[best[place]],
                float(probabilities[place, best[place]]),
                start,
                end,
                float(ordered[place, -1] - ordered[place, -2]) if len(self._labels) > 1 else np.inf,
            )
            for place, (start, end) in enumerate(whole_offsets(text, row.offsets))
            if not row.special[place]
        ]
        return Tagged(tuple(tokens), tuple(entities_of(text, tokens)), row.truncated)


def whole_offsets(text: str, offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same, with what belongs to a token's last character and to no token.

    Where a tokenizer puts letters together first (NFC), tokenizers counts the first of them alone: of a
    Korean syllable that macOS wrote the consonant, without vowel and final.
    """
    found = []
    following = len(text)
    for start, end in reversed(offsets):
        before, following = following, start if start < end else following
        while start < end < before and continues(text[end]):
            end += 1
        found.append((start, end))
    return found[::-1]


def continues(character: str) -> bool:
    """It belongs to the character before it: a mark, or a vowel or final of a Korean syllable in letters."""
    jamo = "\u1160" <= character <= "\u11ff" or "\ud7b0" <= character <= "\ud7fb"
    return jamo or unicodedata.category(character)[0] == "M"


def entities_of(text: str, tokens: Sequence[Piece]) -> list[Piece]:
    """Tokens of the same label that follow each other, as one: `simple` in transformers' pipeline.

    B- begins a new one; I-, and a label with neither, goes on. What is labelled O is none.
    """
    groups: list[list[Piece]] = []
    for token in tokens:
        begins, kind = token.label.startswith("B-"), kind_of(token.label)
        if groups and kind == kind_of(groups[-1][-1].label) and not begins:
            groups[-1].append(token)
        else:
            groups.append([token])
    return [
        Piece(
            text[group[0].start : group[-1].end],
            kind_of(group[0].label),
            sum(one.score for one in group) / len(group),
            group[0].start,
            group[-1].end,
        )
        for group in groups
        if kind_of(group[0].label) != OUTSIDE
    ]


def kind_of(label: str) -> str:
    """`B-PER` and `I-PER` are PER."""
    return label[2:] if label[:2] in ("B-", "I-") else label
