"""Samples of translation on a real node: applied, built with torch, asked through their Services."""

from __future__ import annotations

import numpy as np
import pytest

from localcluster.cluster import Cluster
from tests.node.models.place import Place

REVERSED, KOREAN = "reversed-words", "english-korean"
BUILD_SECONDS = 900.0
"""Both builds take half a minute of processor time; a loaded machine takes several times that."""


@pytest.mark.timeout(1800)  # a first build of the image downloads 0.6 GB
def test_lines_are_reversed_and_sentences_translated_and_both_show_where_they_looked(
    with_torch: Cluster, place: Place
) -> None:
    """By GRUs with attention, and by a Transformer."""
    for name in (REVERSED, KOREAN):
        place.apply(*place.sample(name))
    for name in (REVERSED, KOREAN):
        place.wait_ready(name, BUILD_SECONDS)
    for protocol in ("http", "grpc"):
        line = place.ask("마 가 자 나 다", protocol, REVERSED)
        assert line["translation"].ravel()[0].decode() == "다 나 자 가 마"
        np.testing.assert_array_equal(line["attention"][0].argmax(axis=1), [4, 3, 2, 1, 0])
        given = place.ask("She remembered the bread yesterday.", protocol, KOREAN)
        assert given["translation"].ravel()[0].decode() == "어제 그녀는 빵을 기억했다."
        assert given["attention"].shape == (1, 2, 4, 5, 6)
        heads = given["attention"][0].argmax(axis=-1)  # (layers, heads, T)
        for word, seen in enumerate((4, 0, 3, 1)):
            assert seen in heads[:, :, word]
