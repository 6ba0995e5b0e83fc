"""The network in torch. Sources: Luong, Pham and Manning 2015, "Effective approaches to attention-based
neural machine translation"; Bahdanau, Cho and Bengio 2015, "Neural machine translation by jointly learning to
align and translate".

Dimensions: N sentences, S source tokens, T target tokens, E width of a word's vector, H width of a state,
V target vocabulary.

Departs from the papers: GRUs of one layer where Luong has LSTMs of four; the encoder reads in both
directions, also in Luong's order; no input feeding (Luong, section 3.3), so that in training a GRU runs over
the whole target at once; the decoder's first state is made of the last states of both directions (Bahdanau's
of the backward one alone); Bahdanau's maxout is the feed-forward layer that Luong has, with a bias here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model_builders.seq2seq_attention.parameters import Parameters
from model_builders.served.search import PAD


@dataclass(frozen=True)
class Memory:
    """A source that was read, and what the decoder begins with."""

    states: Tensor
    """Of the encoder, one a token: h̄ of Luong, h of Bahdanau. Shape (N, S, H)."""
    keys: Tensor
    """The states as the score wants them: what of it does not depend on the decoder. Shape (N, S, H)."""
    allowed: Tensor
    """True where there is a token. Shape (N, S)."""
    hidden: Tensor
    """The decoder's initial state. Shape (N, H)."""


@dataclass(frozen=True)
class DecoderSteps:
    """The decoder's steps of one word, one named tensor each, in the order in which Luong takes them.

    Step 7 is to go back to step 1 with the word of step 6. In Bahdanau's order 3 comes before 2.
    """

    embedded: Tensor
    """(1) The word before, which is <END> at first; with it goes the hidden state before. Shape (N, E)."""
    hidden: Tensor
    """(2) The RNN's new hidden state h; its output is not used. Shape (N, H)."""
    attention: Tensor
    """(3) Softmax of the scores of all encoder states. Shape (N, S)."""
    context: Tensor
    """(3) The context C: the mean of the encoder states, each as much as its attention. Shape (N, H)."""
    concatenated: Tensor
    """(4) C and h. Shape (N, 2 H); h alone without attention."""
    features: Tensor
    """(5) Through a feed-forward layer: h̃ of Luong, equation 5. Shape (N, H)."""
    logits: Tensor
    """(6) Of every word; the greatest is the next one. Shape (N, V)."""


