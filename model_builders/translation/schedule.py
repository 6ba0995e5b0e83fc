"""What a training is asked for; apart from training.py, which needs torch."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    where: str
    """The member of the spec that says it: `spec.build.seq2SeqAttention`."""
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    label_smoothing: float = 0.0
    warm_up: float = 0.1
    """Share of the training in which the learning rate grows to its full size. With a constant one the last
    epochs jump up and down between 0.93 and 0.99 of the reversed lines."""
    decay: Literal["Linear", "InverseSquareRoot"] = "Linear"
    """How it falls behind that: in a line, to 0, or as Vaswani et al. 2017 have it (section 5.3)."""
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    averaged: float = 0.0
    """Share of the training, its end, over which the weights are averaged in the end."""

    def rate_at(self, share: float) -> float:
        """The learning rate, `share` of the way through the training."""
        growing = share / self.warm_up if self.warm_up else 1.0
        if self.decay == "Linear":
            falling = (1 - share) / (1 - self.warm_up)
        else:
            falling = math.sqrt(self.warm_up / share) if share and self.warm_up else 1.0
        return self.learning_rate * max(min(growing, falling), 1e-3)
