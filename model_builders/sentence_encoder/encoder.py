"""The encoder in torch: a Transformer of the transformers library, pooling, and perhaps length 1.

Dimensions: B texts, S tokens of the longest, D width.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model_builders.hub_model import load_model
from model_builders.sentence_encoder.served.answering import Integers
from model_builders.sentence_encoder.weights import Weights
from model_builders.served.vectors import Floats


class SentenceEncoder(nn.Module):
    """Mean pooling: Reimers and Gurevych 2019, section 3; a text without tokens cannot occur."""

    def __init__(self, transformer: nn.Module, pooling: str, normalize: bool) -> None:
        super().__init__()
        self.transformer = transformer
        self.pooling = pooling
        self.normalize = normalize

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Shapes: input_ids and attention_mask (B, S), the mask 1 where a token counts; result (B, D)."""
        hidden = self.transformer(input_ids=input_ids, attention_mask=attention_mask)[0]  # (B, S, D)
        if self.pooling == "Cls":
            pooled = hidden[:, 0]  # (B, D)
        else:
            counts = attention_mask.unsqueeze(2).to(hidden.dtype)  # (B, S, 1)
            pooled = (hidden * counts).sum(1) / counts.sum(1)  # (B, D)
        return functional.normalize(pooled, dim=1) if self.normalize else pooled


def load_encoder(weights: Weights) -> SentenceEncoder:
    """In 32 bits, ready to answer. Raises Refused for weights that are not those of the configuration."""
    transformer = load_model("AutoModel", weights.folder, weights.config, ("pooler.",))
    encoder = SentenceEncoder(transformer, weights.pooling, weights.normalize)
    encoder.eval().requires_grad_(False)
    return encoder


class TorchEncoder:
    """The encoder as answering.py wants it: the eager one that the exported is compared with."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self._encoder = encoder

    def __call__(self, input_ids: Integers, attention_mask: Integers) -> Floats:
        with torch.inference_mode():
            vectors: Any = self._encoder(torch.from_numpy(input_ids), torch.from_numpy(attention_mask))
        return np.asarray(vectors.numpy())
