"""Documents from the files of an input.

| file | holds |
| --- | --- |
| `.tsv` | a header `document<TAB>text`, then a document a line |
| `.jsonl` | a JSON object a line with the keys `document` and `text`; further keys are passed over |
| `.txt` (in a folder) | one document, named as the file without its suffix |

UTF-8, with or without a byte order mark. A folder may mix them. A single file is told apart by what it holds
and not by its name, because its name is no part of its digest. Names come out in Unicode form NFC, which is
what a question is compared in.
"""

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from model_builders.errors import Refused
from model_builders.source import Source

HEADER = ("document", "text")
SUFFIXES = (".tsv", ".jsonl", ".txt")


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
            suffix = PurePosixPath(relative).suffix.lower()
            if source.kind == "Folder" and (
                suffix not in SUFFIXES or PurePosixPath(relative).name.startswith(".")
            ):
                passed_over.append(relative)
                continue
            text = _decode(source, relative, (source.folder / relative).read_bytes())
            documents.extend(_documents(source, relative, suffix, text))
    if not documents:
        found = f"only {_some(passed_over)}" if passed_over else "files without a document"
        raise Refused(
            "InputEmpty",
            f"Input {_some([s.name for s in sources])} holds {found}; a corpus needs .tsv or "
            f".jsonl files with the columns "
            "document and text, or a folder of .txt files.",
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


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that hold something, from 1.

    Cut at line feeds alone: splitlines() would cut a text at U+2028 and the like as well.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if line.strip():
            yield number, line


def _read_tsv(source: Source, relative: str, text: str) -> Iterator[Document]:
    lines = _lines(text)
    number, header = next(lines, (1, ""))
    if tuple(header.strip().split("\t")) != HEADER:
        hint = (
            " (a folder of .txt files takes the documents' names from the files)"
            if source.kind == "File"
            else ""
        )
        raise Refused(
            "InputInvalid",
            f"{source.where(relative, number)} is {_short(header)}; the first line of a .tsv "
            f"must be the header "
            f"document<TAB>text{hint}.",
        )
    for number, line in lines:
        columns = line.split("\t")
        if len(columns) != len(HEADER):
            noun = "column" if len(columns) == 1 else "columns"
            raise Refused(
                "InputInvalid",
                f"{source.where(relative, number)} has {len(columns)} {noun}; it must have two, "
                f"document and text, with one tab "
                "between them and none within.",
            )
        yield _document(source, relative, number, columns[0], columns[1])


def _read_jsonl(source: Source, relative: str, text: str) -> Iterator[Document]:
    for number, line in _lines(text):
        try:
            content = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise Refused(
                "InputInvalid", f"{source.where(relative, number)} is not JSON: {error}."
            ) from error
        if not isinstance(content, dict):
            raise Refused(
                "InputInvalid",
                f"{source.where(relative, number)} is {_short(line)}; each line must be a JSON object.",
            )
        for key in HEADER:
            if not isinstance(content.get(key), str):
                raise Refused(
                    "InputInvalid",
                    f"{source.where(relative, number)}: the key {key!r} is "
                    f"{content.get(key)!r}; it must be a string.",
                )
        yield _document(source, relative, number, content["document"], content["text"])


def _document(source: Source, relative: str, number: int, name: str, text: str) -> Document:
    where = source.where(relative, number)
    name = unicodedata.normalize("NFC", name).strip()
    try:
        (name + text).encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can spell half a surrogate pair, which is no character
        raise Refused(
            "InputEncoding", f"{where} holds half of a surrogate pair, which is no character."
        ) from error
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


def _decode(source: Source, relative: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Positions count from the start of the bytes the decoder was given, which lack a byte order mark of
        # three bytes.
        start = error.start + (3 if content.startswith(b"\xef\xbb\xbf") else 0)
        line = content.count(b"\n", 0, start) + 1
        column = start - (content.rfind(b"\n", 0, start) + 1) + 1
        raise Refused(
            "InputEncoding",
            f"{source.where(relative, line)} is not UTF-8: its byte {column} (byte {start} of "
            f"the file, from 0) is "
            f"0x{content[start]:02x}.{_encoding_hint(content, relative)}",
        ) from error


def _encoding_hint(content: bytes, relative: str) -> str:
    """What else it may be: UTF-16 shows by its mark, Korean Windows text by decoding without an error."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        guess = "UTF-16"
    else:
        try:
            content.decode("cp949")
        except UnicodeDecodeError:
            return " Convert the file to UTF-8."
        guess = "CP949"
    return f" It looks like {guess}: iconv -f {guess} -t UTF-8 {PurePosixPath(relative).name!r} converts it."


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


def _some(names: list[str]) -> str:
    listed = ", ".join(repr(name) for name in names[:3])
    return listed + (f" and {len(names) - 3} more" if len(names) > 3 else "")
