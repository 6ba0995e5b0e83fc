"""What a training is asked for; apart from training.py, which needs torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    where: str
    """The member of the spec that says it: `spec.build.seq2SeqAttention`."""
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    label_smoothing: float = 0.0
