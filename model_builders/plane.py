"""Vectors in two dimensions, for the maps of reports.

By numpy's exact decompositions: a map has some tens of points. docs/decisions/0056-reports.md says why.

Dimensions: M points, D width of a vector, P pairs.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

BEND = 4.0
"""How much more it counts in the choice of a plane that a step is bent than that points are apart; tried with
the sample, where arrows of less cross and more of it changes little."""

NOTHING = 1e-9
"""A direction in which points differ by less of what they differ by in the first: what rounding left."""


def principal_components(vectors: Floats) -> NDArray[np.float64]:
    """The first two coordinates. Shapes: (M, D) -> (M, 2)."""
    return placed(_centred(vectors), principal_axes(vectors))


def principal_axes(vectors: Floats) -> NDArray[np.float64]:
    """The two directions in which points differ most; zeros where there is none. Shapes: (M, D) -> (2, D)."""
    _, lengths, axes = np.linalg.svd(_centred(vectors), full_matrices=False)
    return _two(np.where(lengths > NOTHING * lengths.max(), 1.0, 0.0)[:2, np.newaxis] * axes[:2])


def axes_of_pairs(vectors: Floats, steps: Floats) -> NDArray[np.float64]:
    """The plane in which pairs are seen best: along the first axis what the steps from one of a pair to the
    other have in common, along the second what the points differ in most and the steps least.

    Shapes: vectors (M, D), steps (P, D), at least one; result (2, D).
    """
    given = steps.astype(np.float64)
    first = np.linalg.svd(given, full_matrices=False)[2][:1]  # (1, D)
    points, others = (rows - rows @ first.T @ first for rows in (_centred(vectors), given))
    spread = points.T @ points / len(points) - BEND * others.T @ others / len(others)  # (D, D)
    _, directions = np.linalg.eigh(spread)
    second = directions[:, -1:].T
    return _two(np.concatenate([first, second - second @ first.T @ first]))


def placed(vectors: Floats, axes: Floats) -> NDArray[np.float64]:
    """Coordinates. Shapes: (M, D), (2, D) -> (M, 2)."""
    return settled(vectors.astype(np.float64) @ axes.T)


def settled(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Three decimals, which are the same on every processor; an axis has the sign with which the largest of
    its coordinates is positive. Shapes: (M, 2) -> (M, 2)."""
    signs = np.sign(places[np.abs(places).argmax(axis=0), range(places.shape[1])])
    result: NDArray[np.float64] = np.round(places * np.where(signs == 0, 1, signs), 3) + 0.0
    return result


def _centred(vectors: Floats) -> NDArray[np.float64]:
    given = vectors.astype(np.float64)
    result: NDArray[np.float64] = given - given.mean(axis=0)
    return result


def _two(axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors of one number have one direction."""
    result: NDArray[np.float64] = np.pad(axes, ((0, 2 - len(axes)), (0, 0)))
    return result
