"""The encoder in torch: a Transformer of the transformers library, pooling, and perhaps length 1.

Dimensions: B texts, S tokens of the longest, D width.
"""

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model_builders.errors import Refused
from model_builders.sentence_encoder.served.answering import Integers
from model_builders.sentence_encoder.weights import CONFIG, Weights
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
    os.environ["HF_HUB_OFFLINE"] = "1"  # before the import; a build has no network to try
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        transformer, loaded = transformers.AutoModel.from_pretrained(
            str(weights.folder),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation="eager",  # plain matrix products: the same maths in torch and in ONNX
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
        )
    except MemoryError:
        raise
    except Exception as error:  # each kind of model, and safetensors, raises its own
        raise Refused(
            "InputInvalid",
            f"Input 'weights' cannot be loaded by transformers {transformers.__version__} "
            f"({type(error).__name__}: {_first_paragraph(error)}). Take {CONFIG} and the safetensors from "
            "one folder that this transformers can read.",
        ) from error
    # A pooler is made anew by transformers where the file has none; it is not used here.
    missing = sorted(name for name in loaded["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise Refused(
            "InputInvalid",
            f"Input 'weights': the safetensors hold no {missing[0]!r}"
            + (f" and {len(missing) - 1} more that" if len(missing) > 1 else ", which")
            + f" a {weights.config['model_type']} of this configuration has.",
        )
    others = sorted(one for one in loaded["mismatched_keys"] if not one[0].startswith("pooler."))
    if others:
        name, found, wanted = others[0]
        raise Refused(
            "InputInvalid",
            f"Input 'weights': {name!r} has the shape {tuple(found)} in the safetensors and "
            f"{tuple(wanted)} by {CONFIG}; the files are of two models.",
        )
    encoder = SentenceEncoder(transformer, weights.pooling, weights.normalize)
    encoder.eval().requires_grad_(False)
    return encoder


def _first_paragraph(error: Exception) -> str:
    """What transformers says first; behind it come hints for who runs it himself."""
    words = " ".join(str(error).strip().partition("\n\n")[0].split())
    return words if len(words) <= 300 else words[:300] + "…"


class TorchEncoder:
    """The encoder as answering.py wants it: the eager one that the exported is compared with."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self._encoder = encoder

    def __call__(self, input_ids: Integers, attention_mask: Integers) -> Floats:
        with torch.inference_mode():
            vectors: Any = self._encoder(torch.from_numpy(input_ids), torch.from_numpy(attention_mask))
        return np.asarray(vectors.numpy())
