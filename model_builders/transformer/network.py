"""The network in torch. Source: Vaswani et al. 2017, "Attention is all you need"; sections are its.

Dimensions: N sentences, S source tokens, T target tokens, D model width, L layers, H heads, K width of a head
(D / H), F width of the feed-forward layer, V target vocabulary; B words of a translation that were read
before.

Departs from the paper: source and target have a vocabulary each, so the matrix of word vectors is shared
between the target and the output alone (section 3.4 shares all three); the projections of attention have
biases (section 3.2.2 has matrices alone).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_builders.served.search import PAD
from model_builders.transformer.parameters import Parameters


@dataclass(frozen=True)
class Memory:
    """A source that was read, and the cache: what the decoder keeps of the words it has read so far.

    Keys and values of a word do not depend on the words behind it, so they are computed once.
    """

    allowed: Tensor
    """True where the source has a token. Shape (N, S)."""
    source_keys: Tensor
    """Of the encoder's output, for the attention of each layer. Shape (N, L, H, S, K)."""
    source_values: Tensor
    keys: Tensor
    """Of the words before. Shape (N, L, H, B, K)."""
    values: Tensor


@dataclass(frozen=True)
class Decoded:
    logits: Tensor
    """Of every word as the next one. Shape (N, T, V)."""
    attention: Tensor
    """How much each head of each layer looked at each source token. Shape (N, L, H, T, S); (N, L, 0) where
    nobody wants to know."""
    memory: Memory
    """With these words in the cache."""


def positions(length: int, width: int) -> Tensor:
    """Sines and cosines, from short waves to long ones. Shape (length, D). Section 3.5."""
    place = torch.arange(length, dtype=torch.float32).unsqueeze(1)
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))  # (D / 2,)
    return torch.stack([torch.sin(place * frequency), torch.cos(place * frequency)], dim=-1).flatten(1)


def attend(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Mix the values by how well each key matches the query; also the weights of the mixture.

    Shapes: query (N, H, T, K); key and value (N, H, S, K); allowed broadcasts to (N, H, T, S), and every row
    of it allows something; results (N, H, T, K) and (N, H, T, S). Section 3.2.1, equation 1.
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    weights = scores.masked_fill(~allowed, float("-inf")).softmax(dim=-1)
    return weights @ value, weights


class MultiHeadAttention(nn.Module):
    """Section 3.2.2."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def keys_and_values(self, read: Tensor) -> tuple[Tensor, Tensor]:
        """Shapes: read (N, S, D); results (N, H, S, K)."""
        return self._split(self.key(read)), self._split(self.value(read))

    def forward(self, asking: Tensor, key: Tensor, value: Tensor, allowed: Tensor) -> Tensor:
        """Shapes: asking (N, T, D), the others as for `attend`; result (N, T, D).

        Of `attend` the result alone, as torch computes it without keeping the weights: training on 256
        words is half as long again with them.
        """
        query = self._split(self.query(asking))
        return self._join(functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed))

    def look(self, asking: Tensor, key: Tensor, value: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and the weights (N, H, T, S)."""
        mixed, weights = attend(self._split(self.query(asking)), key, value, allowed)
        return self._join(mixed), weights

    def _split(self, joined: Tensor) -> Tensor:
        return joined.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (N, H, T, K)

    def _join(self, split: Tensor) -> Tensor:
        joined: Tensor = self.output(split.transpose(1, 2).flatten(2))  # (N, T, D)
        return joined


class FeedForward(nn.Sequential):
    """Section 3.3, equation 2."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width))


class EncoderLayer(nn.Module):
    """Section 3.1: of each part, LayerNorm(x + part(x))."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__()
        width = parameters.hidden_dim
        self.attention = MultiHeadAttention(width, parameters.num_heads)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, parameters.feed_forward_dim)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(parameters.dropout)

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        mixed = self.attention(x, *self.attention.keys_and_values(x), allowed)
        x = self.attention_norm(x + self.dropout(mixed))
        x = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return x  # (N, S, D)


