"""Greedy and beam search over a decoder whose probabilities are written down."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from model_builders.served.search import END, PAD, UNK, Asker, Found, Integers, beam, greedy, pad
from tests.model_builders.translation.chains import GREEDY_GOES_WRONG, VOCABULARY, A, B, C, Chain
from tests.model_builders.translation.impatient import Impatient

Table = Mapping[int, Mapping[int, float]]

SPELLS_AB: Table = {END: {A: 1.0}, A: {B: 1.0}, B: {END: 1.0}, C: {C: 1.0}}
ENDS_AT_ONCE: Table = {END: {END: 1.0}}
NEVER_ENDS: Table = {END: {C: 1.0}, C: {C: 1.0}}


def test_greedy_takes_the_most_probable_word_until_the_end() -> None:
    (found,) = greedy(Chain({A: SPELLS_AB}), *pad([[A, B, C]]), 9)
    assert (found.words, found.finished, found.score) == ((A, B), True, 0.0)
    np.testing.assert_array_equal(found.attention, [[1, 0, 0], [0, 1, 0]])


def test_a_translation_without_an_end_is_cut_at_the_limit_and_says_so() -> None:
    for found in (
        *greedy(Chain({A: NEVER_ENDS}), *pad([[A]]), 4),
        *beam(Chain({A: NEVER_ENDS}), *pad([[A]]), 4, 3),
    ):
        assert (found.words, found.finished) == ((C, C, C, C), False)


def test_a_translation_of_just_as_many_words_as_the_limit_still_comes_to_its_end() -> None:
    (found,) = greedy(Chain({A: SPELLS_AB}), *pad([[A]]), 2)
    assert (found.words, found.finished) == ((A, B), True)


def test_rows_that_have_ended_are_not_stepped_any_more() -> None:
    chain = Chain({A: SPELLS_AB, B: ENDS_AT_ONCE})
    found = greedy(chain, *pad([[A, B], [B], [B]]), 9)
    assert [one.words for one in found] == [(A, B), (), ()]
    assert chain.rows_stepped == 3 + 1 + 1


def test_a_row_in_a_batch_is_the_row_alone() -> None:
    tables = {A: SPELLS_AB, B: ENDS_AT_ONCE, C: GREEDY_GOES_WRONG}
    rows = [[C, A, A, A], [A, B], [B], [C]]
    searches: tuple[Callable[[Chain, Integers, Integers, int], list[Found]], ...] = (
        greedy,
        lambda chain, tokens, lengths, longest: beam(chain, tokens, lengths, longest, 3),
    )
    for search in searches:
        together = search(Chain(tables), *pad(rows), 5)
        for row, found in zip(rows, together, strict=True):
            (alone,) = search(Chain(tables), *pad([row]), 5)
            assert (alone.words, alone.score, alone.finished) == (found.words, found.score, found.finished)
            np.testing.assert_array_equal(alone.attention, found.attention)


def test_a_beam_finds_what_greedy_misses() -> None:
    given = (Chain({C: GREEDY_GOES_WRONG}), *pad([[C]]), 5)
    (hasty,), (patient,) = greedy(*given), beam(*given, 2)
    assert hasty.words[0] == A
    assert patient.words == (B,)
    assert patient.score == pytest.approx(math.log(0.4) / 2)


def test_a_beam_of_one_is_greedy() -> None:
    for seed in range(20):
        chain = Chain({C: random_table(seed)})
        (one,), (other,) = greedy(chain, *pad([[C, A]]), 6), beam(chain, *pad([[C, A]]), 6, 1)
        assert (one.words, one.finished) == (other.words, other.finished)
        assert one.score == pytest.approx(other.score)
        assert one.margin == pytest.approx(other.margin)


def random_table(seed: int) -> Table:
    choice = np.random.default_rng(seed)
    words = (END, A, B)
    return {word: dict(zip(words, choice.dirichlet([1, 1, 1]), strict=True)) for word in words}


def every_sentence(table: Table, longest: int) -> dict[tuple[int, ...], float]:
    """All sentences that come to their end, with the mean logarithm of their words."""
    found: dict[tuple[int, ...], float] = {}
    begun: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    while begun:
        words, total = begun.pop()
        for word, share in table[words[-1] if words else END].items():
            if word == END:
                found[words] = (total + math.log(share)) / (len(words) + 1)
            elif len(words) < longest:
                begun.append(((*words, word), total + math.log(share)))
    return found


@pytest.mark.parametrize("seed", range(8))
def test_a_beam_wide_enough_for_every_sentence_finds_the_best_of_all(seed: int) -> None:
    table = random_table(seed)
    every = every_sentence(table, 3)
    assert len(every) == 15
    (found,) = beam(Chain({C: table}), *pad([[C]]), 3, 64)
    assert found.finished
    assert found.score == pytest.approx(max(every.values()))
    assert every[found.words] == pytest.approx(found.score)


def test_what_is_no_word_is_never_written() -> None:
    table: Table = {END: {PAD: 0.5, UNK: 0.4, A: 0.1}, A: {PAD: 0.7, END: 0.3}}
    chain = Chain({C: table})
    assert greedy(chain, *pad([[C]]), 5)[0].words == (A,)
    assert beam(chain, *pad([[C]]), 5, 4)[0].words == (A,)


def test_the_margin_is_that_of_the_nearest_decision() -> None:
    table: Table = {END: {A: 0.9, B: 0.1}, A: {B: 0.51, C: 0.49}, B: {END: 1.0}}
    (found,) = greedy(Chain({C: table}), *pad([[C]]), 5)
    assert found.margin == pytest.approx(math.log(0.51 / 0.49))


def test_a_row_whose_asker_leaves_is_cut_there_and_its_neighbours_go_on() -> None:
    rows = [[C], [A, B], [C]]
    for size in (1, 2):

        def search(askers: list[Asker], size: int = size) -> tuple[list[Found], int]:
            chain = Chain({A: SPELLS_AB, C: {**NEVER_ENDS, C: {C: 0.9, A: 0.1}, A: {C: 1.0}}})
            given = chain, *pad(rows), 50
            found = greedy(*given, askers) if size == 1 else beam(*given, size, askers)
            return found, chain.rows_stepped

        patient, all_steps = search([])
        (first, second, third), steps = search([Impatient(3), Asker(), Impatient(7)])
        assert (len(first.words), first.finished) == (3, False)
        assert (len(third.words), third.finished) == (7, False)
        assert (second.words, second.score) == (patient[1].words, patient[1].score)
        assert steps < all_steps / 4


def test_who_looks_on_sees_each_word_of_a_greedy_search_and_of_a_beam_the_end() -> None:
    looking = Impatient(99)
    (found,) = greedy(Chain({A: SPELLS_AB}), *pad([[A]]), 9, [looking])
    assert (tuple(looking.seen), looking.told) == (found.words, [found])
    looking = Impatient(99)
    (found,) = beam(Chain({A: SPELLS_AB}), *pad([[A]]), 9, 2, [looking])
    assert (looking.seen, looking.told) == ([], [found])


def test_rows_are_filled_up_behind_their_ends() -> None:
    tokens, lengths = pad([[A], [B, C, A]])
    assert tokens.tolist() == [[A, PAD, PAD], [B, C, A]]
    assert lengths.tolist() == [1, 3]
    assert max(A, B, C) < VOCABULARY
