"""What the builders of translators are held to: lines in reverse order, and real pairs learnt by heart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from benchmarks.builders.gates import Gate, Row, row_of
from benchmarks.builders.places import Built, Data, Place, run_in
from localcluster.environments import TORCH_BUILDER
from tools.translation_samples import reversed_lines, table

SEQ2SEQ, TRANSFORMER = "Seq2SeqAttention", "Transformer"

SYLLABLES = tuple("가나다라마바사아자차카타파하거너더러머버")
"""Twenty words of one syllable: what stands at a place says nothing about its neighbours."""

ASKED = 500
"""Lines to measure by, none of which was learnt from."""

LINES = {"embeddingDim": 32, "hiddenDim": 128, "dropout": "0", "vocabSize": 100, "batchSize": 64}

HEADS = {
    "hiddenDim": 64,
    "feedForwardDim": 128,
    "numLayers": 1,
    "numHeads": 4,
    "dropout": "0",
    "vocabSize": 100,
    "maxTokens": 16,
    "epochs": 5,
    "batchSize": 64,
    "learningRate": "0.005",
    "warmUp": "0.05",
}
"""One layer does: the other end of a line is a matter of places, and those are in every vector."""

ORDERS = (("Luong", "General"), ("Luong", "Dot"), ("Luong", "Concat"), ("Bahdanau", "Concat"))

REVERSED = "the line, reversed"

LENGTHS = (16, 64, 256)
"""Of the texts by which trainings are compared."""

LONG_OVER_GRU = 1.1
"""Times the GRU's tokens, of the longest texts. Measured: 1.5."""
RISES = {64: 1.08, 256: 1.25}
"""Times the ratio of the length before, by length. Measured: 1.18 to 1.26, and 1.53 to 1.60, with eight other
programs at work."""

PAIRS = 300
"""Real ones, spread over the short and the long of Tatoeba."""


def reverse_gate(data: Data, place: Place) -> Iterator[Row]:
    """Lines of three to ten words: right ones, and looked at from their end. Every score, both orders.

    Needs no data set.
    """
    del data
    for attention, score in ORDERS:
        parameters = {"attention": attention, "score": score, "epochs": 8}
        built, asked = build_reversed(place, SEQ2SEQ, LINES | parameters, 6000, 3, 10)
        exact, diagonal = judge(place, built, asked)
        for metric, floor, share in (("exactMatch", 0.97, exact), ("reversedDiagonal", 0.95, diagonal)):
            what = f"{metric}, {attention} {score}"
            yield row_of(built, "reverse", SEQ2SEQ, what, floor, share, REVERSED, 1.0)


def long_gate(data: Data, place: Place) -> Iterator[Row]:
    """Lines of twenty to thirty words, with attention and with the last state alone: why there is attention.

    Needs no data set.
    """
    del data
    exact, spent = {}, 0.0
    for attention in ("None", "Luong"):
        built, asked = build_long(place, attention)
        exact[attention], _ = judge(place, built, asked)
        spent += built.cpu_seconds
    gain = exact["Luong"] - exact["None"]
    oracle, without = "attention: None", exact["None"]
    more = spent - built.cpu_seconds
    yield row_of(built, "reverse-long", SEQ2SEQ, "gainOverNone", 0.30, gain, oracle, without, more)


def build_long(place: Place, attention: str) -> tuple[Built, list[tuple[str, str]]]:
    parameters = {"attention": attention, "epochs": 10}
    return build_reversed(place, SEQ2SEQ, LINES | parameters, 4000, 20, 30)


def reverse_transformer_gate(data: Data, place: Place) -> Iterator[Row]:
    """Lines of three to ten words, by one layer of attention. Needs no data set."""
    del data
    built, asked = build_reversed(place, TRANSFORMER, HEADS, 30_000, 3, 10)
    exact, _ = judge(place, built, asked)
    yield row_of(built, "reverse-transformer", TRANSFORMER, "exactMatch", 0.99, exact, REVERSED, 1.0)


def by_heart_gate(data: Data, place: Place) -> Iterator[Row]:
    """Real pairs, English to Korean: fails on a wrong end, a wrong shift, a wrong mask, a wrong tokenizer."""
    shape = {"embeddingDim": 128, "hiddenDim": 128}
    training = {"epochs": 60, "learningRate": "0.005"}
    yield learnt_by_heart(data, place, "by-heart", SEQ2SEQ, shape | training)


