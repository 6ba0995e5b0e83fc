"""The member `spec.build.textClassifier`."""

from dataclasses import dataclass
from typing import Literal, cast, get_args

from model_builders.given import Given
from model_builders.messages import Json
from model_builders.served.words import CASE_FOLDINGS, TOKENIZERS, Settings
from model_builders.texts import TEXT

Embeddings = Literal["Random", "Frozen", "FineTuned"]

WHERE = "spec.build.textClassifier"
FIELDS = (
    "embeddings",
    "tokenizer",
    "caseFolding",
    "textColumn",
    "labelColumn",
    "embeddingDim",
    "filters",
    "dropout",
    "minCount",
    "maxTokens",
    "epochs",
    "batchSize",
    "learningRate",
    "seed",
)

WIDTHS = (3, 4, 5)
"""Words that a filter sees at once, as in Kim 2014."""


@dataclass(frozen=True)
class Parameters:
    embeddings: Embeddings
    """Random: learnt from the labelled texts alone. Frozen: those of the input `vectors`, as they are.
    FineTuned: those, learnt on."""
    settings: Settings
    text_column: str
    label_column: str
    embedding_dim: int
    """Of Random; vectors bring their own."""
    filters: int
    """Of each width."""
    dropout: float
    min_count: int
    """How often a word must occur in the labelled texts to have a vector of its own, with Random."""
    max_tokens: int
    """Where a text is cut."""
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


def parse_parameters(given: Json, export: Json) -> Parameters:
    """Raises Refused (`ParameterInvalid`) with everything that is wrong."""
    fields = Given(WHERE, given, FIELDS)
    fields.check_lossless(export)
    parameters = Parameters(
        embeddings=cast(Embeddings, fields.choice("embeddings", get_args(Embeddings), "Random")),
        settings=Settings(
            fields.choice("tokenizer", TOKENIZERS, "Words"),
            fields.choice("caseFolding", CASE_FOLDINGS, "Preserve"),
        ),
        text_column=fields.word("textColumn", TEXT),
        label_column=fields.word("labelColumn", "label"),
        embedding_dim=fields.whole("embeddingDim", 100, 2, 1000),
        filters=fields.whole("filters", 100, 1, 1000),
        dropout=fields.decimal("dropout", "0.5", 0, 0.9),
        min_count=fields.whole("minCount", 2, 1, 1_000_000),
        max_tokens=fields.whole("maxTokens", 64, 5, 4096),
        epochs=fields.whole("epochs", 5, 1, 1000),
        batch_size=fields.whole("batchSize", 50, 1, 4096),
        learning_rate=fields.decimal("learningRate", "0.001", 0.000001, 10),
        seed=fields.whole("seed", 1, 0, 2_147_483_647),
    )
    fields.refuse()
    return parameters
