"""Trains a translator's network until it is done: from the batch at which an earlier pod was killed.

Teacher forcing: the network sees the right words so far and learns the next one. What a batch holds, and what
is drawn in it, comes from (seed, epoch) alone, so a pod that goes on does what the killed one would have
done.

Dimensions: N pairs of a batch, S source tokens, T target tokens and their END, V target vocabulary.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model_builders.checkpoints import Checkpoints
from model_builders.errors import Refused
from model_builders.progress import progress
from model_builders.served.search import END, PAD, pad
from model_builders.torch_state import arrays_of, restore
from model_builders.translation.pairs import Encoded
from model_builders.translation.schedule import Schedule

TRAINING = "training"
RANDOM_STATE, MEAN = "random", "mean"

CHECKPOINT_SECONDS = 20.0
"""What a killed pod can lose, at most, beside a batch."""

MAX_TOKENS_A_BATCH = 16_384
"""Pairs times the longest side: a batch of long pairs is cut into smaller ones, which bounds its memory."""

CHUNK_BATCHES = 20
"""So many batches are drawn together and ordered by length: little padding, and still a random order."""

CLIP = 1.0
"""The norm that a step's gradient has at most (Sutskever et al. 2014 took 5, for larger batches)."""


class Network(Protocol):
    """A torch module."""

    def __call__(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Logits (N, T, V) of the next words. Shapes: source (N, S) and target (N, T), filled up with PAD;
        lengths (N,); target begins with END."""


@dataclass
class History:
    """After each epoch; as JSON in a checkpoint."""

    losses: list[float] = field(default_factory=list)
    """Mean of a token's loss over the epoch."""
    test_losses: list[float] = field(default_factory=list)
    test_accuracies: list[float] = field(default_factory=list)
    """Share of the test tokens that are the most probable ones behind the right words."""


@dataclass
class _Place:
    """Where a training is."""

    epoch: int = 0
    batch: int = 0
    pairs: int = 0
    """Gone through in this epoch."""
    loss: float = 0.0
    tokens: int = 0
    averaged: int = 0
    """Steps whose weights are in the mean, of all epochs."""


Mean = dict[str, Tensor]
"""Of the weights at the end of the training (`Schedule.averaged`), by their names."""


@dataclass(frozen=True)
class Trained:
    history: History
    tokens_per_second: float
    """Source and target tokens, by the clock."""


def train(
    network: Any, pairs: Encoded, test: Encoded, schedule: Schedule, checkpoints: Checkpoints
) -> Trained:
    """Raises Refused (`TrainingDiverged`) when the loss is not finite any more.

    `network` is a torch module and a Network; it is trained in place, and left ready to answer.
    """
    # The same bits whatever the pod's cores: sums over several threads may be in another order.
    torch.set_num_threads(1)
    optimizer = torch.optim.Adam(
        network.parameters(), lr=schedule.learning_rate, betas=schedule.betas, eps=schedule.epsilon
    )
    history, place, random, mean = _begin(network, optimizer, schedule, checkpoints)
    began, seen, saved = time.monotonic(), 0, time.monotonic()
    while place.epoch < schedule.epochs:
        if random is None:
            torch.manual_seed(schedule.seed * 1_000_003 + place.epoch + 1)
        else:
            torch.set_rng_state(torch.from_numpy(random))
            random = None
        network.train()
        for batch in list(batches_of(pairs, schedule, place.epoch))[place.batch :]:
            share = (place.epoch + place.pairs / len(pairs)) / schedule.epochs
            optimizer.param_groups[0]["lr"] = schedule.rate_at(share)
            loss, tokens = _step(network, optimizer, pairs, batch, schedule)
            if not math.isfinite(loss):
                raise _diverged(loss, place.epoch, schedule)
            if share >= 1 - schedule.averaged:
                place.averaged += 1
                _average(mean, network, place.averaged)
            place.batch += 1
            place.pairs += len(batch)
            place.loss += loss * tokens
            place.tokens += tokens
            seen += tokens + sum(len(pairs.sources[row]) for row in batch)
            if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                _tell(place, history, pairs, schedule, seen / (time.monotonic() - began))
                _save(network, optimizer, history, place, checkpoints, mean, torch.get_rng_state().numpy())
                saved = time.monotonic()
        history.losses.append(place.loss / place.tokens)
        if place.epoch + 1 == schedule.epochs:
            network.load_state_dict(mean, strict=False)
        test_loss, accuracy = score(network, test)
        history.test_losses.append(test_loss)
        history.test_accuracies.append(accuracy)
        place = _Place(place.epoch + 1, averaged=place.averaged)
        _tell(place, history, pairs, schedule, seen / max(time.monotonic() - began, 1e-9))
        if place.epoch < schedule.epochs:
            _save(network, optimizer, history, place, checkpoints, mean)
    network.eval()
    return Trained(history, seen / max(time.monotonic() - began, 1e-9))


def batches_of(pairs: Encoded, schedule: Schedule, epoch: int) -> Iterator[NDArray[np.int64]]:
    """The batches of an epoch as rows of the pairs, of about the same length each, in a random order."""
    choice = np.random.default_rng((schedule.seed, epoch))
    order = choice.permutation(len(pairs))
    lengths = np.array([max(map(len, both)) for both in zip(pairs.sources, pairs.targets, strict=True)])
    batches: list[NDArray[np.int64]] = []
    chunk = schedule.batch_size * CHUNK_BATCHES
    for begin in range(0, len(order), chunk):
        part = order[begin : begin + chunk]
        part = part[np.argsort(lengths[part], kind="stable")]
        for first in range(0, len(part), schedule.batch_size):
            batch = part[first : first + schedule.batch_size]
            fitting = max(1, MAX_TOKENS_A_BATCH // (int(lengths[batch[-1]]) + 1))
            batches += [batch[start : start + fitting] for start in range(0, len(batch), fitting)]
    for place in choice.permutation(len(batches)):
        yield batches[place]


def tensors_of(
    pairs: Encoded, batch: Sequence[int] | NDArray[np.int64]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sources (N, S), their lengths (N,), targets behind END (N, T), targets before END (N, T)."""
    source, lengths = pad([pairs.sources[row] for row in batch])
    before, _ = pad([(END, *pairs.targets[row]) for row in batch])
    after, _ = pad([(*pairs.targets[row], END) for row in batch])
    source_, lengths_, before_, after_ = map(torch.from_numpy, (source, lengths, before, after))
    return source_, lengths_, before_, after_


def _step(
    network: Any,
    optimizer: torch.optim.Adam,
    pairs: Encoded,
    batch: NDArray[np.int64],
    schedule: Schedule,
) -> tuple[float, int]:
    """One step of Adam; the mean loss of a target token, and how many there were."""
    source, lengths, before, after = tensors_of(pairs, batch)
    optimizer.zero_grad(set_to_none=True)
    logits = network(source, lengths, before)
    loss = functional.cross_entropy(
        logits.flatten(0, 1), after.flatten(), ignore_index=PAD, label_smoothing=schedule.label_smoothing
    )
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
    optimizer.step()
    return loss.item(), int((after != PAD).sum())


def _average(mean: Mean, network: Any, count: int) -> None:
    """Take the weights of one step more into the mean, the `count`th."""
    for name, weights in network.named_parameters():
        now = weights.detach()
        mean[name] = now.clone() if count == 1 else mean[name].lerp_(now, 1 / count)


def score(network: Any, pairs: Encoded, batch_size: int = 64) -> tuple[float, float]:
    """The mean loss of a target token, and the share of them that are the most probable."""
    network.eval()
    total, right, tokens = 0.0, 0, 0
    order = sorted(range(len(pairs)), key=lambda row: len(pairs.targets[row]))
    with torch.inference_mode():
        for begin in range(0, len(order), batch_size):
            source, lengths, before, after = tensors_of(pairs, order[begin : begin + batch_size])
            logits = network(source, lengths, before)
            total += functional.cross_entropy(
                logits.flatten(0, 1), after.flatten(), ignore_index=PAD, reduction="sum"
            ).item()
            counted = after != PAD
            right += int(((logits.argmax(-1) == after) & counted).sum())
            tokens += int(counted.sum())
    return total / tokens, right / tokens


def _begin(
    network: Any, optimizer: torch.optim.Adam, schedule: Schedule, checkpoints: Checkpoints
) -> tuple[History, _Place, NDArray[np.uint8] | None, Mean]:
    """Where an earlier pod was, with the state of torch's random numbers if that was within an epoch."""
    found = checkpoints.load(TRAINING)
    if found is None or found.facts.get("torch") != torch.__version__:
        return History(), _Place(), None, {}
    restore(network, optimizer, found.arrays)
    history, place = History(**found.facts["history"]), _Place(**found.facts["place"])
    progress.info(
        "going on at epoch %d of %d, batch %d, where an earlier pod was",
        place.epoch + 1,
        schedule.epochs,
        place.batch + 1,
    )
    mean = {
        name.removeprefix(f"{MEAN}/"): torch.from_numpy(array)
        for name, array in found.arrays.items()
        if name.startswith(f"{MEAN}/")
    }
    return history, place, found.arrays.get(RANDOM_STATE), mean


def _save(
    network: Any,
    optimizer: torch.optim.Adam,
    history: History,
    place: _Place,
    checkpoints: Checkpoints,
    mean: Mean,
    random: NDArray[np.uint8] | None = None,
) -> None:
    arrays = {**arrays_of(network, optimizer), **({} if random is None else {RANDOM_STATE: random})}
    arrays |= {f"{MEAN}/{name}": one.numpy() for name, one in mean.items()}
    facts = {"torch": torch.__version__, "history": vars(history), "place": vars(place)}
    checkpoints.save(TRAINING, arrays, facts)


def _tell(place: _Place, history: History, pairs: Encoded, schedule: Schedule, speed: float) -> None:
    done = place.epoch + place.pairs / len(pairs)
    of_all = sum(map(len, pairs.sources)) + sum(map(len, pairs.targets)) + len(pairs)
    left = (schedule.epochs - done) * of_all / speed
    if place.pairs:
        progress.info(
            "epoch %d of %d, %.0f %%: loss %.4f, %s tokens/s, %.0f s left",
            place.epoch + 1,
            schedule.epochs,
            100 * place.pairs / len(pairs),
            place.loss / place.tokens,
            f"{speed:,.0f}",
            left,
        )
    else:
        progress.info(
            "epoch %d of %d: loss %.4f, test loss %.4f, %.1f %% of test tokens right, %s tokens/s, %.0f s "
            "left",
            place.epoch,
            schedule.epochs,
            history.losses[-1],
            history.test_losses[-1],
            100 * history.test_accuracies[-1],
            f"{speed:,.0f}",
            left,
        )


def _diverged(loss: float, epoch: int, schedule: Schedule) -> Refused:
    return Refused(
        "TrainingDiverged",
        f"The loss is {loss} in epoch {epoch + 1} of {schedule.epochs}: the network has grown without bound. "
        f"Lower {schedule.where}.learningRate, which is {schedule.learning_rate:g} (0.001 to 0.003 is "
        "usual).",
    )
