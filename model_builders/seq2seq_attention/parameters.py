"""The member `spec.build.seq2SeqAttention`."""

from dataclasses import dataclass
from typing import Literal, cast, get_args

from model_builders.given import Given
from model_builders.messages import Json
from model_builders.translation.schedule import Schedule

Attention = Literal["Luong", "Bahdanau", "None"]
Score = Literal["Dot", "General", "Concat"]

WHERE = "spec.build.seq2SeqAttention"
FIELDS = (
    "attention",
    "score",
    "sourceColumn",
    "targetColumn",
    "vocabSize",
    "embeddingDim",
    "hiddenDim",
    "dropout",
    "maxTokens",
    "epochs",
    "batchSize",
    "learningRate",
    "seed",
)


@dataclass(frozen=True)
class Parameters:
    attention: Attention
    """Luong: a step of the RNN, then attention by the new state. Bahdanau: attention by the state before,
    then a step of the RNN, which reads the context. None: the decoder has the encoder's last state alone."""
    score: Score
    """How a state of the decoder is compared with one of the encoder; unused where attention is None."""
    source_column: str
    target_column: str
    vocab_size: int
    """Of each side; the characters of the training texts are in it whatever it is."""
    embedding_dim: int
    hidden_dim: int
    """Of a decoder's state, and of an encoder's: half of it for each direction."""
    dropout: float
    max_tokens: int
    """Of a side."""
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int

    @property
    def schedule(self) -> Schedule:
        return Schedule(WHERE, self.epochs, self.batch_size, self.learning_rate, self.seed)


def parse_parameters(given: Json, export: Json) -> Parameters:
    """Raises Refused (`ParameterInvalid`) with everything that is wrong."""
    fields = Given(WHERE, given, FIELDS)
    fields.check_lossless(export)
    parameters = Parameters(
        attention=cast(Attention, fields.choice("attention", get_args(Attention), "Luong")),
        score=cast(Score, fields.choice("score", get_args(Score), "General")),
        source_column=fields.word("sourceColumn", "source"),
        target_column=fields.word("targetColumn", "target"),
        vocab_size=fields.whole("vocabSize", 8000, 16, 64_000),
        embedding_dim=fields.whole("embeddingDim", 256, 2, 1024),
        hidden_dim=fields.whole("hiddenDim", 256, 2, 2048),
        dropout=fields.decimal("dropout", "0.2", 0, 0.9),
        max_tokens=fields.whole("maxTokens", 64, 2, 512),
        epochs=fields.whole("epochs", 10, 1, 1000),
        batch_size=fields.whole("batchSize", 64, 1, 4096),
        learning_rate=fields.decimal("learningRate", "0.003", 0.000001, 10),
        seed=fields.whole("seed", 1, 0, 2_147_483_647),
    )
    if parameters.hidden_dim % 2:
        fields.problems.append(
            f"{WHERE}.hiddenDim is {parameters.hidden_dim}; it must be even, for the encoder reads in two "
            "directions"
        )
    fields.refuse()
    return parameters
