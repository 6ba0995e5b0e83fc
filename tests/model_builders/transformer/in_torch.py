"""What is tested of the network itself. Run where torch is; each function prints what it found as JSON.

python -m tests.model_builders.transformer.in_torch NAME
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from model_builders.checkpoints import Checkpoints
from model_builders.served.search import END, PAD, pad
from model_builders.transformer.eager import TorchDecoder
from model_builders.transformer.graph import build_decoder, build_encoder
from model_builders.transformer.network import MultiHeadAttention, Transformer
from model_builders.transformer.parameters import Parameters, parse_parameters
from model_builders.translation import training
from tests.model_builders.seq2seq_attention.in_torch import (
    SOURCES,
    compared,
    killed_and_going_on,
    make_pairs,
    written,
)

TARGETS = [[END, 5, 6, 7], [END, 8], [END], [END, 9, 9, 9]]


def make_parameters(**given: Any) -> Parameters:
    return parse_parameters({"hiddenDim": 16, "feedForwardDim": 24, "numLayers": 2, **given}, {})


def make_network(parameters: Parameters, seed: int = 3) -> Transformer:
    """Weights that are large enough for attention to differ from word to word."""
    torch.manual_seed(seed)
    network = Transformer(20, 30, parameters)
    network.eval()
    for name, weights in network.named_parameters():
        if weights.dim() > 1 and "embedding" not in name:
            weights.data.mul_(2.0)
        weights.data.add_(torch.randn(weights.shape), alpha=0.3)  # no bias is 0, no scale is 1
    return network


def taught(parameters: Parameters) -> Transformer:
    """One that has learnt a little, so that it says different words, and comes to an end."""
    torch.manual_seed(3)
    network = Transformer(20, 30, parameters)
    pairs = make_pairs()
    training.train(network, pairs, pairs, parameters.schedule, Checkpoints())
    return network


def exports() -> dict[str, Any]:
    """One layer of several heads, and several layers of one head."""
    found = {}
    for layers, heads in ((1, 4), (3, 1)):
        schedule = {"epochs": 40, "batchSize": 8, "learningRate": "0.01", "dropout": "0"}
        parameters = make_parameters(numLayers=layers, numHeads=heads, **schedule)
        network = taught(parameters)
        weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        places = network.positions.numpy()
        graphs = [build(weights, places, parameters) for build in (build_encoder, build_decoder)]
        again = [build(weights, places, parameters) for build in (build_encoder, build_decoder)]
        same = [
            one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
            for one, other in zip(graphs, again, strict=True)
        ]
        found[f"{layers} {heads}"] = {
            **compared(TorchDecoder(network), written(*graphs)),
            "same bytes": all(same),
        }
    return found


def asked() -> tuple[Tensor, Tensor, Tensor]:
    source, lengths = map(torch.from_numpy, pad(SOURCES))
    target, _ = map(torch.from_numpy, pad(TARGETS))
    return source, lengths, target


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def cache() -> dict[str, Any]:
    """One pass over all words, word by word with what was kept, and each word with nothing kept."""
    network = make_network(make_parameters()).double()
    with torch.inference_mode():
        source, lengths, target = asked()
        memory = network.encode(source, lengths)
        whole = network.decode(target, memory)
        steps, now = [], memory
        for place in range(target.shape[1]):
            steps.append(network.decode(target[:, place : place + 1], now))
            now = steps[-1].memory
        again = [network.decode(target[:, : place + 1], memory) for place in range(target.shape[1])]
        two = network.decode(target[:, 2:], network.decode(target[:, :2], memory).memory)
        stepwise = torch.cat([one.logits for one in steps], 1)
        anew = torch.stack([one.logits[:, -1] for one in again], 1)
        looked = torch.cat([one.attention for one in steps], 3)
        return {
            "words": target.shape[1],
            "in training": apart(network(source, lengths, target), whole.logits),
            "kept": [list(one.memory.keys.shape) for one in steps],
            "step by step": apart(stepwise, whole.logits),
            "computed anew": apart(anew, stepwise),
            "attention": apart(looked, whole.attention),
            "two and two": apart(two.logits, whole.logits[:, 2:]),
            "keys": apart(now.keys, whole.memory.keys),
            "same": [name for name, one in vars(memory).items() if getattr(now, name) is one],
        }


def independence() -> dict[str, Any]:
    """No logit depends on a later word, on another row, or on how far a row is filled up."""
    network = make_network(make_parameters()).double()
    with torch.inference_mode():
        source, lengths, target = asked()
        logits = network(source, lengths, target)
        changed = {}
        for place in range(1, target.shape[1]):
            other = target.clone()
            other[:, place:] = 11
            found = network(source, lengths, other)
            changed[str(place)] = [
                apart(found[:, :place], logits[:, :place]),
                apart(found[:, place], logits[:, place]),
            ]
        rubbish = source.clone()
        rubbish[torch.arange(source.shape[1]) >= lengths.unsqueeze(1)] = 13
        wider = nn.functional.pad(source, (0, 5), value=PAD)
        alone = network(*map(torch.from_numpy, pad(SOURCES[1:2])), target[1:2])
        swapped = source.clone()
        swapped[0, [0, 1]] = source[0, [1, 0]]
        return {
            "later words": changed,
            "filled up": apart(network(wider, lengths, target), logits),
            "with what": apart(network(rubbish, lengths, target), logits),
            "alone": apart(alone, logits[1:2]),
            "order counts": apart(network(swapped, lengths, target)[0], logits[0]),
        }


def oracle() -> dict[str, Any]:
    """torch.nn's own layers with the same weights: post-norm, ReLU, masks of their own."""
    parameters = make_parameters()
    network = make_network(parameters).double()
    shape = (parameters.hidden_dim, parameters.num_heads, parameters.feed_forward_dim)
    with torch.inference_mode():
        source, lengths, target = asked()
        x = embedded(network.source_embedding, source)
        empty = torch.arange(source.shape[1]) >= lengths.unsqueeze(1)
        for ours in network.encoder:
            layer = nn.TransformerEncoderLayer(*shape, 0.0, batch_first=True).double()
            copy(layer.self_attn, ours.attention)
            copy_norms(layer, ours, ("attention_norm", "feed_forward_norm"))
            x = layer(x, src_key_padding_mask=empty)
        y = embedded(network.target_embedding, target)
        length = target.shape[1]
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        looked = []
        for ours in network.decoder:
            decoder = nn.TransformerDecoderLayer(*shape, 0.0, batch_first=True).double()
            copy(decoder.self_attn, ours.attention)
            copy(decoder.multihead_attn, ours.source_attention)
            copy_norms(decoder, ours, ("attention_norm", "source_norm", "feed_forward_norm"))
            before = decoder.norm1(y + decoder.self_attn(y, y, y, attn_mask=later)[0])
            looked.append(
                decoder.multihead_attn(before, x, x, key_padding_mask=empty, average_attn_weights=False)[1]
            )
            y = decoder(y, x, tgt_mask=later, memory_key_padding_mask=empty)
        logits = y @ network.target_embedding.weight.T
        decoded = network.decode(target, network.encode(source, lengths))
        return {
            "logits": apart(decoded.logits, logits),
            "attention": apart(decoded.attention, torch.stack(looked, 1)),
            "size": float(logits.std()),
        }


