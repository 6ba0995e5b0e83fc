"""The network in torch. Source: Kim 2014, "Convolutional neural networks for sentence classification".

Dimensions: N texts, S tokens of the longest, D width of a vector, F filters of a width, W widths, L labels.

Departs from the paper: windows that reach behind the end of a text do not count, so that a text's answer does
not depend on how long the others of its batch are; no bound on the weights' norm; Adam.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_builders.text_classifier.parameters import WIDTHS, Parameters
from model_builders.text_classifier.served.answering import FIRST_WORD, PAD


class TextCnn(nn.Module):
    def __init__(self, vectors: Tensor, labels: int, parameters: Parameters) -> None:
        """Shape: vectors (V + 2, D)."""
        super().__init__()
        frozen = parameters.embeddings == "Frozen"
        self.embedding = nn.Embedding.from_pretrained(vectors, freeze=frozen, padding_idx=PAD)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(vectors.shape[1], parameters.filters, width) for width in WIDTHS
        )
        self.dropout = nn.Dropout(parameters.dropout)
        self.output = nn.Linear(parameters.filters * len(WIDTHS), labels)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Logits (N, L). Shapes: tokens (N, S), lengths (N,)."""
        vectors = self.embedding(tokens).transpose(1, 2)  # (N, D, S)
        pooled = []
        for convolution, width in zip(self.convolutions, WIDTHS, strict=True):
            windows = torch.relu(convolution(vectors))  # (N, F, S - width + 1)
            counts = (lengths - width + 1).clamp(min=1).unsqueeze(1)  # (N, 1)
            inside = torch.arange(windows.shape[2]).unsqueeze(0) < counts  # (N, S - width + 1)
            pooled.append((windows * inside.unsqueeze(1)).amax(dim=2))  # (N, F); never below zero
        logits: Tensor = self.output(self.dropout(torch.cat(pooled, dim=1)))
        return logits


def first_vectors(
    terms: int, pretrained: NDArray[np.float32] | None, parameters: Parameters
) -> NDArray[np.float32]:
    """Two rows for padding (zeros) and unknown words, then the words'. Shape (V + 2, D).

    Pretrained ones keep their directions and get the length that random ones have: the filters then start
    from numbers of the same size.
    """
    choice = np.random.default_rng(parameters.seed)
    width = parameters.embedding_dim if pretrained is None else pretrained.shape[1]
    vectors = choice.uniform(-0.25, 0.25, (terms + FIRST_WORD, width)).astype(np.float32)
    if pretrained is not None:
        typical = float(np.sqrt(np.mean(np.square(pretrained.astype(np.float64)))))
        vectors[FIRST_WORD:] = pretrained * np.float32(0.25 / np.sqrt(3) / max(typical, 1e-12))
    vectors[PAD] = 0
    return vectors
