"""Documents from the files of an input.

| file | holds |
| --- | --- |
| `.tsv` | a header `document<TAB>text`, then a document a line |
| `.jsonl` | a JSON object a line with the keys `document` and `text`; further keys are passed over |
| `.txt` (in a folder) | one document of any length, named as the file without its suffix |

UTF-8, with or without a byte order mark. A folder may mix them. A single file is told apart by what it holds
and not by its name, because its name is no part of its digest. Names come out in Unicode form NFC, which is
what a question is compared in.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from model_builders.errors import Refused
from model_builders.source import Source
from model_builders.texts import (
    MAX_LINE_BYTES,
    check_characters,
    is_read,
    lines_of,
    parse_object,
    read_text,
    shortened,
    some_of,
)

HEADER = ("document", "text")


@dataclass(frozen=True)
class Document:
    name: str
    text: str
    where: str
    """File and line it was read from, for messages."""


@dataclass(frozen=True)
class Corpus:
    documents: tuple[Document, ...]
    passed_over: tuple[str, ...]
    """Files of other kinds, which were not read."""


def read_corpus(sources: tuple[Source, ...]) -> Corpus:
    """All documents of all inputs, in the order of the inputs, then of file names, then of lines.

    Raises Refused.
    """
    if not sources:
        raise Refused(
            "InputEmpty",
            "Every input is an artifact of another model; add one that holds the documents to count.",
        )
    documents: list[Document] = []
    passed_over: list[str] = []
    for source in sources:
        for relative in source.files:
            if not is_read(source, relative):
                passed_over.append(relative)
                continue
            suffix = PurePosixPath(relative).suffix.lower()
            text = read_text(source, relative)
            documents.extend(_documents(source, relative, suffix, text))
    if not documents:
        found = f"only {some_of(passed_over)}" if passed_over else "files without a document"
        raise Refused(
            "InputEmpty",
            f"Input {some_of([s.name for s in sources])} holds {found}; a corpus needs .tsv or "
            ".jsonl files with the columns document and text, or a folder of .txt files.",
        )
    _check_names(documents)
    return Corpus(tuple(documents), tuple(passed_over))


def _documents(source: Source, relative: str, suffix: str, text: str) -> Iterator[Document]:
    if source.kind == "File":
        suffix = ".jsonl" if text.lstrip().startswith("{") else ".tsv"
    if suffix == ".txt":
        name = unicodedata.normalize("NFC", PurePosixPath(relative).stem)
        yield Document(name, text, source.where(relative))
    elif suffix == ".jsonl":
        yield from _read_jsonl(source, relative, text)
    else:
        yield from _read_tsv(source, relative, text)


def _read_tsv(source: Source, relative: str, text: str) -> Iterator[Document]:
    lines = _lines(source, relative, text)
    number, header = next(lines, (1, ""))
    if tuple(header.strip().split("\t")) != HEADER:
        hint = (
            " (a folder of .txt files takes the documents' names from the files)"
            if source.kind == "File"
            else ""
        )
        raise Refused(
            "InputInvalid",
            f"{source.where(relative, number)} is {shortened(header)}; the first line of a .tsv "
            f"must be the header document<TAB>text{hint}.",
        )
    for number, line in lines:
        columns = line.split("\t")
        if len(columns) != len(HEADER):
            noun = "column" if len(columns) == 1 else "columns"
            raise Refused(
                "InputInvalid",
                f"{source.where(relative, number)} has {len(columns)} {noun}; it must have two, "
                "document and text, with one tab between them and none within.",
            )
        yield _document(source, relative, number, columns[0], columns[1])


def _read_jsonl(source: Source, relative: str, text: str) -> Iterator[Document]:
    for number, line in _lines(source, relative, text):
        content = parse_object(source, relative, number, line)
        for key in HEADER:
            if key not in content:
                raise Refused(
                    "InputInvalid",
                    f"{source.where(relative, number)} has no key {key!r}; "
                    f"it has {some_of(sorted(content), 8)}.",
                )
            if not isinstance(content[key], str):
                raise Refused(
                    "InputInvalid",
                    f"{source.where(relative, number)}: the key {key!r} is "
                    f"{content[key]!r}; it must be a string.",
                )
        yield _document(source, relative, number, content["document"], content["text"])


def _lines(source: Source, relative: str, text: str) -> Iterator[tuple[int, str]]:
    """Raises Refused for one that is longer than a line may be."""
    for number, line in lines_of(text):
        if len(line) > MAX_LINE_BYTES // 4 and len(line.encode("utf-8")) > MAX_LINE_BYTES:
            raise Refused(
                "InputInvalid",
                f"{source.where(relative, number)} has more than {MAX_LINE_BYTES:,} bytes; a line is a "
                "document. Put line feeds between them, or a longer one into a .txt file of its own in a "
                "folder.",
            )
        yield number, line


def _document(source: Source, relative: str, number: int, name: str, text: str) -> Document:
    where = source.where(relative, number)
    name = unicodedata.normalize("NFC", name).strip()
    check_characters(name + text, where)
    if not name:
        raise Refused(
            "InputInvalid", f"{where} has no name in the column document; every document needs one."
        )
    return Document(name, text, where)


def _check_names(documents: list[Document]) -> None:
    first: dict[str, Document] = {}
    for document in documents:
        before = first.setdefault(document.name, document)
        if before is not document:
            raise Refused(
                "InputInvalid",
                f"{document.where}: the document {document.name!r} is there already, in "
                f"{before.where}; names must differ.",
            )
