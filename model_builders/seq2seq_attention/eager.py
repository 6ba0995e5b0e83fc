"""The network as a decoder of served.search: what measures, and what the exported one is compared with."""

import torch

from model_builders.seq2seq_attention.network import Memory, Seq2Seq
from model_builders.served.search import Integers, State, Step


class TorchDecoder:
    def __init__(self, network: Seq2Seq) -> None:
        self._network = network

    def begin(self, tokens: Integers, lengths: Integers) -> State:
        with torch.inference_mode():
            memory = self._network.encode(torch.from_numpy(tokens), torch.from_numpy(lengths))
            return {name: tensor.numpy() for name, tensor in vars(memory).items()}

    def step(self, words: Integers, state: State) -> Step:
        with torch.inference_mode():
            memory = Memory(**{name: torch.from_numpy(array) for name, array in state.items()})
            steps = self._network.step(torch.from_numpy(words), memory.hidden, memory)
            logarithms = torch.log_softmax(steps.logits, dim=-1).numpy()
            return Step(logarithms, steps.attention.numpy(), {**state, "hidden": steps.hidden.numpy()})
