"""The search as a graph finds what the search in Python finds: ids equal, everything else within 1e-5."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from model_builders.served.search import Found, beam, greedy, pad
from model_builders.served.translating import OnnxDecoder
from model_builders.shared_weights import WEIGHTS, write_graphs
from model_builders.translation.search_graph import build_search
from tests.model_builders.translation.random_weights import (
    VOCABULARY,
    Graphs,
    seq2seq_graphs,
    transformer_graphs,
)

LIMIT = 9

NETWORKS: dict[str, Callable[[], Graphs]] = {
    "Luong General": lambda: seq2seq_graphs("Luong", "General"),
    "Luong Concat": lambda: seq2seq_graphs("Luong", "Concat"),
    "Bahdanau Concat": lambda: seq2seq_graphs("Bahdanau", "Concat"),
    "no attention": lambda: seq2seq_graphs("None", "Dot"),
    "Transformer": transformer_graphs,
}


@pytest.fixture(params=NETWORKS)
def graphs(request: pytest.FixtureRequest) -> Graphs:
    return NETWORKS[request.param]()


def written(graphs: Graphs, folder: Path) -> Any:
    """A session of the whole search; the encoder and the decoder lie beside it."""
    encoder, decoder = graphs
    search = build_search(encoder, decoder, LIMIT)
    write_graphs(folder, {"encoder": encoder, "decoder": decoder, "search": search})
    return onnxruntime.InferenceSession(str(folder / "search.onnx"), providers=["CPUExecutionProvider"])


def in_python(decoder: OnnxDecoder, row: list[int], size: int) -> Found:
    """The row alone."""
    tokens, lengths = pad([row])
    if size == 1:
        (found,) = greedy(decoder, tokens, lengths, LIMIT)
    else:
        (found,) = beam(decoder, tokens, lengths, LIMIT, size)
    return found


def test_each_row_of_a_batch_is_what_python_finds_of_it_alone(graphs: Graphs, tmp_path: Path) -> None:
    """Batches of other sizes, sources of other lengths and filled up further, beams of other sizes."""
    session, decoder = written(graphs, tmp_path), OnnxDecoder(tmp_path)
    names = [one.name for one in session.get_outputs()]
    choice = np.random.default_rng(1)
    ends = []
    for batch in range(10):
        rows = [
            choice.integers(3, VOCABULARY, size=choice.integers(1, 13)).tolist()
            for _ in range(choice.integers(1, 9))
        ]
        sizes = choice.integers(1, 7, size=len(rows)) if batch % 2 else np.ones(len(rows), dtype=np.int64)
        tokens, lengths = pad(rows)
        asked = {
            "tokens": np.pad(tokens, ((0, 0), (0, batch % 3))),
            "lengths": lengths[:, np.newaxis],
            "beam_size": sizes[:, np.newaxis].astype(np.int32),
        }
        given = dict(zip(names, session.run(names, asked), strict=True))
        for place, (row, size) in enumerate(zip(rows, sizes, strict=True)):
            wanted = in_python(decoder, row, int(size))
            words = int(given["words"][place, 0])
            assert tuple(given["token_ids"][place, :words]) == wanted.words
            assert not given["token_ids"][place, words:].any()
            assert given["finished"][place, 0] == wanted.finished
            assert given["score"][place, 0] == pytest.approx(wanted.score, abs=1e-5)
            if "attention" in given:
                attention = given["attention"][place]
                kept = attention[..., :words, : len(row)]
                np.testing.assert_allclose(kept, wanted.attention, atol=1e-5)
                assert np.count_nonzero(attention) == np.count_nonzero(kept)
            ends.append(wanted.finished)
    assert 5 < sum(ends) < len(ends) - 5  # both ways of ending were tried


def test_the_same_graphs_give_the_same_bytes_and_each_number_once(graphs: Graphs, tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        written(graphs, folder)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    large = {
        tensor.raw_data
        for graph in graphs
        for tensor in graph.graph.initializer
        if len(tensor.raw_data) >= 1024
    }
    room = (tmp_path / "a" / WEIGHTS).stat().st_size
    assert sum(map(len, large)) <= room < sum(map(len, large)) + 64 * len(large)
