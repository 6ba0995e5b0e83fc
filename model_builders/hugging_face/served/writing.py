"""The task Translation: copied into every artifact.

A folder's tokenizer is one `tokenizer.json` (T5), or, as Marian has it, two models of sentencepiece and one
vocabulary; the builder has put the former into the form of the library tokenizers, the latter is a list.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_builders.hugging_face.served.generating import Rules, generate
from model_builders.hugging_face.served.tokens import (
    Limit,
    Question,
    fill_up,
    open_tokenizer,
    text_tensor,
)
from model_builders.served.search import Asker, Decoder, Found
from model_builders.served.translating import MAX_BEAM_SIZE, pad_words, passes
from model_builders.served.vectors import BadQuestion

UNTIDY = (
    *((f" {mark}", mark) for mark in ".?!,"),
    (" ' ", "'"),
    *((f" {ending}", ending) for ending in ("n't", "'m", "'s", "'ve", "'re")),
)
"""What transformers' clean_up_tokenization replaces, in its order."""


class Subwords(Protocol):
    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, the end with them."""

    def spell(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Each token as it is written."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text that they are."""

    def settled(self, text: str) -> str:
        """Of a decoded text, as much as tokens behind it leave as it is."""


class OneFile:
    """A `tokenizer.json`, for both languages."""

    def __init__(self, content: str, *, cleans_up: bool) -> None:
        """`cleans_up` takes the blank before a punctuation mark away, as transformers does where asked to."""
        self._cleans_up = cleans_up
        self._tokenizer = open_tokenizer(content)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [one.ids for one in self._tokenizer.encode_batch_fast(list(texts))]

    def spell(self, ids: Sequence[int]) -> tuple[str, ...]:
        return tuple(self._tokenizer.id_to_token(one) or "" for one in ids)

    def decode(self, ids: Sequence[int]) -> str:
        text = str(self._tokenizer.decode(list(ids)))
        for untidy, tidy in UNTIDY if self._cleans_up else ():
            text = text.replace(untidy, tidy)
        return text

    def settled(self, text: str) -> str:
        """What is tidied up is around a blank; of a character that is several tokens, the first ones are
        U+FFFD."""
        return text.rpartition(" ")[0] if self._cleans_up else text.rstrip("\ufffd")


