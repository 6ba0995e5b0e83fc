"""The network, in torch and exported: every order and score, and the decoder's steps by their equations."""

from __future__ import annotations

from functools import partial

import pytest

from tests.model_builders.torch_jobs import run_in_torch

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(900)]  # the first time, torch is downloaded

UNSEEN = str.maketrans("", "", "(),?!")
"""No sentence of the diary has them."""

run = partial(run_in_torch, "tests.model_builders.seq2seq_attention.in_torch")


def test_the_exported_graphs_say_the_same_words_with_the_same_attention_in_a_batch_and_alone() -> None:
    found = run("exports")
    assert len(found) == 9
    for what, one in found.items():
        for in_torch, in_onnx, alone in one["words"]:
            assert in_torch == in_onnx == alone, what
        assert one["difference"] <= 1e-5, what
        assert len({tuple(words) for words in one["words"][0][0]}) > 1, f"{what}: all rows are alike"


def test_each_step_of_the_decoder_is_its_equation() -> None:
    found = run("steps")
    assert len(found) == 6 * 7
    assert max(found.values()) <= 1e-5, found


def test_the_decoder_begins_with_end_and_the_last_states_and_without_attention_has_nothing_else() -> None:
    found = run("beginning")
    for what, one in found.items():
        assert one["initial state"] <= 1e-5, what
        assert one["first word"] <= 1e-5, what
    assert found["None"]["other states"] == 0
    assert found["Luong"]["other states"] > 0.01
    assert found["Bahdanau"]["other states"] > 0.01


def test_training_sees_what_answers_and_no_later_word_no_other_row_no_filling() -> None:
    found = run("teaching")
    assert set(found) == {"Luong", "Bahdanau", "None"}
    for what, one in found.items():
        assert max(one.values()) <= 1e-5, (what, one)


def test_a_training_killed_within_an_epoch_ends_in_the_same_weights() -> None:
    assert run("going_on") == {"killed in": [1, 2], "equal": True, "histories": True}


def test_a_loss_that_is_not_finite_stops_the_training_with_a_sentence() -> None:
    assert run("diverging") == {
        "reason": "TrainingDiverged",
        "message": "The loss is nan in epoch 1 of 10: the network has grown without bound. Lower "
        "spec.build.seq2SeqAttention.learningRate, which is 0.5 (0.001 to 0.003 is usual).",
    }


def test_a_text_comes_back_from_its_subwords_and_what_nobody_has_seen_is_told() -> None:
    assert run("subwords") == {
        "back": ["나는 빵을 샀다."] * 3 + ["(나는) 빵을, 샀다?!".translate(UNSEEN), "I saw 나는."],
        "end in a text": False,
        "unknown": 2,
        "nothing": [[], []],
        "whole": ["▁나는"],
        "size": 200,
        "same": True,
        "first": ["<PAD>", "<UNK>", "<END>"],
        "characters": True,
    }


def test_an_epoch_has_each_pair_once_in_batches_of_bounded_size() -> None:
    assert run("batches") == {
        "once": True,
        "same": True,
        "other": True,
        "largest": 8,
        "bounded": True,
        "rates": [[0.001, 0.5, 1.0, 0.667, 0.5, 0.001], [0.001, 0.5, 1.0, 0.5, 0.426, 0.316]],
    }
