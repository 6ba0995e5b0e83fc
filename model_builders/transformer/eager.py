"""The network as a decoder of served.search: what measures, and what the exported one is compared with."""

import torch

from model_builders.served.search import Integers, State, Step
from model_builders.transformer.network import Memory, Transformer


class TorchDecoder:
    def __init__(self, network: Transformer) -> None:
        self._network = network

    def begin(self, tokens: Integers, lengths: Integers) -> State:
        with torch.inference_mode():
            return _state_of(self._network.encode(torch.from_numpy(tokens), torch.from_numpy(lengths)))

    def step(self, words: Integers, state: State) -> Step:
        with torch.inference_mode():
            memory = Memory(**{name: torch.from_numpy(array) for name, array in state.items()})
            decoded = self._network.decode(torch.from_numpy(words).unsqueeze(1), memory)
            logarithms = torch.log_softmax(decoded.logits[:, 0], dim=-1).numpy()
            return Step(logarithms, decoded.attention[..., 0, :].numpy(), _state_of(decoded.memory))


def _state_of(memory: Memory) -> State:
    return {name: tensor.numpy() for name, tensor in vars(memory).items()}
