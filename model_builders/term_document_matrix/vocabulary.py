"""The vocabulary of a model: fixed by its parameters, or by another term-document matrix (transfer).

Two models with the same vocabulary answer document vectors of the same length in which a position means the
same word, so documents of two corpora can be compared.
"""

from dataclasses import dataclass

from model_builders.artifact_inputs import check_settings, read_vocabulary
from model_builders.errors import Refused
from model_builders.source import Source
from model_builders.term_document_matrix.parameters import WHERE, Parameters


@dataclass(frozen=True)
class Vocabulary:
    terms: tuple[str, ...]
    """In their order; empty: the words are taken from the corpus."""
    where: str
    """Where they come from, for messages."""


def find_vocabulary(parameters: Parameters, artifacts: tuple[Source, ...]) -> Vocabulary:
    """Raises Refused when there are two, or when the corpus would be cut into other words than it was."""
    if not artifacts:
        return Vocabulary(parameters.vocabulary, f"{WHERE}.vocabulary")
    if len(artifacts) > 1:
        raise Refused(
            "InputInvalid",
            f"Inputs {' and '.join(repr(one.name) for one in artifacts)} are artifacts; a term-document "
            "matrix takes the vocabulary of one.",
        )
    (source,) = artifacts
    if parameters.vocabulary:
        raise Refused(
            "ParameterInvalid",
            f"{WHERE}.vocabulary is set, and input {source.name!r} is an artifact that brings its own. "
            "Take one of them away.",
        )
    terms, settings = read_vocabulary(source)
    check_settings(WHERE, parameters.settings, source, settings, "vocabulary was")
    return Vocabulary(terms, f"input {source.name!r}")
