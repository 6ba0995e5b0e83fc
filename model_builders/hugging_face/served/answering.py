"""From texts to what the model's task gives: this file is copied into every artifact.

It needs the standard library, numpy, onnxruntime and tokenizers. labelling.py and writing.py beside it are
the tasks.
"""

import json
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from model_builders.hugging_face.served.generating import Rules
from model_builders.hugging_face.served.labelling import Labelling, OnnxNetwork
from model_builders.hugging_face.served.tokens import Limit, Question, Tokenizer
from model_builders.hugging_face.served.writing import Marian, OneFile, Subwords, Writing
from model_builders.served.translating import OnnxDecoder
from model_builders.served.vectors import CPU

__all__ = ["Answering", "Question", "load", "tensors"]


class Answering(Protocol):
    def check(self, question: Question) -> None:
        """Raises BadQuestion. A question that passes is answered."""

    def answer(self, questions: list[Question]) -> Any:
        """An answer for each, of the task's kind."""


def tensors(
    questions: list[Question], answers: list[Any], names: set[str] | None = None
) -> dict[str, NDArray[Any]]:
    """The answers of one request as its output tensors, one row a question; `names` limits them to those
    asked for."""
    given: dict[str, NDArray[Any]] = answers[0].together(answers)
    return {name: tensor for name, tensor in given.items() if names is None or name in names}


def load(folder: Path, threads: int = 1, providers: tuple[Any, ...] = CPU) -> Answering:
    """Answering from the version folder of an artifact."""
    settings = read_settings(folder)
    if settings["task"] == "Translation":
        return writing_of(folder, settings, OnnxDecoder(folder, threads, providers))
    return labelling_of(folder, settings, OnnxNetwork(folder / "model.onnx", threads, providers))


def read_settings(folder: Path) -> dict[str, Any]:
    # Triton's Python interpreter runs in the C locale, where open() means ASCII.
    settings: dict[str, Any] = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    return settings


def labelling_of(folder: Path, settings: dict[str, Any], network: Any) -> Labelling:
    content = (folder / "tokenizer.json").read_text(encoding="utf-8")
    return Labelling(
        Tokenizer(content, Limit(**settings["limit"])),
        network,
        settings["labels"],
        settings["padTokenId"],
        of_tokens=settings["task"] == "TokenClassification",
    )


def writing_of(folder: Path, settings: dict[str, Any], decoder: Any) -> Writing:
    rules = dict(settings["rules"])
    rules |= {name: tuple(rules[name]) for name in ("ends", "never")}
    return Writing(
        _subwords(folder, settings), decoder, Rules(**rules), Limit(**settings["limit"]), settings["prefix"]
    )


def _subwords(folder: Path, settings: dict[str, Any]) -> Subwords:
    content = (folder / "tokenizer.json").read_text(encoding="utf-8")
    if not (folder / "vocabulary.json").exists():
        return OneFile(content, cleans_up=settings["cleansUp"])
    return Marian(content, **json.loads((folder / "vocabulary.json").read_text(encoding="utf-8")))
