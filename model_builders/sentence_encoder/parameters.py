"""The members `spec.build.sentenceEncoder` and `spec.build.export`, checked again: a Job may be started by
hand, and a CRD can be older than the builder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from model_builders.errors import Refused
from model_builders.messages import Json
from model_builders.quality import parse_decimal

Pooling = Literal["Auto", "Mean", "Cls"]
Precision = Literal["Auto", "Float32", "Int8"]

FIDELITY_METRIC = "cosine"
MAX_TOP_K = 1000
MAX_MAX_TOKENS = 8192
WHERE = "spec.build.sentenceEncoder"
EXPORT = "spec.build.export"


@dataclass(frozen=True)
class Parameters:
    pooling: Pooling = "Auto"
    """Auto: what the folder says (`modules.json`), else Mean."""
    max_tokens: int = 0
    """Texts are cut there; 0: what the folder says."""
    top_k: int = 5
    precision: Precision = "Auto"
    fidelity: float | None = None
    """The lowest cosine of an 8-bit vector with the 32-bit one that is accepted; None: nothing lossy."""


def parse_parameters(given: Json, export: Json) -> Parameters:
    """Raises Refused (`ParameterInvalid`) with everything that is wrong."""
    problems: list[str] = []

    def choice(content: Json, where: str, name: str, allowed: tuple[str, ...]) -> str:
        value = content.get(name, allowed[0])
        if value not in allowed:
            problems.append(f"{where}.{name} is {value!r}; it must be one of {', '.join(allowed)}")
        return str(value)

    def number(name: str, default: int, lowest: int, highest: int) -> int:
        value = given.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            problems.append(
                f"{WHERE}.{name} is {value!r}; it must be a whole number, {lowest} to {highest:,}"
            )
            return default
        return value

    for content, where, known in (
        (given, WHERE, ("pooling", "maxTokens", "topK")),
        (export, EXPORT, ("precision", "fidelity")),
    ):
        unknown = [name for name in content if name not in known]
        problems += [f"{where}.{name} is not known; there are {', '.join(known)}" for name in unknown]
    parameters = Parameters(
        pooling=cast(Pooling, choice(given, WHERE, "pooling", get_args(Pooling))),
        max_tokens=number("maxTokens", 0, 0, MAX_MAX_TOKENS),
        top_k=number("topK", 5, 1, MAX_TOP_K),
        precision=cast(Precision, choice(export, EXPORT, "precision", get_args(Precision))),
        fidelity=_fidelity(export.get("fidelity"), problems),
    )
    if parameters.precision == "Int8" and export.get("fidelity") is None:
        problems.append(
            f"{EXPORT}.precision is Int8 and {EXPORT}.fidelity is not set; 8 bits change the vectors, so say "
            f"how much: fidelity: {{metric: {FIDELITY_METRIC}, atLeast: '0.98'}}"
        )
    if problems:
        raise Refused("ParameterInvalid", f"{'; '.join(problems)}.")
    return parameters


def _fidelity(given: object, problems: list[str]) -> float | None:
    if given is None:
        return None
    bound = given if isinstance(given, Mapping) else {}
    if bound.get("metric") != FIDELITY_METRIC:
        problems.append(f"{EXPORT}.fidelity.metric is {bound.get('metric')!r}; measured is {FIDELITY_METRIC}")
    lowest = parse_decimal(bound.get("atLeast"))
    if lowest is None or not 0 <= lowest <= 1:
        problems.append(
            f"{EXPORT}.fidelity.atLeast is {bound.get('atLeast')!r}; it must be a decimal from 0 to 1, "
            "such as '0.98'"
        )
        return None
    return float(lowest)
