"""The vocabulary of a model: fixed by its parameters, or by another term-document matrix (transfer).

Two models with the same vocabulary answer document vectors of the same length in which a position means the
same word, so documents of two corpora can be compared.
"""

import json
from dataclasses import dataclass

from model_builders.artifact import VERSION_FOLDER
from model_builders.errors import Refused
from model_builders.served.words import Settings
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
    terms, settings = _read(source)
    _check_settings(parameters.settings, settings, source)
    return Vocabulary(terms, f"input {source.name!r}")


def _read(source: Source) -> tuple[tuple[str, ...], Settings]:
    folder = source.folder / VERSION_FOLDER
    try:
        terms = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        given = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        return tuple(str(term) for term in terms), Settings.of(given)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(
            "InputInvalid",
            f"Input {source.name!r} is an artifact without a vocabulary that this builder can read "
            f"({error}). Build that model again with the present release.",
        ) from error


def _check_settings(own: Settings, theirs: Settings, source: Source) -> None:
    differing = [
        f"{WHERE}.{name} is {mine}, but the vocabulary of input {source.name!r} was made with {other}"
        for name, mine, other in (
            ("tokenizer", own.tokenizer, theirs.tokenizer),
            ("caseFolding", own.case_folding, theirs.case_folding),
        )
        if mine != other
    ]
    if differing:
        raise Refused("ParameterInvalid", f"{'; '.join(differing)}. Set the same here.")