def embedded(embedding: nn.Embedding, words: Tensor) -> Tensor:
    """Sections 3.4 and 3.5, number by number."""
    width = embedding.embedding_dim
    places = torch.tensor(
        [
            [
                (math.cos if column % 2 else math.sin)(place / 10_000 ** (column // 2 * 2 / width))
                for column in range(width)
            ]
            for place in range(words.shape[1])
        ],
        dtype=torch.float64,
    )
    return embedding.weight[words] * width**0.5 + places


def copy(theirs: nn.MultiheadAttention, ours: MultiHeadAttention) -> None:
    parts = (ours.query, ours.key, ours.value)
    theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
    theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.load_state_dict(ours.output.state_dict())


def copy_norms(theirs: nn.Module, ours: nn.Module, names: tuple[str, ...]) -> None:
    for number, name in enumerate(names, 1):
        getattr(theirs, f"norm{number}").load_state_dict(getattr(ours, name).state_dict())
    theirs.linear1.load_state_dict(ours.feed_forward[0].state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward[2].state_dict())


def going_on() -> dict[str, Any]:
    """Killed when some steps are in the mean of the weights already."""
    parameters = make_parameters(dropout="0.3", epochs=3, batchSize=8)
    schedule = replace(parameters.schedule, averaged=0.7)
    return killed_and_going_on(schedule, partial(make_network, parameters))


def averaging() -> dict[str, Any]:
    """The weights behind the last of 15 steps, and the mean of the last 7, which the network is made of."""
    parameters = make_parameters(dropout="0", epochs=3, batchSize=8)
    pairs, take = make_pairs(), training._step
    network, seen = make_network(parameters), []

    def step(*given: Any) -> Any:
        done = take(*given)
        seen.append({name: weights.detach().clone() for name, weights in network.named_parameters()})
        return done

    with patch.object(training, "_step", step):
        schedule = replace(parameters.schedule, averaged=0.5)
        history = training.train(network, pairs, pairs, schedule, Checkpoints()).history
    found = {name: weights.detach() for name, weights in network.named_parameters()}
    means = {name: torch.stack([one[name] for one in seen[-7:]]).mean(0) for name in found}
    return {
        "steps": len(seen),
        "from the mean": max(apart(found[name], means[name]) for name in found),
        "from the last": max(apart(found[name], seen[-1][name]) for name in found),
        "measured": history.test_losses[-1] == training.score(network, pairs)[0],
    }


def smoothing() -> dict[str, Any]:
    """The loss of a batch against section 5.4: each word gets its part of a tenth."""
    parameters = make_parameters(dropout="0")
    pairs, batch, optimizer = make_pairs(), np.arange(6), torch.optim.Adam
    network = make_network(parameters)
    source, lengths, before, after = training.tensors_of(pairs, batch)
    with torch.inference_mode():
        logarithms = torch.log_softmax(network(source, lengths, before), -1).double()
    total, count = 0.0, 0
    for row, place in (after != PAD).nonzero().tolist():
        of_words = logarithms[row, place]
        total -= 0.9 * float(of_words[after[row, place]]) + 0.1 * float(of_words.mean())
        count += 1
    loss, tokens = training._step(network, optimizer(network.parameters()), pairs, batch, parameters.schedule)
    return {"apart": abs(loss - total / count), "tokens": [tokens, count]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(globals()[sys.argv[1]]()))
