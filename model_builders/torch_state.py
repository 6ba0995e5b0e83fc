"""A network in training as arrays, for a checkpoint: weights, and what Adam knows of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

NETWORK, ADAM = "network", "adam"


def arrays_of(network: torch.nn.Module, optimizer: torch.optim.Adam) -> Mapping[str, NDArray[Any]]:
    arrays = {f"{NETWORK}/{name}": one.numpy() for name, one in network.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        arrays |= {f"{ADAM}/{number}/{name}": one.numpy() for name, one in state.items()}
    return arrays


def restore(
    network: torch.nn.Module, optimizer: torch.optim.Adam, arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Arrays of other names are passed over."""
    weights: dict[str, Any] = {}
    states: dict[int, dict[str, Any]] = {}
    for key, array in arrays.items():
        kind, *rest = key.split("/")
        if kind == NETWORK:
            weights[rest[0]] = torch.from_numpy(array)
        elif kind == ADAM:
            whole = torch.from_numpy(np.atleast_1d(array)).reshape(array.shape)
            states.setdefault(int(rest[0]), {})[rest[1]] = whole
    network.load_state_dict(weights)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
