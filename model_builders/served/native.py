"""The native flavour as one piece, without Triton: tokenizer, search.onnx, detokenizer.

What Triton's ensemble ties together is tied together here in Python, to compare it with the other flavour
wherever there is onnxruntime.
"""

from pathlib import Path
from typing import Any

from model_builders.served.ends import Ends, Tensors, searched_rows
from model_builders.served.ends import load as load_ends
from model_builders.served.translating import Question
from model_builders.served.translating import tensors as tensors_of
from model_builders.served.vectors import open_model

__all__ = ["Native", "Question", "load", "tensors"]

SEARCH = "search.onnx"

PASSED_BY = ("score", "finished")
"""What of the search is part of the answer as it is."""

RENAMED = {"token_ids": "ids", "attention": "weights"}
"""What the search gives, as the detokenizer takes it: filled up to the longest of all requests."""


class Native:
    def __init__(self, ends: Ends, search: Any) -> None:
        self._ends, self._search = ends, search
        self._given: list[str] = [one.name for one in search.get_outputs()]

    def answer(self, questions: list[Question]) -> Tensors:
        read = self._ends.read_tensors(questions, self._ends.read(questions))
        asked = {
            "tokens": read["source_ids"],
            "lengths": read["source_lengths"],
            "beam_size": read["beam_sizes"],
        }
        found = dict(zip(self._given, self._search.run(self._given, asked), strict=True))
        renamed = {RENAMED.get(name, name): tensor for name, tensor in found.items()}
        rows = searched_rows({**renamed, "source_lengths": read["source_lengths"]})
        names = {"translation", "tokens", "token_ids"} | ({"attention"} & found.keys())
        written = tensors_of(questions, self._ends.write(rows), names)
        passed = {name: found[name] for name in PASSED_BY}
        return {**written, **passed, "source_tokens": read["source_tokens"]}


def tensors(questions: list[Question], answers: Tensors) -> Tensors:
    """As answering.py has it: here the answers are the tensors."""
    del questions
    return answers


def load(folder: Path) -> Native:
    return Native(load_ends(folder), open_model(folder / SEARCH))
