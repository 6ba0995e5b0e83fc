"""What is tested of the network itself. Run where torch is; each function prints what it found as JSON.

python -m tests.model_builders.seq2seq_attention.in_torch NAME
"""

from __future__ import annotations

import json
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from model_builders.checkpoints import Checkpoints
from model_builders.errors import Refused
from model_builders.seq2seq_attention.eager import TorchDecoder
from model_builders.seq2seq_attention.graph import build_decoder, build_encoder
from model_builders.seq2seq_attention.network import Memory, Seq2Seq
from model_builders.seq2seq_attention.parameters import Parameters, parse_parameters
from model_builders.served.search import END, PAD, UNK, Decoder, Found, beam, greedy, pad
from model_builders.served.translating import OnnxDecoder, Subwords
from model_builders.translation import training
from model_builders.translation.pairs import Encoded, Pair
from model_builders.translation.schedule import Schedule
from model_builders.translation.subwords import train_subwords
from tools.translation_samples import diary

SOURCES = [[3, 4, 5, 6], [7, 8], [9], [10, 11, 12, 13, 14, 15, 16]]
LONGEST = 9

Searches = Callable[[Any, NDArray[np.int64], NDArray[np.int64]], list[Found]]


def make_parameters(**given: Any) -> Parameters:
    return parse_parameters({"embeddingDim": 12, "hiddenDim": 16, **given}, {})


def make_network(parameters: Parameters, seed: int = 3) -> Seq2Seq:
    """Weights that are large enough for attention to differ from word to word."""
    torch.manual_seed(seed)
    network = Seq2Seq(20, 30, parameters)
    network.eval()
    for weights in network.parameters():
        weights.data.mul_(4.0)
    return network


def written(*graphs: Any) -> OnnxDecoder:
    """An encoder and a decoder, as they are read by whoever serves them."""
    folder = Path(tempfile.mkdtemp())
    for name, graph in zip(("encoder", "decoder"), graphs, strict=True):
        (folder / f"{name}.onnx").write_bytes(graph.SerializeToString())
    return OnnxDecoder(folder)


def exports() -> dict[str, Any]:
    """Every order and score."""
    found = {}
    for attention, score in product(("Luong", "Bahdanau", "None"), ("Dot", "General", "Concat")):
        parameters = make_parameters(attention=attention, score=score)
        network = make_network(parameters)
        weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        served = written(*(build(weights, parameters) for build in (build_encoder, build_decoder)))
        found[f"{attention} {score}"] = compared(TorchDecoder(network), served)
    return found


def compared(eager: Decoder, served: Decoder) -> dict[str, Any]:
    """Greedy and by a beam: torch in a batch, ONNX in a batch, ONNX row by row."""
    searches: list[Searches] = [
        lambda decoder, tokens, lengths: greedy(decoder, tokens, lengths, LONGEST),
        lambda decoder, tokens, lengths: beam(decoder, tokens, lengths, LONGEST, 4),
    ]
    words, difference = [], 0.0
    for search in searches:
        together = search(eager, *pad(SOURCES)), search(served, *pad(SOURCES))
        alone = [search(served, *pad([source]))[0] for source in SOURCES]
        words.append([[list(one.words) for one in founds] for founds in (*together, alone)])
        for other in (together[1], alone):
            for a, b in zip(together[0], other, strict=True):
                apart = np.abs(a.attention - b.attention).max(initial=abs(a.score - b.score))
                difference = max(difference, float(apart))
    return {"words": words, "difference": difference}


def steps() -> dict[str, Any]:
    """The named tensors of a step against the equations, written out once more without a module of torch."""
    found = {}
    for attention, score in product(("Luong", "Bahdanau"), ("Dot", "General", "Concat")):
        parameters = make_parameters(attention=attention, score=score)
        network = make_network(parameters)
        with torch.inference_mode():
            memory = network.encode(*map(torch.from_numpy, pad(SOURCES)))
            before = torch.tanh(torch.randn(memory.hidden.shape))
            given = network.step(torch.tensor([END, 5, 6, 7]), before, memory)
            # (2), or before it in Bahdanau's order (3)
            asking = given.hidden if attention == "Luong" else before
            weights = attention_by_hand(network, score, asking, memory)
            context = torch.einsum("ns,nsh->nh", weights, memory.states)
            read = given.embedded if attention == "Luong" else torch.cat([given.embedded, context], 1)
            joined = torch.cat([context, given.hidden], 1)
            feed_forward = torch.tanh(joined @ network.feed_forward.weight.T + network.feed_forward.bias)
            wanted = {
                "embedded": network.target_embedding.weight[[END, 5, 6, 7]],
                "hidden": gru_by_hand(network.decoder, read, before),
                "attention": weights,
                "context": context,
                "concatenated": joined,
                "features": feed_forward,
                "logits": feed_forward @ network.output.weight.T + network.output.bias,
            }
            for name, tensor in wanted.items():
                apart = (getattr(given, name) - tensor).abs().max().item()
                found[f"{attention} {score} {name}"] = apart
    return found


