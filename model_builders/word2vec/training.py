"""Skip-gram and CBOW with negative sampling, in torch.

Sources: Mikolov et al. 2013, "Efficient estimation of word representations in vector space" (the two models,
the window of random width) and "Distributed representations of words and phrases and their compositionality"
(negative sampling, subsampling). Where this departs from them:

* A block of centres is trained at once, from the same weights; in word2vec.c each word sees the change of the
  one before it.
* All centres of a block share one pool of negatives, each weighted so that a centre has as many as asked for
  on average. A matrix product then takes the place of thousands of lookups.
* A block's windows are one band of a product of its centres and the words around them: neighbours are
  looked up once for all centres that have them in their window.

Dimensions: V terms, D width of a vector, R rows of a block, C centres of a row, W window, K negatives of a
block.

Everything random is drawn from generators seeded by (seed, epoch, chunk): a build that was killed goes on
at a chunk as if nothing had happened, and with one worker ends in the same bits.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model_builders.word2vec.corpus import Corpus
from model_builders.word2vec.parameters import Parameters

CHUNK_TOKENS = 1 << 16
"""Tokens between two looks at the clock; also the unit of work of a worker and of a checkpoint."""

CENTRES_A_ROW = 64
NEGATIVES_A_BLOCK = 64

MOST_CENTRES = 64
"""All of them move from the same weights, so a word that a block has often, or that is a negative of all its
centres, moves too far where they are many. On 8.9 million English words 256 centres ended the first epoch
with a loss of 24 and all of them with 0.07 analogies; 64 with 2.3 and 0.17 (gensim 0.16)."""
FEWEST_CENTRES = 16
TERMS_A_CENTRE = 8
"""A block has at most a centre for so many terms. All of its centres move from the same weights, so a word
that occurs many times in it moves many times as far as it should: with a small vocabulary large blocks
diverge (measured: 1,024 centres gave NaN on 14,000 terms, 512 never did)."""

LOSS_EVERY = 8
"""Blocks of which one is asked for its loss, which costs a tenth of its time."""

LOWEST_RATE = 1e-4
"""Where the learning rate's fall ends, as a share of what it is at the start; as in word2vec.c."""


@dataclass(frozen=True)
class Weights:
    """Both shared by all workers. Shapes: (V, D)."""

    inner: Tensor
    """The vectors of words as centres (skip-gram) or as context (CBOW): those that the model is."""
    outer: Tensor
    """The vectors by which they are predicted."""


@dataclass(frozen=True)
class ChunkLoss:
    loss: float
    """Summed over the pairs that were asked."""
    pairs: float


def initial_weights(terms: int, parameters: Parameters) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """As in word2vec.c: inner vectors uniform within half a D-th around 0, outer ones zero."""
    choice = np.random.default_rng(parameters.seed)
    width = parameters.embedding_dim
    inner = (choice.random((terms, width), dtype=np.float32) - np.float32(0.5)) / np.float32(width)
    return inner, np.zeros((terms, width), dtype=np.float32)


