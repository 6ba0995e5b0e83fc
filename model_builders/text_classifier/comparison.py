"""What the vectors of another model are worth: a network with random, one with frozen and one with fine-tuned
vectors, side by side.

They learn from the same texts with the same seed, and are measured on the same. Of many texts some are drawn,
so that a large build does not cost three times as much. The model itself was trained before, and nothing that
happens here can lose it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import torch

from model_builders.checkpoints import Checkpoints
from model_builders.drawings import Curve
from model_builders.errors import Refused
from model_builders.progress import progress
from model_builders.terms import choose_terms
from model_builders.text_classifier.network import first_vectors
from model_builders.text_classifier.parameters import Embeddings, Parameters
from model_builders.text_classifier.rows import Labelled, Rows, Texts
from model_builders.text_classifier.run import Material, Pace, Trained, Training
from model_builders.text_classifier.served.answering import FIRST_WORD

COMPARISON = "comparison"
TITLE = "Random, frozen and fine-tuned"

MOST_TEXTS = 2_000
"""Of those to learn from, and of those to be measured on."""
MOST_TOKENS = 100_000
"""Of them all, by the mean of all texts: fewer texts where they are long."""
MOST_PASSES = 40_000
"""Of a text through a network, to learn or to be measured: ten epochs of the most texts, more of fewer."""

NAMES: Mapping[Embeddings, str] = {"Random": "random", "Frozen": "frozen", "FineTuned": "fine-tuned"}


@dataclass(frozen=True)
class Sample:
    """Which texts are gone through, and how often."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    of_train: int
    of_test: int
    epochs: int

    @property
    def whole(self) -> bool:
        """So the model itself was trained in the same way, and its epochs are those of one of the three."""
        return (len(self.train), len(self.test)) == (self.of_train, self.of_test)

    @property
    def texts_to_train(self) -> int:
        """All in all."""
        return (len(NAMES) - self.whole) * self.epochs * len(self.train)


def choose_sample(train: Rows, test: Rows, parameters: Parameters) -> Sample:
    """At random, for neighbours in a file may be alike; the same ones for the same seed."""
    choice = np.random.default_rng(parameters.seed)
    drawn = []
    for rows in (train, test):
        tokens_a_text = sum(map(len, rows)) / len(rows)
        most = min(MOST_TEXTS, max(1, int(MOST_TOKENS / tokens_a_text)))
        drawn.append(tuple(sorted(choice.permutation(len(rows))[:most].tolist())))
    epochs = max(1, MOST_PASSES // sum(map(len, drawn)))
    return Sample(drawn[0], drawn[1], len(train), len(test), min(parameters.epochs, epochs))


Curves = Mapping[str, Sequence[float]]
"""Shares of the test texts with the right label after each epoch, by name; fewer of a network whose loss was
not finite any more."""


@dataclass(frozen=True)
class Comparison:
    sample: Sample
    random: Material
    pretrained: Material
    """Both of the sample alone."""
    labels: int
    parameters: Parameters

    @property
    def texts_to_train(self) -> int:
        return self.sample.texts_to_train

    def run(self, trained: Trained, checkpoints: Checkpoints) -> Curves:
        """`trained` is the model itself. A killed comparison goes on at the network it was at."""
        facts = {"torch": torch.__version__}
        found = checkpoints.load(COMPARISON)
        done: dict[str, list[float]] = {}
        if found is not None and found.facts.items() >= facts.items():
            done |= found.facts["curves"]
            progress.info("going on with the comparison; an earlier pod has done %s", " and ".join(done))
        epochs, own = self.sample.epochs, self.parameters.embeddings
        left = [
            way
            for way in get_args(Embeddings)
            if NAMES[way] not in done and not (self.sample.whole and way == own)
        ]
        pace = Pace(len(left) * epochs * len(self.sample.train))
        for way in left:
            done[NAMES[way]] = list(_accuracies(self._training(way), epochs, pace))
            checkpoints.save(COMPARISON, {}, facts | {"curves": done})
        if self.sample.whole:
            done[NAMES[own]] = [one.measured.accuracy for one in trained.epochs[:epochs]]
        return {name: done[name] for name in NAMES.values()}

    def _training(self, way: Embeddings) -> Training:
        material = self.random if way == "Random" else self.pretrained
        # A network that learns its vectors changes those that it was given.
        own = replace(material, vectors=material.vectors.copy())
        return Training(own, self.labels, replace(self.parameters, embeddings=way))

    def draw(self, curves: Curves) -> Curve:
        sample, parameters = self.sample, self.parameters
        own = NAMES[parameters.embeddings]
        said = [
            "The share of test texts with the right label, after each epoch. All three learnt from the same "
            f"{_of(len(sample.train), sample.of_train)} texts with seed {parameters.seed} and were measured "
            f"on the same {_of(len(sample.test), sample.of_test)}.",
            f"This model is the {own} one."
            if sample.whole and sample.epochs == parameters.epochs
            else f"This model is {own}, and learnt from all {sample.of_train:,}, {parameters.epochs} times.",
        ]
        diverged = [name for name, one in curves.items() if len(one) < sample.epochs]
        if diverged:
            said.append(f"With {' and '.join(diverged)} vectors the loss was not finite any more.")
        return Curve(TITLE, curves, " ".join(said), "test texts right")


def prepare(texts: Texts, material: Material, parameters: Parameters) -> Comparison:
    """`material` is that of the model itself, before it is trained. Random vectors are of the words that the
    labelled texts have, as without those of another model, and as wide as those."""
    sample = choose_sample(material.train.rows, material.test.rows, parameters)
    some = texts.some(sample.train, sample.test)
    terms = choose_terms(some.counted, parameters.min_count)
    as_wide = replace(parameters, embedding_dim=material.vectors.shape[1])
    random = Material(first_vectors(len(terms), None, as_wide), *some.encode(terms, parameters))
    return Comparison(sample, random, drawn(material, sample), len(texts.labels), parameters)


def drawn(material: Material, sample: Sample) -> Material:
    """A copy with the texts of a sample, without vectors of words that none of them has: those would change
    nothing, and millions of them could be more than the memory that the model itself needs."""
    texts = (material.train.some(sample.train), material.test.some(sample.test))
    used = {row for one in texts for rows in one.rows for row in rows}
    kept = sorted(used | set(range(FIRST_WORD)))
    place = {row: new for new, row in enumerate(kept)}
    train, test = (Labelled([[place[row] for row in rows] for rows in one.rows], one.labels) for one in texts)
    return Material(material.vectors[kept], train, test)


def _accuracies(training: Training, epochs: int, pace: Pace) -> Iterator[float]:
    name, texts = NAMES[training.parameters.embeddings], len(training.material.train.rows)
    try:
        for epoch in training.run(epochs):
            pace.add(texts)
            number, accuracy = len(training.epochs), epoch.measured.accuracy
            line = "comparing with %s vectors, epoch %d of %d: accuracy %.4f, %s"
            progress.info(line, name, number, epochs, accuracy, pace)
            yield accuracy
    except Refused as refused:  # of this network; the model is another
        progress.info("the comparison goes on without %s vectors: %s", name, refused.message)
        pace.left -= (epochs - len(training.epochs)) * texts


def _of(drawn: int, count: int) -> str:
    return f"{drawn:,}" if drawn == count else f"{drawn:,} of {count:,}"
