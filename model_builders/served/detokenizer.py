"""Triton's Python backend, behind the search: numbers of words to the texts of a translation.

Triton may have put several requests together for the search, so what comes is filled up to the longest of
them all; what goes is filled up to the longest of its own request, as model.py has it.
"""

from collections.abc import Sequence
from typing import Any

import triton_python_backend_utils as pb_utils

from model_builders.served.backend import respond, start
from model_builders.served.ends import Searched, load, searched_rows
from model_builders.served.translating import tensors

INPUTS = ("ids", "words", "source_lengths", "weights")


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._ends = start(args, load)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        answers: list[Any] = respond(requests, _parse, self._ends.write, tensors)
        return answers


def _parse(request: Any) -> list[Searched]:
    given = {name: pb_utils.get_input_tensor_by_name(request, name) for name in INPUTS}
    return searched_rows({name: one.as_numpy() for name, one in given.items() if one is not None})
