"""The Transformer's network, in torch and exported: by the paper, by torch's own layers, and by its cache."""

from __future__ import annotations

from functools import partial

import pytest

from tests.model_builders.torch_jobs import run_in_torch

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(900)]  # the first time, torch is downloaded

run = partial(run_in_torch, "tests.model_builders.transformer.in_torch")


def test_the_exported_graphs_say_the_same_words_with_the_same_attention_in_a_batch_and_alone() -> None:
    found = run("exports")
    assert len(found) == 2
    for what, one in found.items():
        for in_torch, in_onnx, alone in one["words"]:
            assert in_torch == in_onnx == alone, what
        assert one["difference"] <= 1e-5, what
        assert len({tuple(words) for words in one["words"][0][0]}) > 1, f"{what}: all rows are alike"
        assert one["same bytes"], what


def test_the_network_is_what_the_layers_of_torch_make_of_the_same_weights() -> None:
    """With positions computed number by number, as the paper has them."""
    found = run("oracle")
    assert found["logits"] <= 1e-6 < 0.5 < found["size"]
    assert found["attention"] <= 1e-6


def test_what_is_kept_of_the_words_before_gives_what_computing_anew_gives() -> None:
    """And one pass over all words gives the logits behind each of them."""
    found = run("cache")
    assert found["words"] == 4
    assert found["kept"] == [[4, 2, 4, length, 4] for length in (1, 2, 3, 4)]
    assert found["same"] == ["allowed", "source_keys", "source_values"]
    for what in ("in training", "step by step", "computed anew", "attention", "two and two", "keys"):
        assert found[what] <= 1e-10, what


def test_a_word_knows_no_later_one_no_other_row_and_nothing_of_the_filling() -> None:
    found = run("independence")
    assert set(found["later words"]) == {"1", "2", "3"}
    for before, at in found["later words"].values():
        assert before <= 1e-10
        assert at > 0.01  # the word that was changed does count, from its own place on
    for what in ("filled up", "with what", "alone"):
        assert found[what] <= 1e-10, what
    assert found["order counts"] > 0.01


def test_a_training_killed_within_an_epoch_ends_in_the_same_weights() -> None:
    assert run("going_on") == {"killed in": [1, 2], "equal": True, "histories": True}


def test_the_model_is_the_mean_of_its_last_weights_and_measured_as_such() -> None:
    found = run("averaging")
    assert (found["steps"], found["measured"]) == (15, True)
    assert found["from the mean"] <= 1e-6 < 1e-4 < found["from the last"]


def test_the_loss_is_smoothed_over_all_words_and_the_filling_counts_for_nothing() -> None:
    found = run("smoothing")
    assert found["apart"] <= 1e-5
    assert found["tokens"] == [21, 21]
