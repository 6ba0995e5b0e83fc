"""The member `spec.build.termDocumentMatrix`, checked again: a Job may be started by hand, and a CRD can be
older than the builder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast, get_args

from model_builders.errors import Refused
from model_builders.messages import Json
from model_builders.term_document_matrix.matrix import Weighting
from model_builders.term_document_matrix.served.answering import Settings, normalise, tokenize

TOKENIZERS = ("Whitespace", "Words")
CASE_FOLDINGS = ("Preserve", "Lower")
PRECISIONS = ("Auto", "Float32")
FIELDS = ("weighting", "tokenizer", "caseFolding", "vocabulary", "minDocuments", "maxTerms")
WHERE = "spec.build.termDocumentMatrix"


@dataclass(frozen=True)
class Parameters:
    weighting: Weighting = "Count"
    tokenizer: str = "Words"
    case_folding: str = "Preserve"
    vocabulary: tuple[str, ...] = ()
    """Fixed terms in this order.

    Empty to take them from the corpus. `min_documents` and `max_terms` count only then.
    """
    min_documents: int = 1
    max_terms: int = 50_000

    @property
    def settings(self) -> Settings:
        return Settings(self.tokenizer, self.case_folding)


def parse_parameters(given: Json, export: Json) -> Parameters:
    """Raises Refused (`ParameterInvalid`) with everything that is wrong."""
    problems: list[str] = []

    def choice(
        name: str, allowed: tuple[str, ...], default: str, content: Json = given, where: str = WHERE
    ) -> str:
        value = content.get(name, default)
        if value not in allowed:
            problems.append(f"{where}.{name} is {value!r}; it must be one of {', '.join(allowed)}")
        return str(value)

    def number(name: str, default: int) -> int:
        value = given.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            problems.append(f"{WHERE}.{name} is {value!r}; it must be a whole number of at least 1")
            return default
        return value

    for name in given:
        if name not in FIELDS:
            problems.append(f"{WHERE}.{name} is not known; there are {', '.join(FIELDS)}")
    for name in export:
        if name != "precision":
            problems.append(
                f"spec.build.export.{name} is not offered for this architecture; there is precision"
            )
    choice("precision", PRECISIONS, "Auto", export, "spec.build.export")
    parameters = Parameters(
        weighting=cast(Weighting, choice("weighting", get_args(Weighting), "Count")),
        tokenizer=choice("tokenizer", TOKENIZERS, "Words"),
        case_folding=choice("caseFolding", CASE_FOLDINGS, "Preserve"),
        min_documents=number("minDocuments", 1),
        max_terms=number("maxTerms", 50_000),
    )
    vocabulary = given.get("vocabulary", [])
    if not isinstance(vocabulary, list) or not all(isinstance(term, str) for term in vocabulary):
        problems.append(f"{WHERE}.vocabulary is {vocabulary!r}; it must be a list of strings")
        vocabulary = []
    terms = tuple(normalise(term, parameters.case_folding) for term in vocabulary)
    if not problems:
        problems.extend(_problems_of(vocabulary, terms, parameters.settings))
    if problems:
        raise Refused("ParameterInvalid", f"{'; '.join(problems)}.")
    return Parameters(
        parameters.weighting,
        parameters.tokenizer,
        parameters.case_folding,
        terms,
        parameters.min_documents,
        parameters.max_terms,
    )


def _problems_of(vocabulary: list[str], terms: tuple[str, ...], settings: Settings) -> list[str]:
    """Terms that could never be found, and terms that become the same one."""
    problems = []
    first: Mapping[str, int] = {term: terms.index(term) for term in terms}
    for index, (given, term) in enumerate(zip(vocabulary, terms, strict=True)):
        tokens = tokenize(term, settings)
        if tokens != [term]:
            problems.append(
                f"{WHERE}.vocabulary[{index}] is {given!r}, which the tokenizer "
                f"{settings.tokenizer} reads as {tokens!r}; "
                "each term must be a single token"
            )
        elif first[term] != index:
            problems.append(
                f"{WHERE}.vocabulary[{index}] is {given!r}, the same term as vocabulary[{first[term]}] "
                f"({vocabulary[first[term]]!r}) after Unicode form NFC and case folding "
                f"{settings.case_folding}"
            )
    return problems
