"""What the report shows of a model that somebody else trained: what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from model_builders.messages import Json

CAPTION = (
    "From the input test where there is one, else sentences of many languages, of which the model may "
    "know none."
)


@dataclass(frozen=True)
class Answers:
    """Texts beside what the model says to them."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def to_json(self) -> Json:
        return {
            "kind": "Answers",
            "title": self.title,
            "head": list(self.head),
            "rows": [list(row) for row in self.rows],
        }

    def render(self) -> str:
        head = "".join(f"<th>{escape(one)}</th>" for one in self.head)
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in self.rows)
        return f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div><p class="below">{CAPTION}</p>'
