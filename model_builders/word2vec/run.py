"""Trains until it is done: with one worker or several, from where an earlier pod was killed, saying how far.

The unit is a chunk of the corpus. One worker trains chunk after chunk in this process, and the same corpus,
parameters and seed give the same bits. Several workers are processes that change the same weights as they
come (Hogwild, Recht et al. 2011): faster, and another result each time.
"""

import math
import mmap
import multiprocessing
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model_builders.checkpoints import Checkpoints
from model_builders.errors import Refused
from model_builders.progress import progress
from model_builders.word2vec.corpus import SAY_SECONDS, Corpus
from model_builders.word2vec.parameters import WHERE, Parameters
from model_builders.word2vec.training import ChunkLoss, Trainer, Weights, initial_weights

TRAINING = "training"

CHECKPOINT_SECONDS = 20.0
"""What a killed pod loses at most. Writing one takes a second for 100,000 words of 300 numbers."""
EPOCH_CHECKPOINT_SECONDS = 1.0
"""At the end of an epoch a shorter time is enough."""

EPOCH_SAY_SECONDS = 2.0
"""Epochs that are shorter are not all told."""

CHUNKS_A_ROUND = 4
"""Of each worker, before all of them are waited for: two seconds and more."""


@dataclass(frozen=True)
class Trained:
    vectors: NDArray[np.float32]
    """Shape (V, D)."""
    losses: tuple[float, ...]
    """Mean of a pair, of each epoch."""
    words_per_second: float
    """Of the corpus, by the clock, over what this process trained."""
    words_per_cpu_second: float
    """The same by processor time, that of all workers together."""


@dataclass
class _Epoch:
    """What is known of the epoch that runs."""

    loss: float = 0.0
    pairs: float = 0.0

    def add(self, found: ChunkLoss) -> None:
        self.loss += found.loss
        self.pairs += found.pairs

    @property
    def mean(self) -> float:
        return self.loss / self.pairs if self.pairs else math.nan


@dataclass
class _Clock:
    """Speed, and when to say something or to write a checkpoint."""

    total: int
    """Chunks of the whole training."""
    done: int
    words: int = 0
    started: float = field(default_factory=time.monotonic)
    cpu_started: float = field(default_factory=lambda: _cpu_seconds())
    said: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)
    first: int = field(init=False)

    def __post_init__(self) -> None:
        self.first = self.done

    @property
    def words_per_second(self) -> float:
        return self.words / max(time.monotonic() - self.started, 1e-9)

    @property
    def words_per_cpu_second(self) -> float:
        return self.words / max(_cpu_seconds() - self.cpu_started, 1e-9)

    @property
    def left(self) -> str:
        chunks = self.done - self.first
        seconds = (time.monotonic() - self.started) / max(chunks, 1) * (self.total - self.done)
        return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def train(corpus: Corpus, parameters: Parameters, checkpoints: Checkpoints) -> Trained:
    """Raises Refused (`TrainingDiverged`) when the loss is not finite any more."""
    # The same bits whatever the pod's cores: sums over several threads may be in another order.
    torch.set_num_threads(1)
    inner, outer = (_shared(array) for array in initial_weights(len(corpus.terms), parameters))
    trainer = Trainer(corpus, parameters, Weights(torch.from_numpy(inner), torch.from_numpy(outer)))
    epoch = _Epoch()
    losses: list[float] = []
    facts: dict[str, Any] = {"torch": torch.__version__, "tokens": len(corpus.tokens)}
    done = 0
    found = checkpoints.load(TRAINING)
    if found is not None and found.facts.items() >= facts.items():
        inner[:], outer[:] = found.arrays["inner"], found.arrays["outer"]
        epoch = _Epoch(found.facts["loss"], found.facts["pairs"])
        losses = list(found.facts["losses"])
        done = found.facts["done"]
        progress.info(
            "going on at step %s of %s, where an earlier pod was",
            f"{done:,}",
            f"{trainer.chunks * parameters.epochs:,}",
        )
    clock = _Clock(trainer.chunks * parameters.epochs, done)
    while clock.done < clock.total:
        if clock.done % trainer.chunks == 0:
            epoch = _Epoch()
        for result, chunk in _round(trainer, clock.done):
            epoch.add(result)
            clock.words += trainer.tokens_of(chunk)
            clock.done += 1
        _check_finite(epoch, parameters, clock, trainer)
        ends_epoch = clock.done % trainer.chunks == 0
        if ends_epoch:
            losses.append(epoch.mean)
        _say(epoch, parameters, clock, trainer, ends_epoch)
        since = time.monotonic() - clock.saved
        if clock.done < clock.total and (
            since > CHECKPOINT_SECONDS or (ends_epoch and since > EPOCH_CHECKPOINT_SECONDS)
        ):
            reached = {"done": clock.done, "loss": epoch.loss, "pairs": epoch.pairs, "losses": losses}
            checkpoints.save(TRAINING, {"inner": inner, "outer": outer}, facts | reached)
            clock.saved = time.monotonic()
    if not np.isfinite(inner).all():
        raise _diverged(parameters, parameters.epochs, math.nan)
    speeds = (clock.words_per_second, clock.words_per_cpu_second)
    return Trained(np.array(inner), tuple(losses), *speeds)


