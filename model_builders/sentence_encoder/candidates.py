"""Reads the optional input `candidates`: texts to compare with, one a line."""

from model_builders.errors import Refused
from model_builders.source import Source
from model_builders.texts import lines_of, read_text

MAX_CANDIDATES = 10_000
"""Their vectors are held by every server, and each request is compared with all of them."""


def read_candidates(source: Source) -> list[str]:
    """Every line that is not blank, each text once, in the order of the files and lines."""
    found: dict[str, None] = {}
    for name in source.files:
        for _, line in lines_of(read_text(source, name)):
            found.setdefault(line.strip())
            if len(found) > MAX_CANDIDATES:
                raise Refused(
                    "InputTooLarge",
                    f"Input {source.name!r} has more than {MAX_CANDIDATES:,} different lines; as many "
                    "candidates are kept.",
                )
    if not found:
        raise Refused("InputEmpty", f"Input {source.name!r} holds no line with a text in it.")
    return list(found)