def beginning() -> dict[str, Any]:
    """What the decoder begins with, written out once more; and what hangs on it alone."""
    found = {}
    for attention in ("Luong", "Bahdanau", "None"):
        network = make_network(make_parameters(attention=attention))
        with torch.inference_mode():
            memory = network.encode(*map(torch.from_numpy, pad(SOURCES)))
            last = torch.cat([read_by_hand(network, source) for source in SOURCES])
            wanted = torch.tanh(last @ network.bridge.weight.T + network.bridge.bias)
            words = torch.full((len(SOURCES),), END)
            step = network.step(words, memory.hidden, memory)
            # The same last states behind other texts: the rows of the memory are turned round.
            others = replace(memory, states=memory.states.flip(0), keys=memory.keys.flip(0))
            elsewhere = network.step(words, memory.hidden, replace(others, allowed=memory.allowed.flip(0)))
            source, lengths = map(torch.from_numpy, pad(SOURCES))
            logits = network(source, lengths, words.unsqueeze(1))[:, 0]
            found[attention] = {
                "initial state": (memory.hidden - wanted).abs().max().item(),
                "first word": (step.logits - logits).abs().max().item(),
                "other states": (elsewhere.logits - step.logits).abs().max().item(),
            }
    return found


def read_by_hand(network: Seq2Seq, source: Sequence[int]) -> torch.Tensor:
    """The last states of both directions, side by side. Shape (1, H)."""
    embedded = network.source_embedding.weight[list(source)]
    ends = []
    for suffix, vectors in (("", embedded), ("_reverse", embedded.flip(0))):
        state = embedded.new_zeros((1, network.encoder.hidden_size))
        for vector in vectors:
            state = gru_by_hand(network.encoder, vector.unsqueeze(0), state, suffix)
        ends.append(state)
    return torch.cat(ends, dim=1)


def attention_by_hand(network: Seq2Seq, score: str, query: torch.Tensor, memory: Memory) -> torch.Tensor:
    scores = torch.full(memory.allowed.shape, float("-inf"))
    for row, column in memory.allowed.nonzero().tolist():
        h, state = query[row], memory.states[row, column]
        if score == "Dot":
            scores[row, column] = h @ state
        elif score == "General":
            scores[row, column] = h @ (network.score_keys.weight @ state)
        else:
            both = network.score_query.weight @ h + network.score_keys.weight @ state
            bent = torch.tanh(both + network.score_keys.bias)
            scores[row, column] = (network.score_vector.weight @ bent).squeeze()
    exponents = torch.exp(scores - scores.max(dim=1, keepdim=True).values)
    return exponents / exponents.sum(dim=1, keepdim=True)


def gru_by_hand(
    gru: torch.nn.GRU, read: torch.Tensor, before: torch.Tensor, direction: str = ""
) -> torch.Tensor:
    weights = {name: getattr(gru, f"weight_{name}_l0{direction}") for name in ("ih", "hh")}
    biases = {name: getattr(gru, f"bias_{name}_l0{direction}") for name in ("ih", "hh")}
    ours = (read @ weights["ih"].T + biases["ih"]).chunk(3, 1)
    theirs = (before @ weights["hh"].T + biases["hh"]).chunk(3, 1)
    reset, update = (torch.sigmoid(ours[gate] + theirs[gate]) for gate in (0, 1))
    new = torch.tanh(ours[2] + reset * theirs[2])
    return (1 - update) * new + update * before


def teaching() -> dict[str, Any]:
    """What is learnt from is what answers: logits behind right words, all at once and step by step; and none
    depends on a later word, on other rows, or on how far a row is filled up."""
    found = {}
    for attention in ("Luong", "Bahdanau", "None"):
        network = make_network(make_parameters(attention=attention, score="Concat"))
        targets = [[END, 5, 6, 7], [END, 8], [END], [END, 9, 9, 9]]
        with torch.inference_mode():
            source, lengths = map(torch.from_numpy, pad(SOURCES))
            target, _ = map(torch.from_numpy, pad(targets))
            logits = network(source, lengths, target)
            memory = network.encode(source, lengths)
            hidden, stepwise = memory.hidden, []
            for place in range(target.shape[1]):
                step = network.step(target[:, place], hidden, memory)
                hidden = step.hidden
                stepwise.append(step.logits)
            later = target.clone()
            later[:, 2:] = 11
            wider = torch.nn.functional.pad(source, (0, 5))
            alone = network(*map(torch.from_numpy, pad(SOURCES[1:2])), target[1:2])
            found[attention] = {
                "step by step": (torch.stack(stepwise, 1) - logits).abs().max().item(),
                "later words": (network(source, lengths, later)[:, :2] - logits[:, :2]).abs().max().item(),
                "filled up": (network(wider, lengths, target) - logits).abs().max().item(),
                "alone": (alone - logits[1:2]).abs().max().item(),
            }
    return found


