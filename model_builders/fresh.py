"""Asks a written version folder in a process of its own, and compares its answers with the built model's.

`python -m model_builders.fresh FOLDER answering`, batches of questions as JSON on stdin, answers as .npz on
stdout. Loads answering.py from the folder, not the one of this package: what is checked is what will be
served.
Nothing loaded or patched in the builder's own process can make the export look right.
"""

import importlib
import io
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from model_builders.contract import EXAMPLE_TOLERANCE
from model_builders.errors import Refused, TryAgain

logger = logging.getLogger(__name__)

CHECK_SECONDS = 600

ANSWERING = "answering"
"""The file of a version folder that answers."""

Tensors = Mapping[str, NDArray[Any]]
Q = TypeVar("Q")
"""A question, as answering.py has it."""


def ask_fresh(folder: Path, batches: Sequence[Sequence[object]], module: str = ANSWERING) -> list[Tensors]:
    """The tensors of every batch of questions (dataclasses as answering.py has them), but for texts.

    `module` of the folder is asked, which has what answering.py has.

    Raises Refused (`ExportDiffers`) when the folder cannot be loaded. Questions and answers go through pipes:
    the store may be full and there may be no /tmp.
    """
    command = [sys.executable, "-B", "-m", "model_builders.fresh", str(folder), module]
    questions = json.dumps([[vars(question) for question in batch] for batch in batches]).encode("ascii")
    try:
        done = subprocess.run(
            command, input=questions, capture_output=True, timeout=CHECK_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TryAgain(
            "BuildFailed", f"The exported model did not answer within {CHECK_SECONDS} seconds."
        ) from error
    if done.returncode == -signal.SIGKILL:
        raise MemoryError("The kernel took the checking process.")  # The container's memory is one.
    if done.returncode:
        text = done.stderr.decode("utf-8", "replace").strip()
        logger.error("%s", text)
        last = (text.splitlines() or ["no message"])[-1]
        if last.partition(":")[0].endswith("MemoryError"):
            raise MemoryError(last)
        raise Refused(
            "ExportDiffers", f"The exported model cannot be loaded in a fresh process: {last[:300]}"
        )
    found: list[dict[str, NDArray[Any]]] = [{} for _ in batches]
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as answers:
        for key in answers.files:
            index, _, name = key.partition("/")
            found[int(index)][name] = answers[key]
    return list(found)


def compare_fresh(
    folder: Path, batches: Sequence[list[Q]], names: Sequence[str], eager: Callable[[list[Q]], Tensors]
) -> float:
    """The largest difference of the folder's answers from those of `eager`, over all batches (`compare`)."""
    found = ask_fresh(folder, batches)
    return max(compare(names, eager(batch), one) for batch, one in zip(batches, found, strict=True))


def compare(names: Sequence[str], eager: Tensors, found: Tensors) -> float:
    """The largest difference, in units where 1e-5 is the limit for small and for large numbers alike.

    Raises Refused (`ExportDiffers`) when a tensor is missing, has another shape, or differs by more.
    """
    largest = 0.0
    for name in names:
        if name not in eager:
            continue
        if name not in found or found[name].shape != eager[name].shape:
            shape = found[name].shape if name in found else "nothing"
            raise Refused(
                "ExportDiffers",
                f"The exported model gives {shape} as {name}; the built one gives {eager[name].shape}.",
            )
        a, b = eager[name].astype(np.float64), found[name].astype(np.float64)
        difference = float(np.max(np.abs(a - b) / (1.0 + np.abs(a)), initial=0.0))
        if not difference <= EXAMPLE_TOLERANCE:
            raise Refused(
                "ExportDiffers",
                f"The exported model's {name} differs from the built one's by {difference:.1e}; "
                f"at most {EXAMPLE_TOLERANCE:.0e} is "
                "allowed. This is a defect of the builder; please report it with the result in the store.",
            )
        largest = max(largest, difference)
    return largest


def main(folder: Path, module: str) -> None:
    """Give the number tensors of every batch as `<index of the batch>/<tensor>`."""
    sys.path.insert(0, str(folder))  # as Triton has it: the files of the folder import each other
    answering = importlib.import_module(module)
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
    main(Path(sys.argv[1]), sys.argv[2])
