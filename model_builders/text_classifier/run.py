"""Trains a network until it is done, and measures it: from the epoch at which an earlier pod was killed."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
from model_builders.text_classifier.served.answering import pad

TRAINING = "training"
TEXTS_A_PASS = 256
"""Of measuring; training has its batchSize."""

Rows = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Trained:
    network: TextCnn
    losses: tuple[float, ...]
    """Mean of a training text, in each epoch."""
    epochs: tuple[Measured, ...]
    """After each of them."""
    test_probabilities: Floats
    """Of the test texts, in the end. Shape (N, L)."""
    texts_per_second: float


def train(
    vectors: NDArray[np.float32],
    train_rows: Rows,
    train_labels: Sequence[int],
    test_rows: Rows,
    test_labels: Sequence[int],
    labels: int,
    parameters: Parameters,
    checkpoints: Checkpoints,
) -> Trained:
    """Raises Refused (`TrainingDiverged`) when the loss is not finite any more."""
    # The same bits whatever the pod's cores: sums over several threads may be in another order.
    torch.set_num_threads(1)
    torch.manual_seed(parameters.seed)
    network = TextCnn(torch.from_numpy(vectors), labels, parameters)
    learnt = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(learnt, lr=parameters.learning_rate)
    facts = {"torch": torch.__version__}
    history: list[Measured] = []
    losses: list[float] = []
    found = checkpoints.load(TRAINING)
    if found is not None and found.facts.items() >= facts.items():
        _restore(network, optimizer, found.arrays)
        history = [Measured(*one) for one in found.facts["history"]]
        losses = list(found.facts["losses"])
        progress.info("going on at epoch %d of %d, where an earlier pod was", len(history), parameters.epochs)
    answers = torch.tensor(train_labels)
    began, seen = time.monotonic(), 0
    for epoch in range(len(history), parameters.epochs):
        # From the epoch alone, so that a pod that goes on draws what the killed one would have drawn.
        torch.manual_seed(parameters.seed * 1_000_003 + epoch + 1)
        network.train()
        total = 0.0
        for batch in torch.randperm(len(train_rows)).split(parameters.batch_size):
            tokens, lengths = (torch.from_numpy(one) for one in pad([train_rows[int(row)] for row in batch]))
            optimizer.zero_grad(set_to_none=True)
            mean = functional.cross_entropy(network(tokens, lengths), answers[batch])
            mean.backward()
            optimizer.step()
            total += mean.item() * len(batch)
        loss = total / len(train_rows)
        if not math.isfinite(loss):
            raise Refused(
                "TrainingDiverged",
                f"The loss is {loss} in epoch {epoch + 1} of {parameters.epochs}: the network has grown "
                f"without bound. Lower {WHERE}.learningRate, which is {parameters.learning_rate:g} (0.001 is "
                "usual).",
            )
        losses.append(loss)
        history.append(measure(probabilities_of(network, test_rows), test_labels))
        seen += len(train_rows)
        speed = seen / max(time.monotonic() - began, 1e-9)
        progress.info(
            "epoch %d of %d: loss %.4f, accuracy %.4f, %s texts/s, %.0f s left",
            epoch + 1,
            parameters.epochs,
            loss,
            history[-1].accuracy,
            f"{speed:,.0f}",
            (parameters.epochs - epoch - 1) * len(train_rows) / speed,
        )
        if epoch + 1 < parameters.epochs:
            told = {"history": [[one.accuracy, one.macro_f1] for one in history], "losses": losses}
            checkpoints.save(TRAINING, _kept(network, optimizer), facts | told)
    network.eval()
    return Trained(
        network,
        tuple(losses),
        tuple(history),
        probabilities_of(network, test_rows),
        seen / max(time.monotonic() - began, 1e-9),
    )


def probabilities_of(network: TextCnn, rows: Rows) -> Floats:
    """Shape (N, L)."""
    network.eval()
    found = []
    with torch.inference_mode():
        for begin in range(0, len(rows), TEXTS_A_PASS):
            tokens, lengths = (torch.from_numpy(one) for one in pad(rows[begin : begin + TEXTS_A_PASS]))
            found.append(torch.softmax(network(tokens, lengths), dim=1).numpy())
    return np.concatenate(found)


def _kept(network: TextCnn, optimizer: torch.optim.Adam) -> Mapping[str, NDArray[Any]]:
    kept = {f"network/{name}": one.numpy() for name, one in network.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        kept |= {f"adam/{number}/{name}": one.numpy() for name, one in state.items()}
    return kept


def _restore(network: TextCnn, optimizer: torch.optim.Adam, arrays: Mapping[str, NDArray[Any]]) -> None:
    weights: dict[str, Any] = {}
    states: dict[int, dict[str, Any]] = {}
    for key, array in arrays.items():
        kind, *rest = key.split("/")
        if kind == "network":
            weights[rest[0]] = torch.from_numpy(array)
        else:
            states.setdefault(int(rest[0]), {})[rest[1]] = torch.from_numpy(np.atleast_1d(array)).reshape(
                array.shape
            )
    network.load_state_dict(weights)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
