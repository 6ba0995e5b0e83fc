"""The comparison at the end of a build, of an artifact and of what it would be with a defect. Run in the
builders' environment; prints as JSON what was said of each.

python -m tests.model_builders.translation.checking VERSION_FOLDER
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from model_builders.errors import Refused
from model_builders.served.translating import Answering, Question
from model_builders.transformer.contract import CONTRACT
from model_builders.transformer.served.answering import load
from model_builders.translation.exporting import check
from model_builders.translation.measuring import Measured

ASKED = ("I bought the book.", "She remembered the bread yesterday.", "You saw the sea.")

OTHERWISE = """
_tensors = tensors


def tensors(questions, answers):
    found = dict(_tensors(questions, answers))
    found["{name}"] = found["{name}"] + {more}
    return found
"""
"""Both flavours have this function."""

DEFECTS = (
    ("native", "token_ids", 1),
    ("native", "score", 0.001),
    ("native", "attention", 0.001),
    ("answering", "token_ids", 1),
)
"""In a flavour a tensor is larger by so much."""


def said_of(folder: Path, eager: Answering) -> str:
    asked = tuple(map(Question, ASKED))
    answers = tuple(eager.answer(list(asked)))
    try:
        check(folder, eager, Measured(asked, answers, (True,) * len(asked)), CONTRACT, native_size=2)
    except Refused as refused:
        return f"{refused.reason}: {refused.message}"
    return "holds"


def main(version_folder: str) -> None:
    eager = load(Path(version_folder))
    found = {"as it was built": said_of(Path(version_folder), eager)}
    for flavour, name, more in DEFECTS:
        with tempfile.TemporaryDirectory() as folder:
            damaged = Path(folder, "1")
            shutil.copytree(version_folder, damaged)
            with (damaged / f"{flavour}.py").open("a", encoding="utf-8") as code:
                code.write(OTHERWISE.format(name=name, more=more))
            found[f"{flavour}: {name}"] = said_of(damaged, eager)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
