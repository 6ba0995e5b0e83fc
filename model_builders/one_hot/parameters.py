"""The member `spec.build.oneHot`."""

from dataclasses import dataclass

from model_builders.given import Given
from model_builders.messages import Json
from model_builders.served.words import CASE_FOLDINGS, TOKENIZERS, Settings
from model_builders.texts import TEXT

WHERE = "spec.build.oneHot"
FIELDS = ("tokenizer", "caseFolding", "textColumn", "vocabulary", "minTexts", "maxTerms", "unknownWords")
UNKNOWN_WORDS = ("Zero", "Refuse")


@dataclass(frozen=True)
class Parameters:
    settings: Settings
    text_column: str
    vocabulary: tuple[str, ...]
    """Fixed terms in this order; empty to take them from the texts, and only then the next two count."""
    min_texts: int
    max_terms: int
    unknown_words: str


def parse_parameters(given: Json, export: Json) -> Parameters:
    """Raises Refused (`ParameterInvalid`) with everything that is wrong."""
    fields = Given(WHERE, given, FIELDS)
    fields.check_lossless(export)
    settings = Settings(
        fields.choice("tokenizer", TOKENIZERS, "Words"),
        fields.choice("caseFolding", CASE_FOLDINGS, "Preserve"),
    )
    parameters = Parameters(
        settings,
        fields.word("textColumn", TEXT),
        fields.vocabulary(settings),
        fields.whole("minTexts", 1, 1, 1_000_000),
        fields.whole("maxTerms", 50_000, 1, 1_000_000),
        fields.choice("unknownWords", UNKNOWN_WORDS, "Zero"),
    )
    fields.refuse()
    return parameters
