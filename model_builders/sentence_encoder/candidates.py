"""Reads the optional input `candidates`: texts to compare with, one a line."""

from collections.abc import Sequence

from model_builders.errors import Refused
from model_builders.source import Source

MAX_CANDIDATES = 10_000
"""Their vectors are held by every server, and each request is compared with all of them."""


def read_candidates(source: Source) -> list[str]:
    """Every line that is not blank, each text once, in the order of the files and lines."""
    found: dict[str, None] = {}
    for name in source.files:
        for line in _lines(source, name):
            if line.strip():
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


def _lines(source: Source, name: str) -> Sequence[str]:
    content = (source.folder / name).read_bytes()
    try:
        # Not splitlines, which also splits at form feeds and the separators of Unicode.
        return content.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Refused(
            "InputEncoding",
            f"{source.where(name, line)} is not UTF-8: its byte {error.start} is "
            f"0x{content[error.start]:02x}.",
        ) from error
