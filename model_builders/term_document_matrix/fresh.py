"""Answers questions from a written version folder, in a process of its own: `python -m ... FOLDER QUESTIONS
ANSWERS`.

Loads answering.py from the folder, not the one of this package: what is checked is what will be served.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np


def main(folder: Path, questions: Path, answers: Path) -> None:
    """Write the number tensors of every batch as `<index of the batch>/<tensor>` into an .npz."""
    spec = importlib.util.spec_from_file_location("answering", folder / "answering.py")
    assert spec is not None
    assert spec.loader is not None
    answering = importlib.util.module_from_spec(spec)
    sys.modules["answering"] = answering
    spec.loader.exec_module(answering)
    loaded = answering.load(folder)
    found = {}
    for index, asked in enumerate(json.loads(questions.read_text(encoding="utf-8"))):
        batch = [answering.Question(**question) for question in asked]
        for name, tensor in answering.tensors(batch, loaded.answer(batch)).items():
            if tensor.dtype != np.object_:
                found[f"{index}/{name}"] = tensor
    np.savez(answers, **found)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
