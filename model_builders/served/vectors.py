"""What served models share about vectors: near and far, the order of neighbours, and ONNX Runtime.

Copied into every artifact whose code imports it (`model_builders/served/__init__.py`); needs the standard
library, numpy and, to open a model, onnxruntime.
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

CPU: tuple[Any, ...] = ("CPUExecutionProvider",)

SIMILARITY_DECIMALS = 6
"""Similarities are rounded before they are ranked: 32-bit products differ in the last bit from one batch size
or processor to another, and two equally near neighbours must not change places for that."""


class BadQuestion(ValueError):
    """The question cannot be answered; the text says why and what is allowed."""


@dataclass(frozen=True)
class Neighbour:
    name: str
    similarity: float


def unit(vectors: Floats) -> Floats:
    """Each row at length 1; a row of zeros stays one."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: Floats = vectors / np.where(norms == 0, 1, norms)
    return result


def cosine_of(vector: Floats, other: Floats) -> float:
    """0 when one of the vectors is zero."""
    a, b = np.asarray(vector, dtype=np.float64), np.asarray(other, dtype=np.float64)
    norms = float(np.sqrt(a @ a) * np.sqrt(b @ b))
    return round(float(np.clip(a @ b / norms, -1.0, 1.0)), SIMILARITY_DECIMALS) + 0.0 if norms else 0.0


def nearest(
    names: Sequence[str], similarities: Floats, top_k: int, without: Collection[int] = ()
) -> tuple[Neighbour, ...]:
    """The most similar first, equally similar ones in the order of the model.

    `similarities` has one number for each name; the indices in `without` (the question itself) are left out.
    """
    wanted = min(top_k + len(without), len(names))
    if wanted <= 0:
        return ()
    given = np.asarray(similarities)
    # A unit of the last decimal below the last that is wanted: no tie is cut off before rounding.
    lowest = np.partition(given, -wanted)[-wanted] - 10.0**-SIMILARITY_DECIMALS
    near = np.flatnonzero(given >= lowest)
    rounded = np.round(given[near].astype(np.float64), SIMILARITY_DECIMALS) + 0.0
    order = [int(place) for place in np.argsort(-rounded, kind="stable") if int(near[place]) not in without]
    return tuple(Neighbour(names[near[place]], float(rounded[place])) for place in order[:top_k])


def columns(lists: Sequence[Sequence[Neighbour]]) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Neighbours of N questions as two tensors (N, K), names and similarities.

    Rows with fewer than the longest are filled up with empty names and similarity 0.
    """
    shape = (len(lists), max((len(neighbours) for neighbours in lists), default=0))
    names = np.full(shape, b"", dtype=np.object_)
    similarities = np.zeros(shape, dtype=np.float32)
    for row, neighbours in enumerate(lists):
        for column, neighbour in enumerate(neighbours):
            names[row, column] = neighbour.name.encode("utf-8")
            similarities[row, column] = neighbour.similarity
    return names, similarities


def open_model(path: Path, threads: int = 1, providers: tuple[Any, ...] = CPU) -> Any:
    """An InferenceSession of onnxruntime; the first of the `providers` that it has is used."""
    # From 1.29 on it reports model names and hashes to its maker unless told not to before its import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
