"""What a build takes from the artifact of another model."""

import json

from model_builders.artifact import VERSION_FOLDER
from model_builders.errors import Refused
from model_builders.served.words import Settings
from model_builders.source import Source


def read_vocabulary(source: Source) -> tuple[tuple[str, ...], Settings]:
    """Its terms in their order, and how it cuts texts into words. Raises Refused (`InputInvalid`)."""
    folder = source.folder / VERSION_FOLDER
    try:
        terms = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        given = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        return tuple(str(term) for term in terms), Settings.of(given)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable(source, "a vocabulary", error) from error


def unreadable(source: Source, what: str, error: Exception) -> Refused:
    return Refused(
        "InputInvalid",
        f"Input {source.name!r} is an artifact without {what} that this builder can read ({error}). Build "
        "that model again with the present release.",
    )


def check_settings(where: str, own: Settings, source: Source, theirs: Settings, what: str) -> None:
    """Raises Refused (`ParameterInvalid`) when texts would be cut into other words than there.

    `where`: the member of the spec that `own` was read from. `what`: what the artifact has made with
    `theirs`, as "vocabulary was" or "vectors were".
    """
    thing, verb = what.split()
    differing = [
        f"{where}.{name} is {mine}, but the {thing} of input {source.name!r} {verb} made with {other}"
        for name, mine, other in (
            ("tokenizer", own.tokenizer, theirs.tokenizer),
            ("caseFolding", own.case_folding, theirs.case_folding),
        )
        if mine != other
    ]
    if differing:
        raise Refused("ParameterInvalid", f"{'; '.join(differing)}. Set the same here.")