class Marian:
    """Pieces of sentencepiece, by their places in a vocabulary of their own."""

    def __init__(
        self, source: str, pieces: Sequence[str], target: Sequence[str], special: Sequence[str]
    ) -> None:
        """`source` splits texts; `pieces` and `target` are the vocabularies of the two languages; of the
        `special` pieces the first is what is unknown, the second the end."""
        self._tokenizer = open_tokenizer(source)
        self._ids = {piece: place for place, piece in enumerate(pieces)}
        self._pieces, self._target, self._special = pieces, target, frozenset(special)
        self._unknown, self._end = (self._ids[piece] for piece in special[:2])

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [
            [self._ids.get(piece, self._unknown) for piece in self._split(text)] + [self._end]
            for text in texts
        ]

    def _split(self, text: str) -> list[str]:
        """`>>fra<<` at the beginning asks a model of several languages for one."""
        end = text.find("<<")
        if not text.startswith(">>") or end < 0:
            return list(self._tokenizer.encode(text).tokens)
        return [text[: end + 2], *self._tokenizer.encode(text[end + 2 :]).tokens]

    def spell(self, ids: Sequence[int]) -> tuple[str, ...]:
        return tuple(self._target[one] for one in ids)

    def decode(self, ids: Sequence[int]) -> str:
        pieces = [piece for piece in self.spell(ids) if piece not in self._special]
        return "".join(pieces).replace("▁", " ").strip()

    def settled(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class Written:
    translation: str
    source_tokens: tuple[str, ...]
    tokens: tuple[str, ...]
    found: Found
    truncated: bool

    @staticmethod
    def together(answers: Sequence["Written"]) -> dict[str, NDArray[Any]]:
        """A tensor for each output, one row an answer; shorter rows are filled up with empty texts and 0."""
        found = [answer.found for answer in answers]
        return {
            "translation": text_tensor([[answer.translation] for answer in answers]),
            "tokens": text_tensor([answer.tokens for answer in answers]),
            "token_ids": pad_words([one.words for one in found]),
            "source_tokens": text_tensor([answer.source_tokens for answer in answers]),
            "score": np.array([[one.score] for one in found], dtype=np.float32),
            "finished": np.array([[one.finished] for one in found], dtype=np.bool_),
            "truncated": np.array([[answer.truncated] for answer in answers], dtype=np.bool_),
        }


class Writing:
    """Translates."""

    def __init__(self, subwords: Subwords, decoder: Decoder, rules: Rules, limit: Limit, prefix: str) -> None:
        self._subwords = subwords
        self._decoder = decoder
        self._rules = rules
        self._limit = limit
        self._prefix = prefix

    def check(self, question: Question) -> None:
        """Raises BadQuestion. A question that passes is answered."""
        if question.text_pair is not None:
            raise BadQuestion("text_pair is given; this model translates one text.")
        if not 0 <= question.beam_size <= MAX_BEAM_SIZE:
            raise BadQuestion(
                f"beam_size is {question.beam_size}; it must be between 1 (greedy) and {MAX_BEAM_SIZE}, or 0 "
                "for what the model's own settings say."
            )
        if not 0 <= question.max_tokens <= self._limit.max_tokens:
            raise BadQuestion(
                f"max_tokens is {question.max_tokens}; it must be between 1 and {self._limit.max_tokens:,}, "
                "or 0 for the latter."
            )
        if not question.text.strip():
            raise BadQuestion("text is empty; there is nothing to translate.")
        (ids,) = self._encode([question])
        self._limit.check(len(ids))

    def ids_of(self, question: Question) -> list[int]:
        """The tokens that the encoder gets."""
        return self._cut(*self._encode([question]))

    def _encode(self, questions: Sequence[Question]) -> list[list[int]]:
        return self._subwords.encode([self._prefix + question.text for question in questions])

    def _cut(self, ids: list[int]) -> list[int]:
        """The end stays the end."""
        most = self._limit.max_tokens
        return ids if len(ids) <= most else [*ids[: most - 1], ids[-1]]

    def answer(self, questions: list[Question], askers: Sequence[Asker] = ()) -> list[Written]:
        """Sources of about the same length share a pass; a text becomes what it becomes alone.

        `askers`: one for each question, or none at all.
        """
        whole = self._encode(questions)
        sources = [self._cut(ids) for ids in whole]
        asked = [
            (one.beam_size or self._rules.beam_size, one.max_tokens or self._limit.max_tokens)
            for one in questions
        ]
        found: dict[int, Found] = {}
        for size, longest in sorted(set(asked)):
            same = [row for row, one in enumerate(asked) if one == (size, longest)]
            for rows in passes(same, sources, size):
                looking_on = [askers[row] for row in rows] if askers else ()
                texts = self._generate([sources[row] for row in rows], size, longest, looking_on)
                found.update(zip(rows, texts, strict=True))
        return [self._written(whole[row], found[row]) for row in range(len(questions))]

    def _written(self, whole: list[int], found: Found) -> Written:
        source = self._cut(whole)
        return Written(
            self._subwords.decode(found.words),
            self._subwords.spell(source),
            self.spell(found.words),
            found,
            len(whole) > len(source),
        )

    def _generate(
        self, sources: list[list[int]], size: int, longest: int, askers: Sequence[Asker]
    ) -> list[Found]:
        lengths = np.array([len(source) for source in sources], dtype=np.int64)
        return generate(self._decoder, fill_up(sources, 0), lengths, self._rules, size, longest, askers)

    # -- what a stream of tokens asks (streaming.Voice) --

    def spell(self, words: Sequence[int]) -> tuple[str, ...]:
        return self._subwords.spell(words)

    def text(self, words: Sequence[int]) -> str:
        return self._subwords.settled(self._subwords.decode(words))

    def whole(self, question: Question, found: Found) -> dict[str, NDArray[Any]]:
        (whole,) = self._encode([question])
        return Written.together([self._written(whole, found)])
