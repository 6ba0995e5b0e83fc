"""The hand-written gradients against torch's own, in the environment that has torch."""

from __future__ import annotations

import subprocess

import pytest

from tests.model_builders.torch_jobs import ROOT, python_with_torch

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(900)]  # the first time, torch is downloaded

PRELUDE = """
import sys, numpy as np, torch
from torch.nn import functional
from model_builders.word2vec.corpus import encode
from model_builders.word2vec.parameters import Parameters
from model_builders.word2vec.training import Trainer, Weights, initial_weights
torch.set_num_threads(1)
choice = np.random.default_rng(2)
texts = [[f"w{int(n)}" for n in choice.integers(0, 30, length)] for length in choice.integers(1, 40, 60)]
corpus = encode(texts, 1, 1000)
"""

GRADIENTS = """
model = sys.argv[1]
parameters = Parameters(model=model, embedding_dim=12, window=3, negative_samples=4)
terms = len(corpus.terms)
inner = torch.from_numpy(choice.normal(size=(terms, 12))).double()
outer = torch.from_numpy(choice.normal(size=(terms, 12))).double()
trainer = Trainer(corpus, parameters, Weights(inner.clone(), outer.clone()))
tokens, kinds = trainer.tokens.long(), trainer.texts
widths = torch.from_numpy(choice.integers(1, 4, len(tokens)))
first, size = 64, 16
trainer._centres = size
centres, around, band = trainer._block(tokens, kinds, widths, first)
pool = torch.from_numpy(choice.integers(0, terms, 8))
step = trainer._skip_gram if model == "SkipGram" else trainer._cbow
said = step(centres, around, band.double(), pool, 1.0, True)

# The loss as the papers write it, one pair after another; torch finds its gradient.
a, b = inner.clone().requires_grad_(), outer.clone().requires_grad_()
loss, pairs = torch.zeros((), dtype=torch.float64), 0
for centre in range(first, first + size):
    near = [p for p in range(centre - int(widths[centre]), centre + int(widths[centre]) + 1)
            if p != centre and 0 <= p < len(tokens) and kinds[p] == kinds[centre]]
    if not near:
        continue
    if model == "SkipGram":
        given = [(a[tokens[centre]], tokens[p]) for p in near]
    else:
        given = [(torch.stack([a[tokens[p]] for p in near]).mean(0), tokens[centre])]
    for vector, answer in given:
        loss = loss + functional.softplus(-(vector @ b[answer]))
        loss = loss + functional.softplus(b[pool] @ vector).sum() * 4 / 8
        pairs += 1
loss.backward()
loss = loss.item()
assert said.pairs == pairs > 10, (said.pairs, pairs)
assert abs(said.loss - loss) < 1e-8, (said.loss, loss)
weights = trainer.weights
for moved, before, gradient in ((weights.inner, inner, a.grad), (weights.outer, outer, b.grad)):
    assert float(gradient.abs().max()) > 0.1
    assert float((before - moved - gradient).abs().max()) < 1e-9
print("equal")
"""

LAST_BLOCK = """
# A block that the text does not fill: what is behind its end changes nothing.
parameters = Parameters(embedding_dim=8, window=2)
weights = Weights(*(torch.from_numpy(w) for w in initial_weights(len(corpus.terms), parameters)))
trainer = Trainer(corpus, parameters, weights)
trainer._centres = 256
tokens = trainer.tokens.long()[:100]
centres, around, band = trainer._block(tokens, trainer.texts[:100], torch.full((100,), 2), 0)
assert centres.shape == (2, 64) and around.shape == (2, 68), (centres.shape, around.shape)
assert band[1, 36:].sum() == 0 and band[:, :, :].sum() > 100
assert band[1, 35, 64:].sum() == 0
print("equal")
"""

SHARES = """
# As word2vec.c: a word with a tenth of the text is kept sqrt(t/f) + t/f of the time.
from model_builders.word2vec.training import kept_shares
shares = kept_shares(np.array([100, 899, 1]), 1e-3)
expected = [0.1 + 0.01, (1e-3 / 0.899) ** 0.5 + 1e-3 / 0.899, 1.0]
assert np.allclose(shares, expected, rtol=1e-6), shares
assert (kept_shares(np.array([100, 899, 1]), 0) == 1).all()
print("equal")
"""


@pytest.mark.parametrize(
    ("program", "word"),
    [
        pytest.param(GRADIENTS, "SkipGram", id="gradients of skip-gram"),
        pytest.param(GRADIENTS, "Cbow", id="gradients of CBOW"),
        pytest.param(LAST_BLOCK, "", id="the last block"),
        pytest.param(SHARES, "", id="subsampling"),
    ],
)
def test_training_computes_what_the_papers_say(program: str, word: str) -> None:
    command = [str(python_with_torch()), "-W", "error", "-c", PRELUDE + program, word]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "equal\n"), done.stderr


TERMINATED = """
# SIGTERM comes within the hooks of a fork, where what a handler raises is ignored.
import os, signal
from model_builders.word2vec import run

class Ended(BaseException): pass

def end(*_):
    raise Ended

class Slow:
    def train(self, epoch, chunk): signal.pause()

signal.signal(signal.SIGTERM, end)
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGTERM))
try:
    with run._forked(Slow(), 0, [range(1), range(1, 2)]) as answers:
        print("goes on")
except Ended:
    print("ended", signal.getsignal(signal.SIGTERM) is end)
try:
    print(os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("no worker left")
"""


def test_a_training_ends_when_it_is_told_to_while_it_starts_a_worker() -> None:
    command = [str(python_with_torch()), "-W", "error", "-c", PRELUDE + TERMINATED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "ended True\nno worker left\n"), done.stderr
