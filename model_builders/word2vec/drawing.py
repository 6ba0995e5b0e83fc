"""Which words are drawn in the report, and where: the pairs of analogies, and what is near to both of a pair.

Dimensions: M drawn words, D width of a vector.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model_builders.drawings import WordMap
from model_builders.plane import axes_of_pairs, placed, principal_components
from model_builders.served.vectors import nearest, unit
from model_builders.word2vec.analogies import Analogy

ANALOGIES = 12
"""Looked at, as far as their words have vectors."""
PAIRS = 8
"""Drawn as arrows; more cannot be told apart."""
NEIGHBOURS = 2
"""Of each pair: what is near to the one alone may be any word that stands beside it, such as a particle."""
FREQUENT = 40
"""Words that are drawn where there is no analogy."""


def draw(analogies: Sequence[Analogy], terms: Sequence[str], vectors: NDArray[np.float32]) -> WordMap:
    """Arrows lead from a to b and from c to d: where they are alike, the analogy holds."""
    index = {term: place for place, term in enumerate(terms)}
    chosen = [one for one in analogies if all(word in index for word in one.words)][:ANALOGIES]
    units = unit(vectors)
    arrows = _arrows(chosen, index, units)[:PAIRS]
    words = dict.fromkeys(word for arrow in arrows for word in arrow)
    among = {index[word] for word in words}
    for start, end in arrows:
        near = nearest(terms, units @ (units[index[start]] + units[index[end]]), NEIGHBOURS, among)
        words |= dict.fromkeys(one.name for one in near)
    if not words:
        words = dict.fromkeys(terms[:FREQUENT])
    drawn = units[[index[word] for word in words]]
    places = _places(drawn, arrows, index, units) if arrows else principal_components(drawn)
    return WordMap(
        "The words in two dimensions",
        {word: (float(x), float(y)) for word, (x, y) in zip(words, places, strict=True)},
        arrows,
        "Unit vectors, in the plane that was chosen from the pairs of the analogies: across by what the two "
        "words of a pair differ in, up by what pairs differ in and their two words do not. Arrows join "
        "pairs; blue words are near to both of a pair."
        if arrows
        else "The first two principal components of unit vectors.",
    )


def _places(
    drawn: NDArray[np.floating],
    arrows: Sequence[tuple[str, str]],
    index: Mapping[str, int],
    units: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Shapes: drawn (M, D), units (V, D), result (M, 2)."""
    starts, ends = (units[[index[arrow[side]] for arrow in arrows]] for side in (0, 1))
    axes = axes_of_pairs(np.concatenate([starts, ends]), ends - starts)
    return placed(drawn - drawn.mean(axis=0), axes)


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
