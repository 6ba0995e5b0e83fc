"""The model of transformers as what is exported, and as what answers beside the export: eager, in torch.

A decoder writes a token a step and keeps what it knows of those before: of each layer keys and values of the
text so far (`self`), and of the source (`cross`), which the encoder's graph gives once.

encoder: tokens (N, S), lengths (N) ──> attention_mask (N, S), self_* (N, H, 0, K), cross_* (N, H, S, K)
decoder: words (N), attention_mask, self_* (N, H, T, K), cross_* ──> log_probabilities (N, V), next_self_*

Dimensions: N texts, S source tokens of the longest, T tokens written so far, H heads, K head width,
V vocabulary, D model width, L labels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model_builders.hugging_face.served.tokens import Integers
from model_builders.served.search import State, Step
from model_builders.served.vectors import Floats

PARTS = ("self_keys", "self_values", "cross_keys", "cross_values")
"""What is kept of a layer, in this order."""


class LabelNetwork(nn.Module):
    """A classifier, of texts or of tokens."""

    def __init__(self, model: nn.Module, names: Sequence[str], activation: str) -> None:
        """`names` of its inputs; `activation` is Softmax or Sigmoid."""
        super().__init__()
        self.model = model
        self.names = tuple(names)
        self.activation = activation

    def forward(self, *inputs: Tensor) -> Tensor:
        """Probabilities (N, L), or (N, S, L). Shapes: inputs (N, S) each."""
        logits = self.model(**dict(zip(self.names, inputs, strict=True)))[0]
        return logits.sigmoid() if self.activation == "Sigmoid" else logits.softmax(dim=-1)


class TorchLabelNetwork:
    """As served.labelling wants it."""

    def __init__(self, network: LabelNetwork) -> None:
        self._network = network

    def __call__(self, inputs: Mapping[str, Integers]) -> Floats:
        with torch.inference_mode():
            found: Any = self._network(*(torch.from_numpy(inputs[name]) for name in self._network.names))
        return np.asarray(found.numpy())


class Encoder(nn.Module):
    """Reads the source, and gives all that the decoder will ever want of it."""

    def __init__(self, model: Any, start: int) -> None:
        super().__init__()
        self.model = model
        self.start = start

    def forward(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        attention_mask = (torch.arange(tokens.shape[1]) < lengths.unsqueeze(1)).to(torch.int64)  # (N, S)
        states = self.model.get_encoder()(input_ids=tokens, attention_mask=attention_mask)[0]  # (N, S, D)
        # A step of the decoder fills the cache with the keys and values of the source; the step itself
        # is not used, and the exporter leaves it out.
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        self.model.get_decoder()(
            input_ids=torch.full_like(tokens[:, :1], self.start),
            encoder_hidden_states=states,
            encoder_attention_mask=attention_mask,
            cache=cache,
            use_cache=True,
        )
        kept: list[Tensor] = []
        for layer in cache.cross_attention_cache.layers:
            nothing = layer.keys[:, :, :0]  # (N, H, 0, K)
            kept += [nothing, nothing.clone(), layer.keys, layer.values]
        return (attention_mask, *kept)


class Decoder(nn.Module):
    """One step."""

    def __init__(self, model: Any, width: int) -> None:
        super().__init__()
        self.model = model
        self.width = width

    def forward(self, words: Tensor, attention_mask: Tensor, *kept: Tensor) -> tuple[Tensor, ...]:
        """Logarithms of the next word's probabilities (N, V); of each layer `self_keys`, `self_values`."""
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        own, cross = DynamicCache(), DynamicCache()
        layers = len(kept) // len(PARTS)
        for layer in range(layers):
            first = layer * len(PARTS)
            own.update(kept[first], kept[first + 1], layer)
            cross.update(kept[first + 2], kept[first + 3], layer)
        cache = EncoderDecoderCache(own, cross)
        for layer in range(layers):
            cache.is_updated[layer] = True
        # The encoder's states are asked for by shape alone: their keys and values are in the cache.
        states = torch.zeros((1, 1, 1)).expand(*attention_mask.shape, self.width)
        given = self.model(
            decoder_input_ids=words.unsqueeze(1),
            encoder_outputs=(states,),
            attention_mask=attention_mask,
            cache=cache,
            use_cache=True,
        )
        logarithms = torch.log_softmax(given.logits[:, -1], dim=-1)  # (N, V)
        return (logarithms, *(part for layer in own.layers for part in (layer.keys, layer.values)))


class TorchDecoder:
    """As served.generating wants it."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        self._encoder = encoder
        self._decoder = decoder

    def begin(self, tokens: Integers, lengths: Integers) -> State:
        with torch.inference_mode():
            given = self._encoder(torch.from_numpy(tokens), torch.from_numpy(lengths))
        return {name: one.numpy() for name, one in zip(state_names(len(given) - 1), given, strict=True)}

    def step(self, words: Integers, state: State) -> Step:
        with torch.inference_mode():
            logarithms, *new = self._decoder(
                torch.from_numpy(words), *(torch.from_numpy(array) for array in state.values())
            )
        names = [name for name in state if name.startswith("self_")]
        grown = {name: one.numpy() for name, one in zip(names, new, strict=True)}
        return Step(logarithms.numpy(), np.zeros((len(words), 0), dtype=np.float32), {**state, **grown})


def state_names(parts: int) -> list[str]:
    """The names of what is kept, of a model with so many parts over all its layers."""
    layers = range(parts // len(PARTS))
    return ["attention_mask", *(f"{part}_{layer}" for layer in layers for part in PARTS)]
