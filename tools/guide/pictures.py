"""The picture of each chapter: an SVG from what its models answered, or from their reports."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

import yaml

from model_builders.report import HEIGHT, MARGIN, WIDTH, Curve
from tools.guide.chapter import ROOT, model_of
from tools.guide.running import Reader

FONT = "'Noto Sans KR', 'Noto Sans CJK KR', sans-serif"
ROW, PAD = 32, 12

_SVG = re.compile(r"<svg viewBox.*?</svg>", re.DOTALL)
_POINT = re.compile(r'<circle cx="[\d.]+" cy="([\d.]+)"')
_AXIS = re.compile(r'text-anchor="end" fill="#1b1b1b" font-size="13">(-?[\d.]+)</text>')


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
    report = (reader.artifact("korean-words") / "report.html").read_text(encoding="utf-8")
    (drawing,) = [found for found in _SVG.findall(report) if 'class="arrow"' in found]
    return standalone(drawing, WIDTH, HEIGHT)


def transfer(reader: Reader) -> str:
    """How fast the sample learns with each kind of vectors, from the reports of the three builds."""
    series = {}
    for embeddings in ("Random", "Frozen", "FineTuned"):
        report = _report_with(reader, embeddings)
        (drawing,) = re.findall(r"<h2>Test texts right</h2>.*?(<svg.*?</svg>)", report, re.DOTALL)
        series[embeddings] = _numbers_of(drawing)
    drawn = str(_SVG.findall(Curve("Test texts right", series).render())[0])
    for place in range(len(series)):  # their names from the top, where the best curve lies, to where none is
        drawn = drawn.replace(f'y="{24 + 20 * place:.1f}"', f'y="{180 + 20 * place:.1f}"')
    return standalone(drawn, WIDTH, HEIGHT)


def _report_with(reader: Reader, embeddings: str) -> str:
    """Build the sample with other vectors, and read its report."""
    people = ROOT / "manifests/samples/korean-people.yaml"
    config_map = people.read_text(encoding="utf-8").partition("---\n")[0]
    model = yaml.safe_load(model_of(people))
    build = model["spec"]["build"]
    build["textClassifier"]["embeddings"] = embeddings
    del build["quality"]
    if embeddings == "Random":
        build["inputs"] = [one for one in build["inputs"] if one["name"] != "vectors"]
    file = reader.home / "people.yaml"
    file.write_text(f"{config_map}---\n{yaml.safe_dump(model, allow_unicode=True)}", encoding="utf-8")
    words = ROOT / "manifests/samples/korean-words.yaml"
    built = reader.value("build", "-f", str(words), "-f", str(file))["models"]
    digest = str(next(one["digest"] for one in built if one["name"] == "korean-people"))
    return (reader.store / "artifacts" / digest / "report.html").read_text(encoding="utf-8")


def _numbers_of(drawing: str) -> list[float]:
    """What a curve was drawn from: its axis and its points say it."""
    low, high = (float(found) for found in _AXIS.findall(drawing)[:2])
    high_at, low_at = MARGIN, HEIGHT - MARGIN
    heights = [float(found) for found in _POINT.findall(drawing)]
    return [round(low + (low_at - y) / (low_at - high_at) * (high - low), 3) for y in heights]


def _read(path: Path) -> list[str]:
    found: list[str] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


PICTURES: Mapping[str, Callable[[Reader], str]] = {
    "1-one-hot": one_hot,
    "2-term-document-matrix": term_document_matrix,
    "3-word2vec": word2vec,
    "4-transfer": transfer,
}
