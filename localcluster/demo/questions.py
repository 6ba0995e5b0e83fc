"""What the demo asks, and what must come back: the example of the study note behind this project.

Three words counted in four stories. 운수 좋은 날 has 기차 twice and the other two words once, so its
vector is [2, 1, 1]; 막걸리 and 선술집 stand in that story alone, so nothing is nearer to the one than the
other. And the arithmetic of words: 아들 - 딸 + 소녀 = 소년.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MODEL = "korean-novels"
WORDS = "korean-words"
"""Word vectors, which a Job trains with torch."""
ANALOGY = "아들 - 딸 + 소녀"
ANALOGY_WORDS = ("아들", "--input", "negative=딸", "--input", "positive=소녀")
"""What follows `nlpctl infer korean-words`."""
ANALOGY_ANSWER = "소년"


@dataclass(frozen=True)
class Question:
    name: str
    """How the answer is called in the report."""
    words: tuple[str, ...]
    """What follows `nlpctl infer MODEL`."""
    output: str
    """The tensor of the answer that is looked at."""
    expected: tuple[float, ...] | None = None
    """Its elements; None where only the comparisons below say what is right."""


QUESTIONS = (
    Question("document vector of 운수 좋은 날", ("운수 좋은 날",), "document_vector", (2, 1, 1)),
    Question("word vector of 막걸리", ("막걸리",), "word_vector", (0, 1, 0, 0)),
    Question("similarity of 막걸리 and 선술집", ("막걸리", "--pair", "선술집"), "similarity", (1,)),
    Question("similarity of 막걸리 and 기차", ("막걸리", "--pair", "기차"), "similarity"),
    Question(
        "similarity of 사랑 손님과 어머니 and 삼포 가는 길",
        ("사랑 손님과 어머니", "--pair", "삼포 가는 길"),
        "similarity",
    ),
    Question(
        "similarity of 운수 좋은 날 and 삼포 가는 길",
        ("운수 좋은 날", "--pair", "삼포 가는 길"),
        "similarity",
    ),
)

NEARER = (
    ("similarity of 막걸리 and 선술집", "similarity of 막걸리 and 기차"),
    ("similarity of 사랑 손님과 어머니 and 삼포 가는 길", "similarity of 운수 좋은 날 and 삼포 가는 길"),
)
"""The first of each pair must be greater than the second."""

TOLERANCE = 1e-5
"""Similarities are computed in single precision."""


def value_in(answer: Mapping[str, Any], question: Question) -> list[float]:
    """The numbers of `nlpctl infer --json` that the question is about; empty when the output is missing."""
    data = answer.get("outputs", {}).get(question.output, {}).get("data", [])
    return [float(item) for item in data]


def nearest_in(answer: Mapping[str, Any]) -> str:
    """The word that comes first; empty when there is none."""
    data = answer.get("outputs", {}).get("nearest_words", {}).get("data", [])
    return str(data[0]) if data else ""


def faults(answers: Mapping[str, Sequence[float]], questions: Sequence[Question] = QUESTIONS) -> list[str]:
    """Every way in which the answers are wrong, as sentences; empty: all are right."""
    found = []
    for question in questions:
        got = answers.get(question.name)
        if not got:
            found.append(f"There is no answer to {question.name!r}.")
        elif question.expected is not None and not same(got, question.expected):
            found.append(f"The {question.name} is {list(got)}; it must be {list(question.expected)}.")
    for greater, smaller in NEARER:
        first, second = answers.get(greater), answers.get(smaller)
        if first and second and not first[0] > second[0] + TOLERANCE:
            found.append(f"The {greater} is {first[0]}; it must be greater than the {smaller}, {second[0]}.")
    return found


def same(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= TOLERANCE for a, b in zip(one, other, strict=True))