def centres_of_a_block(terms: int) -> int:
    fitting = min(MOST_CENTRES, max(FEWEST_CENTRES, terms // TERMS_A_CENTRE))
    return fitting // CENTRES_A_ROW * CENTRES_A_ROW if fitting > CENTRES_A_ROW else fitting


class Trainer:
    """Trains chunks of a corpus; every worker has one, and all of them the same weights."""

    def __init__(self, corpus: Corpus, parameters: Parameters, weights: Weights) -> None:
        self.parameters = parameters
        self.weights = weights
        self.tokens = torch.from_numpy(corpus.tokens)
        self.texts = torch.from_numpy(corpus.texts)
        self.chunks = max(1, -(-len(corpus.tokens) // CHUNK_TOKENS))
        """Of an epoch."""
        self._kept = torch.from_numpy(kept_shares(corpus.counts, parameters.subsample_threshold))
        shares = corpus.counts.astype(np.float64) ** 0.75
        self._drawn = torch.from_numpy(np.cumsum(shares / shares.sum()).astype(np.float32))
        self._centres = centres_of_a_block(len(corpus.terms))

    def tokens_of(self, chunk: int) -> int:
        return len(self.tokens[chunk * CHUNK_TOKENS : (chunk + 1) * CHUNK_TOKENS])

    def train(self, epoch: int, chunk: int) -> ChunkLoss:
        """One chunk, with the learning rate of its place in the whole training. Gradients are by hand."""
        with torch.inference_mode():
            return self._train(epoch, chunk)

    def _train(self, epoch: int, chunk: int) -> ChunkLoss:
        parameters = self.parameters
        generator = torch.Generator().manual_seed(
            (parameters.seed * 1_000_003 + epoch) * 1_000_003 + chunk + 1
        )
        first = chunk * CHUNK_TOKENS
        tokens = self.tokens[first : first + CHUNK_TOKENS].long()
        texts = self.texts[first : first + CHUNK_TOKENS]
        kept = torch.rand(len(tokens), generator=generator) < self._kept[tokens]
        tokens, texts = tokens[kept], texts[kept]
        widths = torch.randint(1, parameters.window + 1, (len(tokens),), generator=generator)
        blocks = -(-len(tokens) // self._centres)
        pools = torch.searchsorted(
            self._drawn, torch.rand(blocks, NEGATIVES_A_BLOCK, generator=generator)
        ).clamp_(max=len(self._drawn) - 1)
        total = ChunkLoss(0.0, 0.0)
        begun = epoch * self.chunks + chunk
        step = self._skip_gram if parameters.model == "SkipGram" else self._cbow
        for block in range(blocks):
            done = (begun + block / blocks) / (parameters.epochs * self.chunks)
            rate = max(parameters.learning_rate * (1.0 - done), parameters.learning_rate * LOWEST_RATE)
            centres, around, band = self._block(tokens, texts, widths, block * self._centres)
            found = step(centres, around, band, pools[block], rate, block % LOSS_EVERY == 0)
            if found is not None:
                total = ChunkLoss(total.loss + found.loss, total.pairs + found.pairs)
        return total

    def _block(
        self, tokens: Tensor, texts: Tensor, widths: Tensor, first: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Centres (R, C), the words around them (R, C + 2 W), and which are in whose window (R, C, C + 2 W),
        1 or 0. Places behind the last token are filled up and have no window."""
        window = self.parameters.window
        size = min(self._centres, len(tokens) - first)
        row = min(CENTRES_A_ROW, self._centres)
        rows = -(-size // row)
        starts = first + torch.arange(rows).unsqueeze(1) * row  # (R, 1)
        places = starts + torch.arange(row)  # (R, C)
        near = starts + torch.arange(-window, row + window)  # (R, C + 2 W)
        there = places < len(tokens)
        places = places.clamp(max=len(tokens) - 1)
        inside = (near >= 0) & (near < len(tokens))
        near = near.clamp(0, len(tokens) - 1)
        distance = (
            torch.arange(-window, row + window) - torch.arange(row).unsqueeze(1)
        ).abs()  # (C, C + 2 W)
        band = (distance > 0) & (distance <= widths[places].unsqueeze(2))  # (R, C, C + 2 W)
        band &= texts[places].unsqueeze(2) == texts[near].unsqueeze(1)
        band &= inside.unsqueeze(1) & there.unsqueeze(2)
        return tokens[places], tokens[near], band.float()

    def _skip_gram(
        self, centres: Tensor, around: Tensor, band: Tensor, pool: Tensor, rate: float, ask_loss: bool
    ) -> ChunkLoss | None:
        """Each centre predicts the words of its window."""
        inner, outer = self.weights.inner, self.weights.outer
        rows, width = centres.shape[0], inner.shape[1]
        of_centres = inner[centres.view(-1)]  # (R C, D)
        of_around = outer[around.view(-1)].view(rows, -1, width)  # (R, C + 2 W, D)
        of_pool = outer[pool]  # (K, D)
        by_row = of_centres.view(rows, -1, width)  # (R, C, D)
        near = torch.bmm(by_row, of_around.transpose(1, 2))  # (R, C, C + 2 W)
        far = of_centres @ of_pool.t()  # (R C, K)
        pairs = band.sum(2).view(-1, 1)  # (R C, 1)
        weight = pairs * (self.parameters.negative_samples / len(pool))
        pull = (torch.sigmoid(near) - 1) * band  # (R, C, C + 2 W)
        push = torch.sigmoid(far) * weight  # (R C, K)
        change = torch.bmm(pull, of_around).view(-1, width).addmm_(push, of_pool)  # (R C, D)
        change_around = torch.bmm(pull.transpose(1, 2), by_row).view(-1, width)
        change_pool = push.t() @ of_centres
        inner.index_add_(0, centres.view(-1), change, alpha=-rate)
        outer.index_add_(0, around.view(-1), change_around, alpha=-rate)
        outer.index_add_(0, pool, change_pool, alpha=-rate)
        if not ask_loss:
            return None
        loss = (functional.softplus(-near) * band).sum() + (functional.softplus(far) * weight).sum()
        return ChunkLoss(float(loss), float(pairs.sum()))

    def _cbow(
        self, centres: Tensor, around: Tensor, band: Tensor, pool: Tensor, rate: float, ask_loss: bool
    ) -> ChunkLoss | None:
        """The mean of the words of its window predicts each centre."""
        inner, outer = self.weights.inner, self.weights.outer
        rows, width = centres.shape[0], inner.shape[1]
        counts = band.sum(2, keepdim=True)  # (R, C, 1)
        share = band / counts.clamp(min=1)  # (R, C, C + 2 W)
        has_window = (counts > 0).float().view(-1, 1)  # (R C, 1)
        of_around = inner[around.view(-1)].view(rows, -1, width)  # (R, C + 2 W, D)
        means = torch.bmm(share, of_around).view(-1, width)  # (R C, D)
        of_centres = outer[centres.view(-1)]  # (R C, D)
        of_pool = outer[pool]  # (K, D)
        near = (means * of_centres).sum(1, keepdim=True)  # (R C, 1)
        far = means @ of_pool.t()  # (R C, K)
        weight = has_window * (self.parameters.negative_samples / len(pool))
        pull = (torch.sigmoid(near) - 1) * has_window  # (R C, 1)
        push = torch.sigmoid(far) * weight  # (R C, K)
        change_mean = (pull * of_centres).addmm_(push, of_pool)  # (R C, D)
        change_around = torch.bmm(share.transpose(1, 2), change_mean.view(rows, -1, width)).view(-1, width)
        outer.index_add_(0, centres.view(-1), pull * means, alpha=-rate)
        outer.index_add_(0, pool, push.t() @ means, alpha=-rate)
        inner.index_add_(0, around.view(-1), change_around, alpha=-rate)
        if not ask_loss:
            return None
        loss = (functional.softplus(-near) * has_window).sum() + (functional.softplus(far) * weight).sum()
        return ChunkLoss(float(loss), float(has_window.sum()))


def kept_shares(counts: np.ndarray[Any, Any], threshold: float) -> np.ndarray[Any, Any]:
    """How often a term of each count is kept, as word2vec.c has it: sqrt(t/f) + t/f, at most 1; f is its
    share of the tokens. A threshold of 0 keeps all. Shapes: (V,) -> (V,)."""
    if threshold <= 0:
        return np.ones(len(counts), dtype=np.float32)
    ratio = threshold * counts.sum() / counts
    result: np.ndarray[Any, Any] = np.minimum(1.0, np.sqrt(ratio) + ratio).astype(np.float32)
    return result
