"""The member `spec.build.word2Vec`."""

from dataclasses import dataclass
from typing import Literal, cast, get_args

from model_builders.given import Given
from model_builders.messages import Json
from model_builders.served.words import CASE_FOLDINGS, TOKENIZERS, Settings
from model_builders.texts import TEXT

Model = Literal["SkipGram", "Cbow"]

WHERE = "spec.build.word2Vec"
FIELDS = (
    "model",
    "tokenizer",
    "caseFolding",
    "textColumn",
    "embeddingDim",
    "window",
    "negativeSamples",
    "minCount",
    "maxTerms",
    "subsampleThreshold",
    "epochs",
    "learningRate",
    "seed",
    "workers",
)


WORDS = Settings("Words", "Preserve")


@dataclass(frozen=True)
class Parameters:
    settings: Settings = WORDS
    text_column: str = TEXT
    model: Model = "SkipGram"
    embedding_dim: int = 100
    window: int = 5
    negative_samples: int = 5
    min_count: int = 5
    max_terms: int = 200_000
    subsample_threshold: float = 1e-3
    epochs: int = 5
    learning_rate: float = 0.025
    seed: int = 1
    workers: int = 1
    """1 gives the same bits every time; with more they change the weights as they come."""


def parse_parameters(given: Json, export: Json) -> Parameters:
    """Raises Refused (`ParameterInvalid`) with everything that is wrong."""
    fields = Given(WHERE, given, FIELDS)
    fields.check_lossless(export)
    parameters = Parameters(
        settings=Settings(
            fields.choice("tokenizer", TOKENIZERS, "Words"),
            fields.choice("caseFolding", CASE_FOLDINGS, "Preserve"),
        ),
        text_column=fields.word("textColumn", TEXT),
        model=cast(Model, fields.choice("model", get_args(Model), "SkipGram")),
        embedding_dim=fields.whole("embeddingDim", 100, 2, 1000),
        window=fields.whole("window", 5, 1, 20),
        negative_samples=fields.whole("negativeSamples", 5, 1, 50),
        min_count=fields.whole("minCount", 5, 1, 1_000_000),
        max_terms=fields.whole("maxTerms", 200_000, 2, 3_000_000),
        subsample_threshold=fields.decimal("subsampleThreshold", "0.001", 0, 1),
        epochs=fields.whole("epochs", 5, 1, 1000),
        learning_rate=fields.decimal("learningRate", "0.025", 0.0001, 10),
        seed=fields.whole("seed", 1, 0, 2_147_483_647),
        workers=fields.whole("workers", 1, 1, 64),
    )
    fields.refuse()
    return parameters
