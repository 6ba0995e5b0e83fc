"""What translators share of Triton's side: a request's tensors as questions. Copied beside model.py."""

from typing import Any

from model_builders.served.backend import integers, strings
from model_builders.served.translating import GREEDY, Answering, Question
from model_builders.served.vectors import BadQuestion


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
