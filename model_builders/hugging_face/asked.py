"""The texts that a model from a folder is asked: to compare its export, to record examples, to be shown.

The builder knows no language of the model's: where there is an input `test` its texts come first.
"""

from collections.abc import Callable, Sequence

from model_builders.errors import Refused
from model_builders.hugging_face.served.tokens import Question
from model_builders.sentence_encoder.samples import SENTENCES
from model_builders.served.vectors import BadQuestion

SHOWN = 12
"""Texts in the report."""


def texts_to_ask(test: Sequence[str], most: int) -> list[str]:
    """The same texts for the same input: its own, from the first to the last, then our sentences."""
    step = max(1, -(-len(test) // most))
    return list(dict.fromkeys([*test[::step], *SENTENCES[::-1]]))[:most]


def texts_to_show(asked: Sequence[str], *, own: bool) -> list[str]:
    """Of those asked, none of them blank: the first where they are the input's own, else of all languages."""
    seen = [text for text in asked if text.strip()]
    return seen[:SHOWN] if own else seen[:: max(1, -(-len(seen) // SHOWN))]


def check_all(test: Sequence[tuple[str, str]], check: Callable[[Question], None]) -> None:
    """Raises Refused for a text of the input `test` (with where it stands) that the model would refuse."""
    for text, where in test:
        try:
            check(Question(text))
        except BadQuestion as error:
            raise Refused("InputInvalid", f"{where}: {error}") from error


def answerable(questions: Sequence[Question], check: Callable[[Question], None]) -> list[Question]:
    found = []
    for question in questions:
        try:
            check(question)
        except BadQuestion:
            continue
        found.append(question)
    return found
