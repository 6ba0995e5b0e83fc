"""Samples of translation on a real node: applied, built with torch, asked through their Services, whole and
token by token."""

from __future__ import annotations

import json

import numpy as np
import pytest

from localcluster.cluster import Cluster
from nlpctl.__main__ import main
from tests.node.models.place import Place

REVERSED, KOREAN, ENGLISH = "reversed-words", "english-korean", "korean-english"
LIVE = "english-korean-live"
BUILD_SECONDS = 900.0
"""A build takes half a minute of processor time; a loaded machine takes several times that."""

pytestmark = pytest.mark.timeout(1800)  # a first build of the image downloads 0.6 GB


def test_lines_are_reversed_and_sentences_translated_and_both_show_where_they_looked(
    with_torch: Cluster, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """By GRUs with attention, and by a Transformer; its stream is of the same build."""
    for name in (REVERSED, KOREAN):
        place.apply(*place.sample(name))
    place.wait_ready(KOREAN, BUILD_SECONDS)
    apply_live(place)
    place.wait_ready(REVERSED, BUILD_SECONDS)
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
    check_stream(place, capsys)


@pytest.mark.release
def test_korean_is_translated_in_the_order_of_bahdanau(with_torch: Cluster, place: Place) -> None:
    """The other order of the decoder on the node: every change builds it with the Job alone."""
    place.apply(*place.sample(ENGLISH))
    place.wait_ready(ENGLISH, BUILD_SECONDS)
    for protocol in ("http", "grpc"):
        given = place.ask("어제 그녀는 빵을 기억했다.", protocol, ENGLISH)
        assert given["translation"].ravel()[0].decode() == "She remembered the bread yesterday."
        # The verb and the day stand elsewhere in Korean, and that is where it looked.
        looked = given["attention"][0].argmax(axis=1)
        assert [looked[word] for word in (1, 4)] == [3, 0]


def apply_live(place: Place) -> None:
    """The Transformer once more, to answer token by token: its build is done already."""
    *_, model = place.sample(KOREAN)
    spec = {**model["spec"], "serving": {"responses": "Streamed"}}
    place.apply({**model, "metadata": {"name": LIVE}, "spec": spec})


def check_stream(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Through Envoy, by its Service: a response a token, and the last one."""
    place.wait_ready(LIVE)
    assert place.digest(LIVE) == place.digest(KOREAN)
    capsys.readouterr()
    where = ["--stream", "--address", place.address(8001, LIVE)]
    main(["infer", LIVE, "She remembered the bread yesterday.", *where, "--json"])
    responses = [json.loads(line)["outputs"] for line in capsys.readouterr().out.splitlines()]
    pieces = [one["translation"]["data"][0] for one in responses]
    assert "".join(pieces) == "어제 그녀는 빵을 기억했다."
    assert len(pieces) == 6
    assert "".join(pieces[:3]).startswith("어제 그녀는")
    assert [one["attention"]["shape"] for one in responses[:-1]] == [[1, 2, 4, 1, 6]] * 5
    assert responses[-1]["finished"]["data"] == [True]
    main(["infer", LIVE, "She remembered the bread yesterday.", *where])
    text, told = capsys.readouterr().out.splitlines()
    assert text == "어제 그녀는 빵을 기억했다."
    assert told.startswith(f"{LIVE} gave 6 responses in ")
