"""The member `spec.build.transformer`."""

from dataclasses import dataclass

from model_builders.given import Given
from model_builders.messages import Json
from model_builders.translation.schedule import Schedule

WHERE = "spec.build.transformer"
FIELDS = (
    "sourceColumn",
    "targetColumn",
    "vocabSize",
    "hiddenDim",
    "feedForwardDim",
    "numLayers",
    "numHeads",
    "dropout",
    "labelSmoothing",
    "maxTokens",
    "epochs",
    "batchSize",
    "learningRate",
    "warmUp",
    "seed",
)

BETAS, EPSILON = (0.9, 0.98), 1e-9
"""Of Adam. Source: section 5.3."""

AVERAGED = 0.1
"""The model is the mean of what the weights were in the last tenth of the training. Source: section 6.1,
which takes the last five checkpoints, 50 minutes of twelve hours. The rate never falls to 0, so without that
the last epochs jump: between 0.98 and 1.00 of the reversed lines."""


@dataclass(frozen=True)
class Parameters:
    source_column: str
    target_column: str
    vocab_size: int
    """Of each side; the characters of the training texts are in it whatever it is."""
    hidden_dim: int
    """d_model of the paper, the heads together."""
    feed_forward_dim: int
    """d_ff of the paper."""
    num_layers: int
    """Of the encoder, and of the decoder: N of the paper."""
    num_heads: int
    """h of the paper."""
    dropout: float
    label_smoothing: float
    """The share of the right word's probability that is spread over all words: ε of section 5.4."""
    max_tokens: int
    """Of a side."""
    epochs: int
    batch_size: int
    learning_rate: float
    """At its highest."""
    warm_up: float
    """Share of the training until then; behind it the rate falls with the inverse square root (section
    5.3)."""
    seed: int

    @property
    def schedule(self) -> Schedule:
        return Schedule(
            WHERE,
            self.epochs,
            self.batch_size,
            self.learning_rate,
            self.seed,
            self.label_smoothing,
            self.warm_up,
            "InverseSquareRoot",
            BETAS,
            EPSILON,
            AVERAGED,
        )


def parse_parameters(given: Json, export: Json) -> Parameters:
    """Raises Refused (`ParameterInvalid`) with everything that is wrong."""
    fields = Given(WHERE, given, FIELDS)
    fields.check_lossless(export)
    parameters = Parameters(
        source_column=fields.word("sourceColumn", "source"),
        target_column=fields.word("targetColumn", "target"),
        vocab_size=fields.whole("vocabSize", 8000, 16, 64_000),
        hidden_dim=fields.whole("hiddenDim", 256, 2, 1024),
        feed_forward_dim=fields.whole("feedForwardDim", 1024, 2, 4096),
        num_layers=fields.whole("numLayers", 3, 1, 12),
        num_heads=fields.whole("numHeads", 4, 1, 16),
        dropout=fields.decimal("dropout", "0.1", 0, 0.9),
        label_smoothing=fields.decimal("labelSmoothing", "0.1", 0, 0.9),
        max_tokens=fields.whole("maxTokens", 64, 2, 512),
        epochs=fields.whole("epochs", 10, 1, 1000),
        batch_size=fields.whole("batchSize", 64, 1, 4096),
        learning_rate=fields.decimal("learningRate", "0.001", 0.000001, 10),
        warm_up=fields.decimal("warmUp", "0.1", 0, 0.9),
        seed=fields.whole("seed", 1, 0, 2_147_483_647),
    )
    if parameters.hidden_dim % 2 or parameters.hidden_dim % parameters.num_heads:
        fields.problems.append(
            f"{WHERE}.hiddenDim is {parameters.hidden_dim}; it must be even, and a multiple of "
            f"numHeads, which is {parameters.num_heads}"
        )
    fields.refuse()
    return parameters
