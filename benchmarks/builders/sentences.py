"""What the builders of translators are held to: lines in reverse order, and real pairs learnt by heart."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.builders.gates import Gate, Row, row_of
from benchmarks.builders.places import Built, Data, Place, run_in
from localcluster.environments import TORCH_BUILDER
from tools.translation_samples import reversed_lines, table

SEQ2SEQ = "Seq2SeqAttention"

SYLLABLES = tuple("가나다라마바사아자차카타파하거너더러머버")
"""Twenty words of one syllable: what stands at a place says nothing about its neighbours."""

ASKED = 500
"""Lines to measure by, none of which was learnt from."""

LINES = {"embeddingDim": 32, "hiddenDim": 128, "dropout": "0", "vocabSize": 100, "batchSize": 64}

ORDERS = (("Luong", "General"), ("Luong", "Dot"), ("Luong", "Concat"), ("Bahdanau", "Concat"))

REVERSED = "the line, reversed"

PAIRS = 300
"""Real ones, spread over the short and the long of Tatoeba."""


def reverse_gate(data: Data, place: Place) -> Iterator[Row]:
    """Lines of three to ten words: right ones, and looked at from their end. Every score, both orders.

    Needs no data set.
    """
    del data
    for attention, score in ORDERS:
        parameters = {"attention": attention, "score": score, "epochs": 8}
        built, asked = build_reversed(place, parameters, 6000, 3, 10)
        exact, diagonal = judge(place, built, asked)
        name = f"reverse {attention} {score}"
        yield row_of(built, name, SEQ2SEQ, "exactMatch", 0.97, exact, REVERSED, 1.0)
        yield row_of(built, name, SEQ2SEQ, "reversedDiagonal", 0.95, diagonal, REVERSED, 1.0)


def long_gate(data: Data, place: Place) -> Iterator[Row]:
    """Lines of twenty to thirty words, with attention and with the last state alone: why there is attention.

    Needs no data set.
    """
    del data
    exact, spent = {}, 0.0
    for attention in ("None", "Luong"):
        built, asked = build_reversed(place, {"attention": attention, "epochs": 10}, 4000, 20, 30)
        exact[attention], _ = judge(place, built, asked)
        spent += built.cpu_seconds
    gain = exact["Luong"] - exact["None"]
    oracle, without = "attention: None", exact["None"]
    more = spent - built.cpu_seconds
    yield row_of(built, "reverse-long", SEQ2SEQ, "gainOverNone", 0.30, gain, oracle, without, more)


def by_heart_gate(data: Data, place: Place) -> Iterator[Row]:
    """Real pairs, English to Korean: fails on a wrong end, a wrong shift, a wrong mask, a wrong tokenizer."""
    pairs = list(real_pairs(data))
    text = "\n".join(table(pairs)) + "\n"
    parameters = {"embeddingDim": 128, "hiddenDim": 128, "dropout": "0", "vocabSize": 2000, "maxTokens": 64}
    training = {"epochs": 60, "batchSize": 32, "learningRate": "0.005"}
    built = place.build(SEQ2SEQ, {**parameters, **training}, {"train": text, "test": text})
    exact = built.metrics["exactMatch"]
    yield row_of(built, "by-heart", SEQ2SEQ, "exactMatch", 0.98, exact, "Tatoeba", 1.0)


def real_pairs(data: Data) -> Iterator[tuple[str, str]]:
    """One translation a sentence, for which of several is meant can be learnt by nobody."""
    lines = data.text("tatoeba-eng-kor/pairs.tsv").rstrip("\n").split("\n")
    by_source: dict[str, str] = {}
    for line in lines:
        source, target, _ = line.split("\t")
        by_source.setdefault(source, target)
    step = len(by_source) // PAIRS
    yield from list(by_source.items())[::step][:PAIRS]


def build_reversed(
    place: Place, parameters: dict[str, Any], count: int, shortest: int, longest: int
) -> tuple[Built, list[tuple[str, str]]]:
    """A model that has learnt from `count` lines, and others to ask it."""
    lines = reversed_lines(count + ASKED, shortest, longest, 1, SYLLABLES)
    parts = {"train": lines[:count], "test": lines[count:]}
    inputs = {name: "\n".join(table(part)) + "\n" for name, part in parts.items()}
    return place.build(SEQ2SEQ, {**LINES, **parameters}, inputs), parts["test"]


def judge(place: Place, built: Built, asked: Sequence[tuple[str, str]]) -> tuple[float, float]:
    """Shares of the lines that are right, and of their words at which was looked for the word there is."""
    file = Path(tempfile.mkdtemp(prefix="asked-", dir=place.folder)) / "texts.txt"
    file.write_text("\n".join(source for source, _ in asked) + "\n", encoding="utf-8")
    program = "benchmarks.builders.ask_translator"
    answers = run_in(TORCH_BUILDER, "-m", program, built.artifact / "1", file)["answers"]
    right = [answer["translation"] == target for answer, (_, target) in zip(answers, asked, strict=True)]
    places = [
        looked == answer["tokens"] - 1 - step
        for answer in answers
        for step, looked in enumerate(answer["looked"][: answer["tokens"]])
    ]
    return sum(right) / len(right), sum(places) / max(len(places), 1)


SENTENCES = (
    Gate("by-heart", SEQ2SEQ, by_heart_gate),
    Gate("reverse", SEQ2SEQ, reverse_gate),
    Gate("reverse-long", SEQ2SEQ, long_gate),
)