def by_heart_transformer_gate(data: Data, place: Place) -> Iterator[Row]:
    """The same pairs."""
    shape = {"hiddenDim": 96, "feedForwardDim": 192, "numLayers": 1, "numHeads": 4}
    training = {"epochs": 40, "learningRate": "0.003"}
    yield learnt_by_heart(data, place, "by-heart-transformer", TRANSFORMER, shape | training)


def learnt_by_heart(
    data: Data, place: Place, name: str, architecture: str, parameters: dict[str, Any]
) -> Row:
    text = "\n".join(table(list(real_pairs(data)))) + "\n"
    common = {"dropout": "0", "vocabSize": 2000, "maxTokens": 64, "batchSize": 32}
    built = place.build(architecture, common | parameters, {"train": text, "test": text})
    exact = built.metrics["exactMatch"]
    return row_of(built, name, architecture, "exactMatch", 0.98, exact, "Tatoeba", 1.0)


def training_speed_gate(data: Data, place: Place) -> Iterator[Row]:
    """Training tokens of a Transformer beside those of a GRU with attention and as many parameters. The
    longer the texts, the better for the Transformer: the GRU has one step after the other. Needs no data
    set."""
    del data, place
    found = run_in(TORCH_BUILDER, "-m", "benchmarks.builders.training_speed", *map(str, LENGTHS))
    yield from rows_of_training_speed(found)


def rows_of_training_speed(found: Mapping[str, Any]) -> Iterator[Row]:
    """Of what training_speed.py prints."""
    sizes = found["parameters"].values()
    yield speed_row("equalParameters", 0.98, min(sizes) / max(sizes), "the GRU", found["parameters"][SEQ2SEQ])
    ratios = [found["overGru"][str(length)] for length in LENGTHS]
    for length, ratio in zip(LENGTHS, ratios, strict=True):
        gru = found["tokensPerSecond"][str(length)][SEQ2SEQ]
        floor = LONG_OVER_GRU if length == LENGTHS[-1] else None
        yield speed_row(f"tokensOverGruAt{length}", floor, ratio, "the GRU, tokens/s", gru)
    for (short, before), (long, ratio) in pairwise(zip(LENGTHS, ratios, strict=True)):
        yield speed_row(
            f"rises{short}To{long}", RISES[long], ratio / before, "the shorter texts' ratio", before
        )


def speed_row(metric: str, floor: float | None, measured: float, oracle: str, of_oracle: float | None) -> Row:
    return Row("training-speed", TRANSFORMER, metric, floor, measured, oracle, of_oracle, 0.0, 0)


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
    place: Place, architecture: str, parameters: dict[str, Any], count: int, shortest: int, longest: int
) -> tuple[Built, list[tuple[str, str]]]:
    """A model that has learnt from `count` lines, and others to ask it."""
    lines = reversed_lines(count + ASKED, shortest, longest, 1, SYLLABLES)
    parts = {"train": lines[:count], "test": lines[count:]}
    inputs = {name: "\n".join(table(part)) + "\n" for name, part in parts.items()}
    return place.build(architecture, parameters, inputs), parts["test"]


def judge(place: Place, built: Built, asked: Sequence[tuple[str, str]]) -> tuple[float, float]:
    """Shares of the lines that are right, and of their words at which was looked for the word there is."""
    answers = answers_of(place, built, [source for source, _ in asked])
    right = [answer["translation"] == target for answer, (_, target) in zip(answers, asked, strict=True)]
    places = [
        looked == answer["tokens"] - 1 - step
        for answer in answers
        for step, looked in enumerate(answer["looked"][: answer["tokens"]])
    ]
    return sum(right) / len(right), sum(places) / max(len(places), 1)


def answers_of(place: Place, built: Built, texts: Sequence[str]) -> list[dict[str, Any]]:
    """What ask_translator.py prints of each text."""
    file = place.room("asked") / "texts.txt"
    file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    program = "benchmarks.builders.ask_translator"
    answers: list[dict[str, Any]] = run_in(TORCH_BUILDER, "-m", program, built.artifact / "1", file)[
        "answers"
    ]
    return answers


SENTENCES = (
    Gate("reverse", SEQ2SEQ, reverse_gate),
    Gate("reverse-long", SEQ2SEQ, long_gate),
    Gate("reverse-transformer", TRANSFORMER, reverse_transformer_gate),
    Gate("by-heart", SEQ2SEQ, by_heart_gate),
    Gate("by-heart-transformer", TRANSFORMER, by_heart_transformer_gate),
    Gate("training-speed", TRANSFORMER, training_speed_gate),
)
