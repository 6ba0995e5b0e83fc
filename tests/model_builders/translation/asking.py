"""What holds for the answers of every translator that is served."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.model_builders.asking import Asked, texts


def hold_rows_to_themselves_alone(translate: Asked, asked: Sequence[str], heads: int = 1) -> None:
    """A sentence in a batch is the sentence alone, whatever it is filled up with. `heads` of all layers."""
    together = translate(text=asked)
    for row, text in enumerate(asked):
        alone = translate(text=[text])
        length, width = alone["attention"].shape[-2:]
        assert together["translation"][row, 0] == alone["translation"][0, 0]
        assert together["token_ids"][row, :length].tolist() == alone["token_ids"][0].tolist()
        assert not together["token_ids"][row, length:].any()
        kept = together["attention"][row, ..., :length, :width]
        np.testing.assert_allclose(kept, alone["attention"][0], atol=1e-5)
        assert together["attention"][row].sum() == pytest.approx(heads * length, abs=1e-2)
        np.testing.assert_allclose(together["score"][row], alone["score"][0], atol=1e-5)


def hold_beams_to_greedy(translate: Asked, asked: Sequence[str], sizes: Sequence[int]) -> None:
    """A beam finds what greedy finds in these, and gives it no worse a score."""
    greedy, beam = translate(text=asked), translate(text=asked, beam_size=sizes)
    assert texts(beam["translation"]) == texts(greedy["translation"])
    assert (beam["score"] >= greedy["score"] - 1e-5).all()
