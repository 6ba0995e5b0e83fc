"""What translators learn of real texts: BLEU and chrF of held-out sentences, for a release.

Small corpora do not make a translator. These gates tell whether training, subwords and search work on texts
as they are, with rare words and more than one right answer, where the other gates have a task that can be
learnt wholly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.builders.gates import Gate, Row, row_of
from benchmarks.builders.places import ROOT, Built, Data, Place, run_in
from benchmarks.builders.sentences import SEQ2SEQ, TRANSFORMER, answers_of
from localcluster.environments import Recipe
from model_builders.translation.measuring import comparable
from tools.translation_samples import table

SACREBLEU = Recipe(
    "benchmark-sacrebleu",
    "sacrebleu, which scores translations",
    ("benchmarks/builders/sacrebleu.txt",),
    25,
    90,
)

EPOCHS = 12

GRU = {"embeddingDim": 256, "hiddenDim": 256, "dropout": "0.3", "learningRate": "0.002"}

ATTENTION = {
    "hiddenDim": 256,
    "feedForwardDim": 512,
    "numLayers": 2,
    "numHeads": 4,
    "dropout": "0.2",
    "learningRate": "0.001",
}

COMMON = {"vocabSize": 4000, "maxTokens": 64, "batchSize": 32, "epochs": EPOCHS}

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Corpus:
    """A data set of pairs, and how long the sides are that are taken of it."""

    folder: str
    most_words: int
    """Of either side, between blanks."""


LIBREOFFICE = Corpus("libreoffice-help-eng-deu", 8)
PYTHON_DOCS = Corpus("python-docs-eng-kor", 12)


def german_gate(data: Data, place: Place) -> Iterator[Row]:
    """LibreOffice's help, English to German, by a GRU with attention."""
    yield from rows_of(data, place, "libreoffice", SEQ2SEQ, GRU, LIBREOFFICE, {"bleu": 9.0, "chrf": None})


def german_transformer_gate(data: Data, place: Place) -> Iterator[Row]:
    """The same, by a Transformer."""
    name, floors = "libreoffice-transformer", {"bleu": 9.0, "chrf": None}
    yield from rows_of(data, place, name, TRANSFORMER, ATTENTION, LIBREOFFICE, floors)


def korean_gate(data: Data, place: Place) -> Iterator[Row]:
    """Python's documentation, English to Korean, by a GRU with attention. Recorded, without a floor."""
    yield from rows_of(data, place, "python-docs", SEQ2SEQ, GRU, PYTHON_DOCS, {"chrf": None})


def korean_transformer_gate(data: Data, place: Place) -> Iterator[Row]:
    """The same, by a Transformer."""
    name = "python-docs-transformer"
    yield from rows_of(data, place, name, TRANSFORMER, ATTENTION, PYTHON_DOCS, {"chrf": None})


def rows_of(
    data: Data,
    place: Place,
    name: str,
    architecture: str,
    parameters: Mapping[str, Any],
    corpus: Corpus,
    floors: Mapping[str, float | None],
) -> Iterator[Row]:
    """Build, ask the artifact for the held-out sentences, score the answers."""
    train, test = held_out(short_pairs(data, corpus, "train"), short_pairs(data, corpus, "test"))
    inputs = {part: "\n".join(table(pairs)) + "\n" for part, pairs in (("train", train), ("test", test))}
    built = place.build(architecture, {**COMMON, **parameters}, inputs)
    scores = score(place, built, test)
    oracle = f"sacrebleu {scores['sacrebleu']}, {len(test)} texts"
    for metric, floor in floors.items():
        yield row_of(built, name, architecture, metric, floor, scores[metric], oracle, None)


def short_pairs(data: Data, corpus: Corpus, part: str) -> Pairs:
    lines = data.text(f"{corpus.folder}/{part}.tsv.gz").rstrip("\n").split("\n")
    pairs = [(source, target) for source, target, _ in (line.split("\t") for line in lines)]
    return [pair for pair in pairs if all(len(side.split()) <= corpus.most_words for side in pair)]


def held_out(train: Pairs, test: Pairs) -> tuple[Pairs, Pairs]:
    """What is learnt from has no sentence of the test, on neither side."""
    asked = {comparable(side) for pair in test for side in pair}
    return [pair for pair in train if not asked.intersection(map(comparable, pair))], test


def score(place: Place, built: Built, test: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Greedy translations by the code and the graphs of the artifact, against those of the data set."""
    answers = answers_of(place, built, [source for source, _ in test])
    room = place.room("scored")
    files = room / "translations.txt", room / "references.txt"
    texts = [answer["translation"] for answer in answers], [target for _, target in test]
    for file, lines in zip(files, texts, strict=True):
        file.write_text("".join(f"{comparable(line)}\n" for line in lines), encoding="utf-8")
    return run_in(SACREBLEU, ROOT / "benchmarks/builders/opponents/sacrebleu_score.py", *files)


REAL_TEXTS = (
    Gate("libreoffice", SEQ2SEQ, german_gate, release=True),
    Gate("libreoffice-transformer", TRANSFORMER, german_transformer_gate, release=True),
    Gate("python-docs", SEQ2SEQ, korean_gate, release=True),
    Gate("python-docs-transformer", TRANSFORMER, korean_transformer_gate, release=True),
)
