"""The member `spec.build.huggingFace`."""

from dataclasses import dataclass
from typing import Literal, cast, get_args

from model_builders.given import Given
from model_builders.messages import Json

Task = Literal["SequenceClassification", "TokenClassification", "Translation"]
LongTexts = Literal["Refuse", "Truncate"]

WHERE = "spec.build.huggingFace"
FIELDS = ("task", "maxTokens", "longTexts", "prefix")

FEWEST_TOKENS = 8
"""Special tokens are among them, and something has to be left for the text."""
MAX_MAX_TOKENS = 8192
MAX_PREFIX = 256


@dataclass(frozen=True)
class Parameters:
    task: Task
    max_tokens: int = 0
    """Of a text, and of a translation; 0: what the folder says."""
    long_texts: LongTexts = "Refuse"
    """What becomes of a text with more tokens."""
    prefix: str = ""
    """Put before every text; T5 is told by it what to do."""


def parse_parameters(given: Json, export: Json) -> Parameters:
    """Raises Refused (`ParameterInvalid`) with everything that is wrong."""
    fields = Given(WHERE, given, FIELDS)
    fields.check_lossless(export)
    prefix = given.get("prefix", "")
    if not isinstance(prefix, str) or len(prefix) > MAX_PREFIX:
        fields.problems.append(
            f"{WHERE}.prefix is {prefix!r}; it must be a text of at most {MAX_PREFIX} characters"
        )
    parameters = Parameters(
        task=cast(Task, fields.choice("task", get_args(Task), "")),
        max_tokens=fields.whole("maxTokens", 0, 0, MAX_MAX_TOKENS),
        long_texts=cast(LongTexts, fields.choice("longTexts", get_args(LongTexts), "Refuse")),
        prefix=str(prefix),
    )
    if parameters.prefix and parameters.task != "Translation":
        fields.problems.append(f"{WHERE}.prefix is set; only the task Translation puts one before its texts")
    if 0 < parameters.max_tokens < FEWEST_TOKENS:
        fields.problems.append(
            f"{WHERE}.maxTokens is {parameters.max_tokens}; it must be 0 (what the folder says) or at least "
            f"{FEWEST_TOKENS}"
        )
    fields.refuse()
    return parameters