class DecoderLayer(EncoderLayer):
    """Section 3.1: as an encoder's, and between its parts attention to the source."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.source_attention = MultiHeadAttention(parameters.hidden_dim, parameters.num_heads)
        self.source_norm = nn.LayerNorm(parameters.hidden_dim)

    def decode(
        self,
        x: Tensor,
        words: tuple[Tensor, Tensor],
        before: Tensor,
        source: tuple[Tensor, Tensor],
        allowed: Tensor,
        look: bool,
    ) -> tuple[Tensor, Tensor]:
        """The layer's output (N, T, D), and where `look` is asked for, its attention to the source.

        `words` are keys and values of all words so far, `before` says which of them each word may see,
        `source` are keys and values of the encoder's output, `allowed` says where there are any.
        """
        x = self.attention_norm(x + self.dropout(self.attention(x, *words, before)))
        if look:
            mixed, weights = self.source_attention.look(x, *source, allowed)  # weights (N, H, T, S)
        else:
            mixed, weights = self.source_attention(x, *source, allowed), x.new_zeros((len(x), 0))
        x = self.source_norm(x + self.dropout(mixed))
        x = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return x, weights


class Transformer(nn.Module):
    def __init__(self, source_vocab: int, target_vocab: int, parameters: Parameters) -> None:
        super().__init__()
        width, layers = parameters.hidden_dim, range(parameters.num_layers)
        self.heads = parameters.num_heads
        self.source_embedding = nn.Embedding(source_vocab, width, padding_idx=PAD)
        self.target_embedding = nn.Embedding(target_vocab, width, padding_idx=PAD)
        self.encoder = nn.ModuleList(EncoderLayer(parameters) for _ in layers)
        self.decoder = nn.ModuleList(DecoderLayer(parameters) for _ in layers)
        self.dropout = nn.Dropout(parameters.dropout)
        # The first word of a target is END, so it is longer by one.
        table = positions(parameters.max_tokens + 1, width)
        self.register_buffer("positions", table, persistent=False)
        for weights in self.parameters():
            if weights.dim() > 1:
                nn.init.xavier_uniform_(weights)
        for embedding in (self.source_embedding, self.target_embedding):
            nn.init.normal_(embedding.weight, std=width**-0.5)

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Logits (N, T, V) behind each word of the target, all at once.

        Shapes: source (N, S) and target (N, T), filled up with PAD; lengths (N,). What stands behind a word
        does not count for it, so filling up at the end changes nothing.
        """
        return self.decode(target, self.encode(source, lengths), look=False).logits

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """Read the sources; nothing is written yet. Shapes: source (N, S), lengths (N,)."""
        allowed = torch.arange(source.shape[1]).unsqueeze(0) < lengths.unsqueeze(1)  # (N, S)
        x = self._embed(self.source_embedding, source, 0)
        for layer in self.encoder:
            x = layer(x, allowed[:, None, None])
        read = [layer.source_attention.keys_and_values(x) for layer in self.decoder]
        keys, values = (torch.stack(one, dim=1) for one in zip(*read, strict=True))  # (N, L, H, S, K)
        return Memory(allowed, keys, values, keys[..., :0, :], values[..., :0, :])

    def decode(self, words: Tensor, memory: Memory, look: bool = True) -> Decoded:
        """Read T words more. Shape: words (N, T)."""
        before = memory.keys.shape[3]
        x = self._embed(self.target_embedding, words, before)  # (N, T, D)
        place = torch.arange(before + words.shape[1])
        seen = place <= place[before:].unsqueeze(1)  # (T, B + T): each word, and those before it
        allowed = memory.allowed[:, None, None]
        cached, attention = [], []
        for number, layer in enumerate(self.decoder):
            new_keys, new_values = layer.attention.keys_and_values(x)
            keys = torch.cat([memory.keys[:, number], new_keys], dim=2)  # (N, H, B + T, K)
            values = torch.cat([memory.values[:, number], new_values], dim=2)
            source = memory.source_keys[:, number], memory.source_values[:, number]
            x, weights = layer.decode(x, (keys, values), seen, source, allowed, look)
            cached.append((keys, values))
            attention.append(weights)
        logits = x @ self.target_embedding.weight.T  # (N, T, V)
        all_keys, all_values = (torch.stack(one, dim=1) for one in zip(*cached, strict=True))
        written = Memory(memory.allowed, memory.source_keys, memory.source_values, all_keys, all_values)
        return Decoded(logits, torch.stack(attention, dim=1), written)

    def _embed(self, embedding: nn.Embedding, words: Tensor, before: int) -> Tensor:
        """Sections 3.4 and 3.5. The first of the words stands behind `before` others."""
        vectors = embedding(words) * math.sqrt(embedding.embedding_dim)
        embedded: Tensor = self.dropout(vectors + self.positions[before : before + words.shape[1]])
        return embedded
