"""Which words are drawn in the report, and where: the first two principal components of their unit vectors.

By numpy's exact decomposition, for there are some sixty words; torch's approximate one is random.

Dimensions: M drawn words, D width of a vector.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model_builders.drawings import WordMap
from model_builders.served.vectors import nearest, unit
from model_builders.word2vec.analogies import Analogy

ANALOGIES = 12
"""Drawn as arrows, as far as their words have vectors."""
NEIGHBOURS = 2
"""Of each word of an analogy."""
FREQUENT = 40
"""Words that are drawn where there is no analogy."""


def draw(analogies: Sequence[Analogy], terms: Sequence[str], vectors: NDArray[np.float32]) -> WordMap:
    """Arrows lead from a to b and from c to d: where they are alike, the analogy holds."""
    index = {term: place for place, term in enumerate(terms)}
    chosen = [one for one in analogies if all(word in index for word in one.words)][:ANALOGIES]
    units = unit(vectors)
    arrows = _arrows(chosen, index, units)
    words = dict.fromkeys(word for arrow in arrows for word in arrow)
    for word in list(words):
        near = nearest(terms, units @ units[index[word]], NEIGHBOURS, {index[word]})
        words |= dict.fromkeys(one.name for one in near)
    if not words:
        words = dict.fromkeys(terms[:FREQUENT])
    drawn = list(words)
    places = principal_components(units[[index[word] for word in drawn]])
    return WordMap(
        "The words in two dimensions",
        {word: (float(x), float(y)) for word, (x, y) in zip(drawn, places, strict=True)},
        arrows,
        "The first two principal components of unit vectors."
        + (" Arrows join the pairs of an analogy; blue words are their neighbours." if arrows else ""),
    )


def _arrows(
    analogies: Sequence[Analogy], index: Mapping[str, int], units: NDArray[np.floating]
) -> list[tuple[str, str]]:
    """One for each pair, all of them the same way: b is to a as d is to c, too."""
    found: dict[frozenset[str], tuple[str, str]] = {}
    way = np.zeros(units.shape[1])
    for one in analogies:
        a, b, c, d = one.words
        step = sum(units[index[end]] - units[index[start]] for start, end in ((a, b), (c, d)))
        back = float(np.dot(step, way)) < 0
        way = way - step if back else way + step
        for start, end in ((a, b), (c, d)):
            found.setdefault(frozenset((start, end)), (end, start) if back else (start, end))
    return list(found.values())


def principal_components(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """The first two coordinates. Shapes: (M, D) -> (M, 2).

    A component's sign is chosen so that its largest coordinate is positive; three decimals are the same on
    every processor.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    places = left[:, :2] * lengths[:2]
    signs = np.sign(places[np.abs(places).argmax(axis=0), range(places.shape[1])])
    result: NDArray[np.float64] = np.round(places * np.where(signs == 0, 1, signs), 3) + 0.0
    return result
