"""Trains a network until it is done, and measures it: from the epoch at which an earlier pod was killed."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from model_builders.checkpoints import Checkpoints
from model_builders.errors import Refused
from model_builders.progress import progress
from model_builders.served.vectors import Floats
from model_builders.text_classifier.measuring import Measured, measure
from model_builders.text_classifier.network import TextCnn
from model_builders.text_classifier.parameters import WHERE, Parameters
from model_builders.text_classifier.rows import Labelled, Rows
from model_builders.text_classifier.served.answering import pad
from model_builders.torch_state import arrays_of, restore

TRAINING = "training"
TEXTS_A_PASS = 256
"""Of measuring; training has its batchSize."""


@dataclass(frozen=True)
class Material:
    """What a network learns from and is measured on. Shape: vectors (V + 2, D), which it may change."""

    vectors: NDArray[np.float32]
    train: Labelled
    test: Labelled


@dataclass
class Pace:
    """How fast it goes, and how long all that is left takes; over the pods that worked on it."""

    left: int
    """Texts that are still to be trained on, those of a comparison included."""
    seen: int = 0
    before: float = 0.0
    """Seconds that earlier pods took for those seen."""
    _began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self._began

    @property
    def texts_per_second(self) -> float:
        return self.seen / max(self.seconds, 1e-9)

    def go_on(self, seen: int, seconds: float) -> None:
        """From where an earlier pod was."""
        self.left, self.seen, self.before = self.left - seen, seen, seconds
        self._began = time.monotonic()

    def add(self, texts: int) -> None:
        self.left, self.seen = self.left - texts, self.seen + texts

    def __str__(self) -> str:
        speed = self.texts_per_second
        return f"{speed:,.0f} texts/s, {self.left / max(speed, 1e-9):.0f} s left"


@dataclass(frozen=True)
class Epoch:
    loss: float
    """Mean of a training text."""
    measured: Measured
    """On the test texts, behind it."""


@dataclass(frozen=True)
class Trained:
    network: TextCnn
    epochs: tuple[Epoch, ...]
    test_probabilities: Floats
    """Of the test texts, in the end. Shape (N, L)."""
    texts_per_second: float


@dataclass
class Training:
    """A network and its optimizer, and the epochs behind them."""

    material: Material
    labels: int
    parameters: Parameters
    network: TextCnn = field(init=False)
    optimizer: torch.optim.Adam = field(init=False)
    epochs: list[Epoch] = field(default_factory=list)

    def __post_init__(self) -> None:
        # The same bits whatever the pod's cores: sums over several threads may be in another order.
        torch.set_num_threads(1)
        torch.manual_seed(self.parameters.seed)
        vectors = torch.from_numpy(self.material.vectors)
        self.network = TextCnn(vectors, self.labels, self.parameters)
        learnt = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(learnt, lr=self.parameters.learning_rate)

    def run(self, epochs: int) -> Iterator[Epoch]:
        """The epochs that are left, one by one. Raises Refused (`TrainingDiverged`)."""
        test = self.material.test
        while len(self.epochs) < epochs:
            loss = self._epoch(self.material.train)
            measured = measure(probabilities_of(self.network, test.rows), test.labels)
            self.epochs.append(Epoch(loss, measured))
            yield self.epochs[-1]

    def _epoch(self, train: Labelled) -> float:
        """Go through the texts once; the mean loss of one."""
        epoch, answers, total = len(self.epochs), torch.tensor(train.labels), 0.0
        # From the epoch alone, so that a pod that goes on draws what the killed one would have drawn.
        torch.manual_seed(self.parameters.seed * 1_000_003 + epoch + 1)
        self.network.train()
        for batch in torch.randperm(len(train.rows)).split(self.parameters.batch_size):
            tokens, lengths = (torch.from_numpy(one) for one in pad([train.rows[int(row)] for row in batch]))
            self.optimizer.zero_grad(set_to_none=True)
            mean = functional.cross_entropy(self.network(tokens, lengths), answers[batch])
            mean.backward()
            self.optimizer.step()
            total += mean.item() * len(batch)
        loss = total / len(train.rows)
        if not math.isfinite(loss):
            raise Refused(
                "TrainingDiverged",
                f"The loss is {loss} in epoch {epoch + 1} of {self.parameters.epochs}: the network has grown "
                f"without bound. Lower {WHERE}.learningRate, which is {self.parameters.learning_rate:g} "
                "(0.001 is usual).",
            )
        return loss


def train(
    material: Material, labels: int, parameters: Parameters, checkpoints: Checkpoints, to_come: int = 0
) -> Trained:
    """`to_come` are the texts that will be trained on when this is done, for the time that is left.

    Raises Refused (`TrainingDiverged`) when the loss is not finite any more.
    """
    training = Training(material, labels, parameters)
    texts = len(material.train.rows)
    pace = Pace(texts * parameters.epochs + to_come)
    facts = {"torch": torch.__version__}
    found = checkpoints.load(TRAINING)
    if found is not None and found.facts.items() >= facts.items():
        restore(training.network, training.optimizer, found.arrays)
        training.epochs = [Epoch(loss, Measured(*one)) for loss, *one in found.facts["epochs"]]
        done = len(training.epochs)
        pace.go_on(done * texts, found.facts["seconds"])
        if done < parameters.epochs:
            progress.info("going on at epoch %d of %d, where an earlier pod was", done, parameters.epochs)
        else:
            progress.info("an earlier pod has trained all %d epochs", done)
    for epoch in training.run(parameters.epochs):
        pace.add(texts)
        progress.info(
            "epoch %d of %d: loss %.4f, accuracy %.4f, %s",
            len(training.epochs),
            parameters.epochs,
            epoch.loss,
            epoch.measured.accuracy,
            pace,
        )
        # Behind the last one, too: whoever is killed later need not train again.
        told = {"epochs": as_lists(training.epochs), "seconds": pace.seconds}
        checkpoints.save(TRAINING, arrays_of(training.network, training.optimizer), facts | told)
    speed = pace.texts_per_second
    found_in_the_end = probabilities_of(training.network, material.test.rows)
    return Trained(training.network, tuple(training.epochs), found_in_the_end, speed)


def as_lists(epochs: Sequence[Epoch]) -> list[list[float]]:
    return [[one.loss, one.measured.accuracy, one.measured.macro_f1] for one in epochs]


def probabilities_of(network: TextCnn, rows: Rows) -> Floats:
    """Shape (N, L)."""
    network.eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(rows), TEXTS_A_PASS):
            tokens, lengths = (torch.from_numpy(one) for one in pad(rows[start : start + TEXTS_A_PASS]))
            found.append(torch.softmax(network(tokens, lengths), dim=1).numpy())
    return np.concatenate(found)
