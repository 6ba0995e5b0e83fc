"""The decoder's steps of one sentence, as a picture: what each of its named tensors was, word by word.

The numbers are those of network.DecoderSteps; the report shows the first of each, as a strip of cells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_builders.drawings import COLOURS, FAINT, WIDTH, figure, svg_of, written
from model_builders.messages import Json
from model_builders.served.search import END, pad
from model_builders.served.translating import Answer
from model_builders.translation.drawing import plain
from model_builders.translation.subwords import SPECIAL

WORDS = 4
"""Of the translation: so many columns are legible."""

LABELS = 150.0
"""How wide the column of the steps' names is."""
STRIP = 124.0
"""How wide a strip of cells is."""
CELLS = 24
"""Numbers of a vector that are drawn."""
CELL_HEIGHT, ROW_HEIGHT, TOP = 13.0, 40.0, 26.0

NAMES = {
    "embedded": "1 word before",
    "hidden": "2 new state h",
    "attention": "3 attention",
    "context": "3 context C",
    "concatenated": "4 C and h",
    "features": "5 feed-forward",
    "word": "6 word",
}


@dataclass(frozen=True)
class WordSteps:
    """Of one word of the translation."""

    before: str
    word: str
    probability: float
    looked: str
    """The source token with the most attention; empty without attention."""
    tensors: Mapping[str, tuple[float, ...]]
    """By their names in DecoderSteps; of a vector its first numbers, of the attention all."""


@dataclass(frozen=True)
class StepsPicture:
    title: str
    order: tuple[str, ...]
    """The rows, as they follow each other in this order of attention."""
    columns: tuple[WordSteps, ...]

    def to_json(self) -> Json:
        columns = [
            {**vars(one), "tensors": {name: list(values) for name, values in one.tensors.items()}}
            for one in self.columns
        ]
        return {"kind": "DecoderSteps", "title": self.title, "order": list(self.order), "columns": columns}

    @property
    def height(self) -> int:
        return round(TOP + len(self.order) * ROW_HEIGHT + 20)

    def render(self) -> str:
        caption = (
            "Blue is above zero, brown below; of long vectors the first numbers. In the order of Bahdanau "
            "step 3 comes before step 2."
        )
        return figure(self.svg(), caption)

    def svg(self) -> str:
        room = (WIDTH - LABELS) / WORDS
        parts = [
            written(4, TOP + row * ROW_HEIGHT + 11, NAMES[name], "start")
            for row, name in enumerate(self.order)
        ]
        for place, column in enumerate(self.columns):
            x = LABELS + place * room
            for row, name in enumerate(self.order):
                parts += self._cell(column, name, x, TOP + row * ROW_HEIGHT)
        again = TOP + len(self.order) * ROW_HEIGHT
        parts.append(written(4, again + 4, "7 again, with that word", "start"))
        return svg_of(parts, self.height, f"Steps of the decoder: {self.title}")

    def _cell(self, column: WordSteps, name: str, x: float, y: float) -> list[str]:
        if name == "word":
            return [written(x, y + 11, f"{column.word}  {column.probability:.0%}", "start", COLOURS[0])]
        said = {"embedded": column.before, "attention": column.looked}.get(name, "")
        below = [written(x, y + CELL_HEIGHT + 14, said, "start")] if said else []
        return [strip(name, column.tensors[name], x, y), *below]


def strip(name: str, values: Sequence[float], x: float, y: float) -> str:
    """A cell for each number; the strongest is full of colour, and an attention of 1."""
    width = STRIP / len(values)
    most = 1.0 if name == "attention" else max(map(abs, values)) or 1.0
    cells = "".join(
        f'<rect x="{x + place * width:.1f}" y="{y:.1f}" width="{width:.1f}" height="{CELL_HEIGHT}" '
        f'fill="{COLOURS[0] if value >= 0 else COLOURS[1]}" fill-opacity="{abs(value) / most:.2f}"/>'
        for place, value in enumerate(values)
    )
    return f'<g class="strip {escape(name)}" stroke="{FAINT}" stroke-width="0.5">{cells}</g>'


def steps_of(content: Mapping[str, Any]) -> StepsPicture:
    """What `to_json` gave."""
    columns = tuple(
        WordSteps(**{**one, "tensors": {name: tuple(values) for name, values in one["tensors"].items()}})
        for one in content["columns"]
    )
    return StepsPicture(content["title"], tuple(content["order"]), columns)


def order_of(attention: str) -> tuple[str, ...]:
    looking = ("attention", "context")
    middle: tuple[str, ...] = {
        "Luong": ("hidden", *looking),
        "Bahdanau": (*looking, "hidden"),
        "None": ("hidden",),
    }[attention]
    return ("embedded", *middle, "concatenated", "features", "word")


def trace(network: Any, source: Sequence[int], answer: Answer) -> StepsPicture:
    """The steps of the first words of a greedy translation. `network` is network.Seq2Seq, ready to answer."""
    import torch

    order = order_of(network.attention)
    columns = []
    with torch.inference_mode():
        memory = network.encode(*map(torch.from_numpy, pad([source])))
        hidden, before = memory.hidden, END
        for place, word in enumerate(answer.found.words[:WORDS]):
            steps = network.step(torch.tensor([before]), hidden, memory)
            given: dict[str, NDArray[np.float32]] = {
                name: tensor[0].numpy() for name, tensor in vars(steps).items()
            }
            looked = (
                plain(answer.source_tokens[int(given["attention"].argmax())]) if "attention" in order else ""
            )
            probability = float(torch.softmax(steps.logits[0], 0)[word])
            columns.append(
                WordSteps(
                    plain(answer.tokens[place - 1]) if place else SPECIAL[END],
                    plain(answer.tokens[place]),
                    round(probability, 4),
                    looked,
                    {name: drawn(name, given[name]) for name in order if name != "word"},
                )
            )
            hidden, before = steps.hidden, word
    return StepsPicture("The decoder, step by step", order, tuple(columns))


def drawn(name: str, values: NDArray[np.float32]) -> tuple[float, ...]:
    """The numbers that are drawn: all of the attention, both halves of C and h, else the first."""
    if name == "concatenated":
        half = len(values) // 2
        values = np.concatenate([values[: CELLS // 2], values[half : half + CELLS // 2]])
    elif name != "attention":
        values = values[:CELLS]
    return tuple(round(float(value), 4) for value in values)
