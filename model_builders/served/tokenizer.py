"""Triton's Python backend, before the search: texts of a request to the numbers of its tokens.

Refuses what model.py refuses, in the same words. In the ensemble of the native flavour
(docs/architecture.md, section 4).
"""

from collections.abc import Sequence
from typing import Any

from model_builders.served.backend import respond, start
from model_builders.served.ends import load
from model_builders.served.translating import Question
from model_builders.served.translator import questions_of


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._ends = start(args, load)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        answers: list[Any] = respond(requests, self._parse, self._ends.read, self._ends.read_tensors)
        return answers

    def _parse(self, request: Any) -> list[Question]:
        return questions_of(request, self._ends.answering)
