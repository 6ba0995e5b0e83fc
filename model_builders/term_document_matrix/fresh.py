"""Answers questions from a written version folder, in a process of its own.

`python -m model_builders.term_document_matrix.fresh FOLDER`, questions as JSON on stdin, answers as .npz on
stdout. Loads answering.py from the folder, not the one of this package: what is checked is what will be
served.
"""

import importlib.util
import io
import json
import sys
from pathlib import Path

import numpy as np


def main(folder: Path) -> None:
    """Give the number tensors of every batch as `<index of the batch>/<tensor>`."""
    spec = importlib.util.spec_from_file_location("answering", folder / "answering.py")
    assert spec is not None
    assert spec.loader is not None
    answering = importlib.util.module_from_spec(spec)
    sys.modules["answering"] = answering
    spec.loader.exec_module(answering)
    loaded = answering.load(folder)
    found = {}
    for index, asked in enumerate(json.load(sys.stdin.buffer)):
        batch = [answering.Question(**question) for question in asked]
        for name, tensor in answering.tensors(batch, loaded.answer(batch)).items():
            if tensor.dtype != np.object_:
                found[f"{index}/{name}"] = tensor
    answers = io.BytesIO()
    np.savez(answers, **found)
    sys.stdout.buffer.write(answers.getvalue())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