class Seq2Seq(nn.Module):
    def __init__(self, source_vocab: int, target_vocab: int, parameters: Parameters) -> None:
        super().__init__()
        self.attention, self.score = parameters.attention, parameters.score
        vector, state = parameters.embedding_dim, parameters.hidden_dim
        self.source_embedding = nn.Embedding(source_vocab, vector, padding_idx=PAD)
        self.target_embedding = nn.Embedding(target_vocab, vector, padding_idx=PAD)
        self.encoder = nn.GRU(vector, state // 2, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(state, state)
        self.decoder = nn.GRU(
            vector + state if self.attention == "Bahdanau" else vector, state, batch_first=True
        )
        if self.attention != "None":
            if self.score == "General":
                self.score_keys = nn.Linear(state, state, bias=False)
            if self.score == "Concat":
                self.score_keys = nn.Linear(state, state)
                self.score_query = nn.Linear(state, state, bias=False)
                self.score_vector = nn.Linear(state, 1, bias=False)
        self.feed_forward = nn.Linear(state if self.attention == "None" else 2 * state, state)
        self.output = nn.Linear(state, target_vocab)
        self.dropout = nn.Dropout(parameters.dropout)

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Logits (N, T, V) behind each word of target. Shapes: source (N, S), lengths (N,), target (N, T)."""
        memory = self.encode(source, lengths)
        embedded = self.dropout(self.target_embedding(target))  # (N, T, E)
        if self.attention == "Bahdanau":
            return self._logits(self._decode_bahdanau(embedded, memory))
        hidden, _ = self.decoder(embedded, memory.hidden.unsqueeze(0))  # (N, T, H)
        if self.attention == "None":
            return self._logits(hidden)
        _, context = self.attend(hidden, memory)
        return self._logits(torch.cat([context, hidden], dim=-1))

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """Read the source in both directions. The initial state is made of the last of either.

        Shapes: source (N, S), lengths (N,). Source: Bahdanau, section 3.2, and appendix A.2.2 for the first
        state.
        """
        embedded = self.dropout(self.source_embedding(source))  # (N, S, E)
        packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        states, last = self.encoder(packed)
        states, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True, total_length=source.shape[1])
        hidden = torch.tanh(self.bridge(torch.cat([last[0], last[1]], dim=-1)))  # (N, H)
        keys = self.score_keys(states) if hasattr(self, "score_keys") else states
        allowed = torch.arange(source.shape[1]).unsqueeze(0) < lengths.unsqueeze(1)
        return Memory(states, keys, allowed, hidden)

    def attend(self, hidden: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Attention (N, T, S) and context (N, T, H) of T states of the decoder. Shape: hidden (N, T, H).

        Sources: Luong, equations 7 and 8; Concat as Bahdanau has it, appendix A.1.2, which is Luong's with
        the matrix in two halves: W [h; h̄] = U h + W h̄.
        """
        if self.score == "Concat":
            query = self.score_query(hidden).unsqueeze(2)  # (N, T, 1, H)
            scores = self.score_vector(torch.tanh(query + memory.keys.unsqueeze(1))).squeeze(-1)  # (N, T, S)
        else:
            scores = hidden @ memory.keys.transpose(1, 2)  # (N, T, S)
        attention = scores.masked_fill(~memory.allowed.unsqueeze(1), float("-inf")).softmax(dim=-1)
        return attention, attention @ memory.states

    def step(self, words: Tensor, hidden: Tensor, memory: Memory) -> DecoderSteps:
        """Steps 1 to 6. Shapes: words (N,), the words before; hidden (N, H), the states before."""
        embedded = self.target_embedding(words)  # (1)
        attention = embedded.new_zeros((len(words), 0))
        context = embedded.new_zeros((len(words), 0))
        if self.attention == "Bahdanau":  # (3), and the RNN reads what it gives
            attention, context = (one.squeeze(1) for one in self.attend(hidden.unsqueeze(1), memory))
            _, new = self.decoder(torch.cat([embedded, context], dim=-1).unsqueeze(1), hidden.unsqueeze(0))
        else:
            _, new = self.decoder(embedded.unsqueeze(1), hidden.unsqueeze(0))  # (2)
        new = new.squeeze(0)
        if self.attention == "Luong":
            attention, context = (one.squeeze(1) for one in self.attend(new.unsqueeze(1), memory))  # (3)
        concatenated = torch.cat([context, new], dim=-1)  # (4)
        features = torch.tanh(self.feed_forward(concatenated))  # (5)
        return DecoderSteps(embedded, new, attention, context, concatenated, features, self.output(features))

    def _decode_bahdanau(self, embedded: Tensor, memory: Memory) -> Tensor:
        """Contexts and states (N, T, 2 H): word by word, for each context needs the state before."""
        hidden, found = memory.hidden, []
        for word in embedded.unbind(dim=1):
            context = self.attend(hidden.unsqueeze(1), memory)[1].squeeze(1)  # (N, H)
            _, new = self.decoder(torch.cat([word, context], dim=-1).unsqueeze(1), hidden.unsqueeze(0))
            hidden = new.squeeze(0)
            found.append(torch.cat([context, hidden], dim=-1))
        return torch.stack(found, dim=1)

    def _logits(self, concatenated: Tensor) -> Tensor:
        features = torch.tanh(self.feed_forward(self.dropout(concatenated)))
        logits: Tensor = self.output(features)
        return logits
