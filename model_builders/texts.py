"""Texts of an input: decoded, line by line, and refused with file, line and byte where they cannot be.

| file | holds |
| --- | --- |
| `.txt` | a text a line |
| `.tsv` | a header with a column `text`, then a text a line; other columns are passed over |
| `.jsonl` | a JSON object a line with the key `text`; further keys are passed over |

The column may have another name, and a second one may hold each text's label, for which `.txt` has no place.
UTF-8, with or without a byte order mark. A folder may mix them. A single file is told apart by what it holds
and not by its name, because its name is no part of its digest. What a whole document is, corpus.py says.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from model_builders.errors import Refused
from model_builders.source import Source

TEXT = "text"
SUFFIXES = (".tsv", ".jsonl", ".txt")

MAX_LINE_BYTES = 1_000_000
"""A sentence, a review, a paragraph; a whole file in one line is a file of another form."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Text:
    text: str
    where: str
    """File and line it was read from, for messages."""
    label: str = ""


@dataclass
class Texts:
    """The texts of all inputs, read as they are asked for: in the order of the inputs, files, lines."""

    sources: Sequence[Source]
    column: str = TEXT
    label_column: str = ""
    """Empty: there are no labels."""
    count: int = 0
    """Texts that were given so far."""

    @property
    def passed_over(self) -> list[str]:
        """Files of other kinds, which are not read."""
        return [name for source in self.sources for name in source.files if not is_read(source, name)]

    def __iter__(self) -> Iterator[Text]:
        """Raises Refused, also when there is no text at all."""
        self.count = 0
        for source in self.sources:
            for name in source.files:
                if is_read(source, name):
                    for text in self._texts_in(source, name):
                        self.count += 1
                        yield text
        if not self.count:
            over = self.passed_over
            found = f"only {some_of(over)}" if over else "no line with a text in it"
            raise Refused(
                "InputEmpty",
                f"Input {some_of([source.name for source in self.sources])} holds {found}; texts are read "
                f"from {'' if self.label_column else '.txt files (one a line), and from '}.tsv and .jsonl "
                f"files with the {self._wanted}.",
            )

    @property
    def _wanted(self) -> str:
        return (
            f"columns {self.column} and {self.label_column}" if self.label_column else f"column {self.column}"
        )

    def _texts_in(self, source: Source, name: str) -> Iterator[Text]:
        lines = stream_lines(source, name)
        number, first = next(lines, (1, ""))
        suffix = PurePosixPath(name).suffix.lower()
        if source.kind == "File":
            # A table without the column must not become texts with numbers and labels in them.
            suffix = ".jsonl" if first.lstrip().startswith("{") else ".tsv" if "\t" in first else ".txt"
        if suffix == ".txt" and self.label_column:
            raise Refused(
                "InputInvalid",
                f"{source.where(name, number)} is {shortened(first)}; a text has its "
                f"{self.label_column} beside it, in a .tsv or .jsonl file with the {self._wanted}.",
            )
        take: Callable[[int, str], tuple[str, str]]
        if suffix == ".tsv":
            take = self._row(source, name, number, first)
        else:
            take = self._object(source, name) if suffix == ".jsonl" else (lambda _, line: (line, ""))
            if first.strip():
                text, label = take(number, first)
                yield Text(text, source.where(name, number), label)
        for number, line in lines:
            if line.strip():
                text, label = take(number, line)
                yield Text(text, source.where(name, number), label)

    def _row(
        self, source: Source, name: str, number: int, header: str
    ) -> Callable[[int, str], tuple[str, str]]:
        cells = _cells(header)
        missing = [one for one in (self.column, self.label_column) if one and one not in cells]
        if missing:
            raise Refused(
                "InputInvalid",
                f"{source.where(name, number)} has the columns {some_of(cells, 8)} and no {missing[0]}; the "
                f"first line of a .tsv must be a header with the {self._wanted}.",
            )
        index = cells.index(self.column)
        label = cells.index(self.label_column) if self.label_column else None

        def take(number: int, line: str) -> tuple[str, str]:
            found = line.split("\t")
            if len(found) != len(cells):
                noun = "column" if len(found) == 1 else "columns"
                raise Refused(
                    "InputInvalid",
                    f"{source.where(name, number)} has {len(found)} {noun}, its header has {len(cells)}; "
                    "texts must have no tab within.",
                )
            return found[index], "" if label is None else found[label]

        return take

    def _object(self, source: Source, name: str) -> Callable[[int, str], tuple[str, str]]:
        def take(number: int, line: str) -> tuple[str, str]:
            content = parse_object(source, name, number, line)
            where = source.where(name, number)
            missing = [one for one in (self.column, self.label_column) if one and one not in content]
            if missing:
                raise Refused(
                    "InputInvalid",
                    f"{where} has no key {missing[0]!r}; it has {some_of(sorted(content), 8)}.",
                )
            text, label = content[self.column], content.get(self.label_column, "")
            if isinstance(label, int):  # 0 and 1, as many data sets have it
                label = str(int(label))
            for key, value in ((self.column, text), (self.label_column, label)):
                if not isinstance(value, str):
                    raise Refused(
                        "InputInvalid", f"{where}: the key {key!r} is {value!r}; it must be a string."
                    )
                check_characters(value, where)
            return str(text), str(label)

        return take


