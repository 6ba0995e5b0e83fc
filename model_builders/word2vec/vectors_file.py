"""Vectors that somebody trained, from their file: the input `vectors`.

| form | begins with | then |
| --- | --- | --- |
| word2vec, text | a line `V D` | a line a word: the word and D decimals |
| word2vec, binary | a line `V D` | a record a word: the word, a blank, D 32-bit floats (little endian) |
| GloVe | nothing | a line a word, as in word2vec's text |

Which of them a file is, its bytes say. Words come in their order, which is that of their frequency; of two
that become the same by Unicode form NFC or case folding the first stays.

Dimensions: V words, D width.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from model_builders.errors import Refused
from model_builders.progress import progress
from model_builders.served.words import normalise
from model_builders.source import Source
from model_builders.texts import BYTE_ORDER_MARK, shortened
from model_builders.word2vec.corpus import SAY_SECONDS

MAX_DIMENSIONS = 4096
MAX_LINE_BYTES = 1 << 20
"""A word and D decimals; a thousand of them take 20 kB."""
LONGEST_WORD_BYTES = 4096


@dataclass(frozen=True)
class WordVectors:
    terms: tuple[str, ...]
    vectors: NDArray[np.float32]
    """Shape (V, D)."""
    form: str
    """`word2vec text`, `word2vec binary` or `GloVe`."""


def read_vectors(source: Source, case_folding: str, max_terms: int) -> WordVectors:
    """At most the first `max_terms` words. Raises Refused with file and line (or number of the word)."""
    if len(source.files) != 1:
        raise Refused(
            "InputInvalid",
            f"Input {source.name!r} holds {len(source.files)} files; it must be one file of vectors. Name it "
            "in the source's path or key.",
        )
    (name,) = source.files
    path = source.folder / name
    header = _read_header(path)
    if header is None:
        form, entries = "GloVe", _read_text(source, name, None)
    elif _is_binary(path, header[1]):
        form, entries = "word2vec binary", _read_binary(source, name, header)
    else:
        form, entries = "word2vec text", _read_text(source, name, header)
    kept: dict[str, int] = {}
    vectors: list[NDArray[np.float32]] = []
    said = time.monotonic()
    for word, vector in entries:
        term = normalise(word, case_folding)
        if term in kept:
            continue
        kept[term] = len(kept)
        vectors.append(vector)
        if len(kept) == max_terms:
            break
        if time.monotonic() - said > SAY_SECONDS:
            said = time.monotonic()
            progress.info("read %s vectors", f"{len(kept):,}")
    if len(kept) < 2:
        raise Refused("InputEmpty", f"{source.where(name)} holds {len(kept)} vectors; at least 2 are needed.")
    return WordVectors(tuple(kept), np.stack(vectors), form)


def _read_header(path: Path) -> tuple[int, int] | None:
    """V and D of a first line that holds two whole numbers and nothing else."""
    with path.open("rb") as stream:
        words = stream.readline(64).removeprefix(BYTE_ORDER_MARK).split()
    if len(words) == 2 and all(word.isdigit() for word in words):
        return int(words[0]), int(words[1])
    return None


def _is_binary(path: Path, dimensions: int) -> bool:
    """Whether what follows the header is no line of decimals."""
    with path.open("rb") as stream:
        stream.readline()
        line = stream.readline(MAX_LINE_BYTES)
    words = line.split()
    try:
        [float(word) for word in words[-dimensions:]]
    except ValueError:
        return True
    return len(words) < dimensions + 1


def _check_dimensions(source: Source, name: str, dimensions: int) -> None:
    if not 2 <= dimensions <= MAX_DIMENSIONS:
        raise Refused(
            "InputInvalid",
            f"{source.where(name, 1)} has vectors of {dimensions:,} numbers; they must have 2 to "
            f"{MAX_DIMENSIONS:,}.",
        )


def _read_text(
    source: Source, name: str, header: tuple[int, int] | None
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    count = 0
    with (source.folder / name).open("rb") as stream:
        number = 0
        dimensions = header[1] if header else 0
        if header:
            stream.readline()
            number = 1
            _check_dimensions(source, name, dimensions)
        while raw := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            where = source.where(name, number)
            if len(raw) > MAX_LINE_BYTES:
                raise Refused(
                    "InputInvalid",
                    f"{where} has more than {MAX_LINE_BYTES:,} bytes; a line is a word and its numbers.",
                )
            if number == 1:
                raw = raw.removeprefix(BYTE_ORDER_MARK)
            if not raw.strip():
                continue
            line = _decode(raw, where).rstrip()
            if not dimensions:
                dimensions = _numbers_at_the_end(line)
                _check_dimensions(source, name, dimensions)
            # A word may hold blanks (GloVe 840B has some); the numbers are the last ones.
            word, *numbers = line.rsplit(" ", dimensions)
            if len(numbers) != dimensions or not word:
                found = len(line.split(" ")) - 1
                raise Refused(
                    "InputInvalid",
                    f"{where} has {found} numbers behind its word; every line must have {dimensions}, with a "
                    "blank before each.",
                )
            yield word, _numbers(numbers, where)
            count += 1
    if header and count < header[0]:
        raise _too_few(source, name, header[0], count)


def _numbers_at_the_end(line: str) -> int:
    """At most all but the first word: a word may be a number, too."""
    words = line.split(" ")
    count = 0
    while count < len(words) - 1 and _is_finite(words[-1 - count]):
        count += 1
    return count


def _decode(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(
            "InputEncoding",
            f"{where} is not UTF-8: its byte {error.start + 1} is 0x{raw[error.start]:02x}.",
        ) from error


def _numbers(words: list[str], where: str) -> NDArray[np.float32]:
    try:
        vector = np.array(words, dtype=np.float32)
    except ValueError:
        vector = np.array([np.nan], dtype=np.float32)
    if not np.isfinite(vector).all():
        wrong = next(word for word in words if not _is_finite(word))
        raise Refused("InputInvalid", f"{where} holds {shortened(wrong)}, which is no finite number.")
    return vector


def _is_finite(word: str) -> bool:
    try:
        return bool(np.isfinite(np.float32(word)))
    except ValueError:
        return False


def _read_binary(
    source: Source, name: str, header: tuple[int, int]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    words, dimensions = header
    _check_dimensions(source, name, dimensions)
    with (source.folder / name).open("rb") as stream:
        stream.readline()
        for index in range(words):
            where = f"{source.where(name)}, word {index + 1:,}"
            raw = _read_word(stream)
            if raw is None:
                raise _too_few(source, name, words, index)
            content = stream.read(4 * dimensions)
            if len(content) < 4 * dimensions:
                raise _too_few(source, name, words, index)
            vector = np.frombuffer(content, dtype="<f4").astype(np.float32)
            word = _decode(raw, where)
            if not np.isfinite(vector).all():
                raise Refused(
                    "InputInvalid",
                    f"{where} ({shortened(word)}): its vector holds a number that is not finite.",
                )
            yield word, vector


def _read_word(stream: BinaryIO) -> bytes | None:
    """Up to the next blank, without a line feed before it; None at the end, or when there is no blank."""
    word = b""
    while len(word) < LONGEST_WORD_BYTES:
        byte = stream.read(1)
        if not byte:
            return None
        if byte == b" ":
            return word
        if byte != b"\n" or word:
            word += byte
    return None


def _too_few(source: Source, name: str, announced: int, found: int) -> Refused:
    return Refused(
        "InputInvalid",
        f"{source.where(name)} announces {announced:,} words in its first line and ends after {found:,}; it "
        "was cut off, or is of another form.",
    )
