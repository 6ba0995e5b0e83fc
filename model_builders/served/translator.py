"""What translators share of Triton's side: a request's tensors as questions. Copied beside model.py."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from model_builders.served.backend import integers, respond, start, strings
from model_builders.served.translating import GREEDY, Answering, Question, tensors
from model_builders.served.vectors import BadQuestion


class TranslatorModel:
    """What Triton calls; an architecture says how its version folder is loaded."""

    load: ClassVar[Callable[..., Answering]]

    def initialize(self, args: dict[str, str]) -> None:
        self._answering = start(args, self.load)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        answers: list[Any] = respond(requests, self._parse, self._answering.answer, tensors)
        return answers

    def _parse(self, request: Any) -> list[Question]:
        return questions_of(request, self._answering)


def questions_of(request: Any, answering: Answering) -> list[Question]:
    """Raises BadQuestion: the request then gets an error of its own."""
    texts = strings(request, "text")
    if texts is None:
        raise BadQuestion("text is missing; it must be given.")
    sizes = integers(request, "beam_size") or [GREEDY] * len(texts)
    questions = [Question(text, size) for text, size in zip(texts, sizes, strict=True)]
    for question in questions:
        answering.check(question)
    return questions