def _cpu_seconds() -> float:
    """Of this process and of the workers that it has waited for."""
    of_workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + of_workers.ru_utime + of_workers.ru_stime


def _shared(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy that forked processes share. Not in /dev/shm: a pod has 64 MiB there."""
    memory = mmap.mmap(-1, max(1, array.nbytes))
    copy = np.frombuffer(memory, dtype=np.float32, count=array.size).reshape(array.shape)
    copy[:] = array
    return copy


def _round(trainer: Trainer, done: int) -> list[tuple[ChunkLoss, int]]:
    """Train the next chunks, all of one epoch: one, or some for each worker."""
    workers = trainer.parameters.workers
    epoch, chunk = divmod(done, trainer.chunks)
    if workers == 1:
        return [(trainer.train(epoch, chunk), chunk)]
    chunks = range(chunk, min(chunk + workers * CHUNKS_A_ROUND, trainer.chunks))
    losses: list[tuple[ChunkLoss, int]] = []
    with _forked(trainer, epoch, [chunks[first::workers] for first in range(workers)]) as answers:
        for mine, answer in answers:
            losses += zip(answer, mine, strict=True)
    return losses


@contextmanager
def _forked(
    trainer: Trainer, epoch: int, shares: list[range]
) -> Iterator[Iterator[tuple[range, list[ChunkLoss]]]]:
    """A process for each share of the chunks, all at once; what each answers. None outlives the round."""
    context = multiprocessing.get_context("fork")
    started = []
    try:
        for share in filter(len, shares):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(trainer, epoch, share, sender), daemon=True)
            with _sigterm_after():
                process.start()
                started.append((process, receiver, share))
            sender.close()
        yield ((share, _answer(process, receiver)) for process, receiver, share in started)
    finally:
        for process, receiver, _ in started:
            if process.is_alive():
                process.kill()
            process.join()
            receiver.close()


@contextmanager
def _sigterm_after() -> Iterator[None]:
    """SIGTERM is handled after the block: what a handler raises in the hooks of a fork is ignored, and the
    training would go on."""
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread only
        return
    came: list[int] = []
    handler = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        if came:
            signal.raise_signal(signal.SIGTERM)


def _work(trainer: Trainer, epoch: int, chunks: range, sender: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sender.send([trainer.train(epoch, chunk) for chunk in chunks])
    sender.close()


def _answer(process: Any, receiver: Any) -> list[ChunkLoss]:
    try:
        answer: list[ChunkLoss] = receiver.recv()
    except EOFError as error:
        process.join()
        if process.exitcode == -signal.SIGKILL:
            raise MemoryError("The kernel took a worker.") from error  # the container's memory is one
        raise RuntimeError(f"A worker ended with exit code {process.exitcode}.") from error
    process.join()
    return answer


def _say(epoch: _Epoch, parameters: Parameters, clock: _Clock, trainer: Trainer, ends_epoch: bool) -> None:
    since = time.monotonic() - clock.said
    if clock.done < clock.total and since < (EPOCH_SAY_SECONDS if ends_epoch else SAY_SECONDS):
        return
    clock.said = time.monotonic()
    number, chunk = divmod(clock.done - 1, trainer.chunks)
    progress.info(
        "epoch %d of %d, %.0f %%: loss %.4f, %s words/s, %s left",
        number + 1,
        parameters.epochs,
        100 * (chunk + 1) / trainer.chunks,
        epoch.mean,
        f"{clock.words_per_second:,.0f}",
        clock.left,
    )


def _check_finite(epoch: _Epoch, parameters: Parameters, clock: _Clock, trainer: Trainer) -> None:
    if epoch.pairs and not math.isfinite(epoch.loss):
        raise _diverged(parameters, (clock.done - 1) // trainer.chunks + 1, epoch.loss)


def _diverged(parameters: Parameters, epoch: int, loss: float) -> Refused:
    return Refused(
        "TrainingDiverged",
        f"The loss is {loss} in epoch {epoch} of {parameters.epochs}: the vectors have grown without bound. "
        f"Lower {WHERE}.learningRate, which is {parameters.learning_rate:g} (0.025 is usual), or "
        "raise minCount.",
    )