def make_pairs(count: int = 40) -> Encoded:
    choice = np.random.default_rng(1)
    rows = tuple(tuple(map(int, choice.integers(3, 12, choice.integers(1, 6)))) for _ in range(count))
    return Encoded(tuple(Pair("a", "b", "") for _ in rows), rows, tuple(row[::-1] for row in rows))


class Killed(Exception):
    pass


def killed_after(steps: int) -> Callable[..., Any]:
    """A training's step that works so often."""
    take, left = training._step, iter(range(steps))

    def step(*given: Any) -> Any:
        if next(left, None) is None:
            raise Killed
        return take(*given)

    return step


def going_on() -> dict[str, Any]:
    parameters = make_parameters(dropout="0.3", epochs=3, batchSize=8)
    return killed_and_going_on(parameters.schedule, partial(make_network, parameters))


def killed_and_going_on(schedule: Schedule, make: Callable[[int], Any]) -> dict[str, Any]:
    """A training that is killed within an epoch, and one that is not: the same weights in the end. `make`
    gives a network of a seed."""
    pairs = make_pairs()
    whole = make(5)
    history = training.train(whole, pairs, pairs, schedule, Checkpoints()).history

    checkpoints = Checkpoints(partial(Path, tempfile.mkdtemp()))
    with patch.object(training, "CHECKPOINT_SECONDS", 0.0):
        with suppress(Killed), patch.object(training, "_step", killed_after(7)):
            training.train(make(5), pairs, pairs, schedule, checkpoints)
        kept = checkpoints.load(training.TRAINING)
        assert kept is not None
        resumed = make(6)  # other weights, which are replaced
        found = training.train(resumed, pairs, pairs, schedule, checkpoints).history
    weights, others = whole.state_dict(), resumed.state_dict()
    return {
        "killed in": [kept.facts["place"][name] for name in ("epoch", "batch")],
        "equal": all(torch.equal(weights[name], others[name]) for name in weights),
        "histories": history == found,
    }


def diverging() -> dict[str, Any]:
    parameters = make_parameters(learningRate="0.5")
    network = make_network(parameters)
    network.output.bias.data.fill_(float("nan"))  # Adam's steps are bounded: no learning rate gets there
    pairs = make_pairs()
    try:
        training.train(network, pairs, pairs, parameters.schedule, Checkpoints())
    except Refused as refused:
        return {"reason": refused.reason, "message": refused.message}
    return {}


def batches() -> dict[str, Any]:
    """Each pair once an epoch, in another order each time; few long ones in a batch."""
    pairs = make_pairs(100)
    schedule = make_parameters(batchSize=8).schedule
    orders = [
        [batch.tolist() for batch in training.batches_of(pairs, schedule, epoch)] for epoch in (0, 0, 1)
    ]
    with patch.object(training, "MAX_TOKENS_A_BATCH", 12):
        small = [batch.tolist() for batch in training.batches_of(pairs, schedule, 0)]
    longest = [max(len(pairs.sources[row]) for row in batch) + 1 for batch in small]
    return {
        "once": all(sorted(chain(*order)) == list(range(100)) for order in (*orders, small)),
        "same": orders[0] == orders[1],
        "other": orders[0] != orders[2],
        "largest": max(len(batch) for order in orders for batch in order),
        "bounded": all(len(batch) * long <= 12 for batch, long in zip(small, longest, strict=True)),
        "rates": [
            [round(one.rate_at(share) / one.learning_rate, 3) for share in (0.0, 0.05, 0.1, 0.4, 0.55, 1.0)]
            for one in (schedule, replace(schedule, decay="InverseSquareRoot"))
        ],
    }


def subwords() -> dict[str, Any]:
    """What becomes of texts on their way to tokens and back."""
    texts = [f"{source} {target}" for source, target in diary()[:200]]
    content = train_subwords(texts, 200)
    tokenizer = Subwords(content)
    hard = [
        "나는 빵을 샀다.",
        unicodedata.normalize("NFD", "나는 빵을 샀다."),
        "  나는   빵을\t샀다.  ",
        "(나는) 빵을, 샀다?!",
        "I saw 나는.",
    ]
    (end,) = tokenizer.encode(["<END> 나는"])
    (unknown,) = tokenizer.encode(["漢字 나는"])
    return {
        "back": [tokenizer.decode(words) for words in tokenizer.encode(hard)],
        "end in a text": END in end,
        "unknown": unknown.count(UNK),
        "nothing": tokenizer.encode(["", " \t "]),
        "whole": tokenizer.spell(tokenizer.encode(["나는"])[0]),
        "size": tokenizer.size,
        "same": content == train_subwords(texts, 200),
        "first": [tokenizer.spell([word])[0] for word in (PAD, UNK, END)],
        "characters": Subwords(train_subwords(texts, 16)).size > 16,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(globals()[sys.argv[1]]()))
