"""The pictures of each chapter: SVGs from what its models answered, or from the numbers of their reports."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from model_builders.drawings import WIDTH, Curve, WordMap, drawing_of
from model_builders.seq2seq_attention.steps import steps_of
from model_builders.transformer.drawing import heads_of
from model_builders.translation.drawing import LengthCurve
from tools.guide.running import Reader

FONT = "'Noto Sans KR', 'Noto Sans CJK KR', sans-serif"
ROW, PAD = 32, 12


def standalone(svg: str, width: int, height: int) -> str:
    """A drawing of a report as a file that Markdown can show."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'font-family="{FONT}" viewBox'
    )
    white = f'<rect width="{width}" height="{height}" fill="white"/>'
    opened, closing, rest = svg.removeprefix("<svg viewBox").partition(">")
    return f"{head}{opened}{closing}\n{white}\n{rest}\n"


def width_of(text: str) -> int:
    """Of 14 pixels, at most."""
    return sum(15 if ord(character) > 0x2E80 else 9 for character in text)


def grid(rows: Sequence[str], columns: Sequence[str], numbers: Sequence[Sequence[float]], what: str) -> str:
    """A matrix as a table of boxes, the darker the larger the number."""
    left = max(map(width_of, rows)) + 2 * PAD
    widths = [max(width_of(column), 24) + PAD for column in columns]
    most = max(max(row) for row in numbers) or 1
    parts = []
    x = left
    for column, width in zip(columns, widths, strict=True):
        parts.append(_label(x + width / 2, 22, column, "middle"))
        x += width
    for place, (name, row) in enumerate(zip(rows, numbers, strict=True)):
        y = ROW + place * ROW
        parts.append(_label(left - PAD, y + 21, name, "end"))
        x = left
        for number, width in zip(row, widths, strict=True):
            shade = f'rgb(31,95,168)" fill-opacity="{number / most * 0.6:.2f}'
            parts.append(
                f'<rect x="{x}" y="{y}" width="{width}" height="{ROW}" fill="{shade}" stroke="#ccc"/>'
            )
            parts.append(_label(x + width / 2, y + 21, f"{number:g}", "middle"))
            x += width
    wide, high = x + PAD, ROW * (len(rows) + 1) + PAD
    opened = f'<svg viewBox="0 0 {wide} {high}" role="img" aria-label="{escape(what)}">'
    return standalone(opened + "\n".join(parts) + "</svg>", wide, high)


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="14">{escape(text)}</text>'


def one_hot(reader: Reader) -> str:
    """A vector for each word of a text."""
    text = "첫 기차 시간"
    output = reader.value("infer", "--local", "word-places", text, "--input", "encoding=OneHot")["outputs"]
    terms = _read(reader.artifact("word-places") / "1/vocabulary.json")
    data, (_, tokens, length) = output["one_hot"]["data"], output["one_hot"]["shape"]
    rows = [data[token * length : (token + 1) * length] for token in range(tokens)]
    return grid(text.split(), terms, rows, "A one-hot vector for each word of a text.")


def term_document_matrix(reader: Reader) -> str:
    """A row for each word, a column for each document."""
    folder = reader.artifact("korean-novels") / "1"
    terms, documents = _read(folder / "vocabulary.json"), _read(folder / "documents.json")
    rows = [
        reader.value("infer", "--local", "korean-novels", term)["outputs"]["word_vector"]["data"]
        for term in terms
    ]
    return grid(terms, documents, rows, "How often each word occurs in each document.")


def word2vec(reader: Reader) -> str:
    """The map of its report: the analogy as arrows."""
    drawing = _drawing(reader, "korean-words", "The words in two dimensions")
    return standalone(drawing.svg(), drawing.width, drawing.height)


def transfer(reader: Reader) -> str:
    """How fast the sample learns with each kind of vectors, from its report."""
    drawing = _drawing(reader, "korean-people", "Random, frozen and fine-tuned")
    return standalone(drawing.svg(), drawing.width, drawing.height)


def lengths(reader: Reader) -> str:
    """How many lines are right by how long they are: a fixed vector, and attention. Of both reports."""
    names = {"attention": "reversed-words", "a fixed vector": "fixed-vector"}
    series = {name: exact_by_length(reader.artifact(model)) for name, model in names.items()}
    drawing = LengthCurve("Length", series)
    return standalone(drawing.svg(), drawing.width, drawing.height)


def exact_by_length(artifact: Path) -> Mapping[int, float]:
    """Of a translator: the share of the test texts that are right, by the number of their tokens."""
    drawn = next(one for one in drawings_in(artifact) if one["kind"] == "LengthCurve")
    return {int(length): share for length, share in drawn["series"]["exact"].items()}


def decoder_steps(reader: Reader) -> str:
    """What the named tensors of the first words were, from the report."""
    kind = "DecoderSteps"
    drawing = steps_of(next(one for one in _drawn(reader, "reversed-words") if one["kind"] == kind))
    return standalone(drawing.svg(), WIDTH, drawing.height)


def heads(reader: Reader) -> str:
    """What the heads of the second layer looked at, from its report."""
    drawing = heads_of(next(one for one in _drawn(reader, "english-korean") if "Layer 2," in one["title"]))
    return standalone(drawing.svg(), drawing.width, drawing.height)


def _drawing(reader: Reader, model: str, title: str) -> Curve | WordMap:
    """From the numbers that the artifact keeps of it."""
    return drawing_of(next(one for one in _drawn(reader, model) if one["title"] == title))


def _drawn(reader: Reader, model: str) -> list[Mapping[str, Any]]:
    return drawings_in(reader.artifact(model))


def drawings_in(artifact: Path) -> list[Mapping[str, Any]]:
    """What its report draws, as numbers."""
    numbers = json.loads((artifact / "metrics.json").read_text(encoding="utf-8"))
    drawings: list[Mapping[str, Any]] = numbers["drawings"]
    return drawings


def _read(path: Path) -> list[str]:
    found: list[str] = json.loads(path.read_text(encoding="utf-8"))
    return found


PICTURES: Mapping[str, Sequence[Callable[[Reader], str]]] = {
    "1-one-hot": (one_hot,),
    "2-term-document-matrix": (term_document_matrix,),
    "3-word2vec": (word2vec,),
    "4-transfer": (transfer,),
    "5-attention": (lengths, decoder_steps),
    "6-transformer": (heads,),
}
"""In the order in which they stand on the page."""