def is_read(source: Source, name: str) -> bool:
    """Whether a file is one of those that are read; a single file always is."""
    path = PurePosixPath(name)
    return source.kind == "File" or (path.suffix.lower() in SUFFIXES and not path.name.startswith("."))


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("\t")]


def parse_object(source: Source, name: str, number: int, line: str) -> dict[str, Any]:
    """A line of a .jsonl file. Raises Refused (`InputInvalid`)."""
    try:
        content = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise Refused("InputInvalid", f"{source.where(name, number)} is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise Refused(
            "InputInvalid",
            f"{source.where(name, number)} is {shortened(line)}; each line must be a JSON object.",
        )
    return content


def check_characters(text: str, where: str) -> None:
    """Raises Refused (`InputEncoding`): JSON can spell half a surrogate pair, which is no character."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Refused(
            "InputEncoding", f"{where} holds half of a surrogate pair, which is no character."
        ) from error


def stream_lines(source: Source, name: str, max_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[int, str]]:
    """Every line of a file with its number, from 1, without its end. Raises Refused.

    Cut at line feeds alone: splitlines() would cut a text at U+2028 and the like as well.
    """
    before = 0
    with (source.folder / name).open("rb") as stream:
        number = 0
        while raw := stream.readline(max_bytes + 2):
            number += 1
            line = raw.removesuffix(b"\n").removesuffix(b"\r")
            if len(line) > max_bytes:
                raise Refused(
                    "InputInvalid",
                    f"{source.where(name, number)} has more than {max_bytes:,} bytes; a line is a text. Put "
                    "line feeds between them.",
                )
            if number == 1:
                line = line.removeprefix(BYTE_ORDER_MARK)
            try:
                yield number, line.decode("utf-8")
            except UnicodeDecodeError as error:
                mark = len(BYTE_ORDER_MARK) if number == 1 and raw.startswith(BYTE_ORDER_MARK) else 0
                with (source.folder / name).open("rb") as again:
                    head = again.read(before + len(raw))
                raise not_utf8(source, name, head, before + mark + error.start) from error
            before += len(raw)


def read_text(source: Source, name: str) -> str:
    """A whole file. Raises Refused (`InputEncoding`) with line and byte."""
    content = (source.folder / name).read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Positions count from the start of the bytes the decoder was given, which lack a byte order mark.
        start = error.start + (len(BYTE_ORDER_MARK) if content.startswith(BYTE_ORDER_MARK) else 0)
        raise not_utf8(source, name, content, start) from error


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Lines that hold something, from 1, cut at line feeds alone."""
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if line.strip():
            yield number, line


def not_utf8(source: Source, name: str, content: bytes, start: int) -> Refused:
    """`content` is the file, or its beginning, and `start` where the byte lies in it."""
    line = content.count(b"\n", 0, start) + 1
    column = start - (content.rfind(b"\n", 0, start) + 1) + 1
    return Refused(
        "InputEncoding",
        f"{source.where(name, line)} is not UTF-8: its byte {column} (byte {start + 1} of the file) is "
        f"0x{content[start]:02x}.{_encoding_hint(content, name)}",
    )


def _encoding_hint(content: bytes, name: str) -> str:
    """What else it may be: UTF-16 shows by its mark, Korean Windows text by decoding without an error."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        guess = "UTF-16"
    else:
        try:
            content.decode("cp949")
        except UnicodeDecodeError:
            return " Convert the file to UTF-8."
        guess = "CP949"
    return f" It looks like {guess}: iconv -f {guess} -t UTF-8 {PurePosixPath(name).name!r} converts it."


def shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


def some_of(names: Sequence[str], most: int = 3) -> str:
    listed = ", ".join(repr(name) for name in names[:most])
    return listed + (f" and {len(names) - most} more" if len(names) > most else "")
