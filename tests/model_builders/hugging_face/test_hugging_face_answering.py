"""What answers, with a network that is a table: limits, entities, the rules of generating."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from model_builders.hugging_face.served.generating import Rules, generate
from model_builders.hugging_face.served.labelling import Piece, Tagged, entities_of, whole_offsets
from model_builders.hugging_face.served.tokens import Limit, Question, text_tensor
from model_builders.hugging_face.served.writing import Writing
from model_builders.served.search import Asker, Found, Integers, State, Step
from model_builders.served.vectors import BadQuestion
from tests.model_builders.translation.impatient import Impatient

START, END, A, B = 0, 1, 2, 3


class Table:
    """The next token depends on the one before alone: `table` has the probabilities (V, V)."""

    def __init__(self, table: Sequence[Sequence[float]]) -> None:
        with np.errstate(divide="ignore"):
            self._logarithms = np.log(np.array(table))

    def begin(self, tokens: Integers, lengths: Integers) -> State:
        return {"lengths": lengths}

    def step(self, words: Integers, state: State) -> Step:
        return Step(self._logarithms[words], np.zeros((len(words), 0)), state)


class Words:
    """A token a character."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [[*map(ord, text), END] for text in texts]

    def spell(self, ids: Sequence[int]) -> tuple[str, ...]:
        return tuple(map(str, ids))

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    def settled(self, text: str) -> str:
        return text


TABLE = Table(
    [
        [0.0, 0.1, 0.5, 0.4],  # START
        [0.0, 1.0, 0.0, 0.0],  # END
        [0.0, 0.3, 0.4, 0.3],  # A: mostly A again
        [0.0, 0.9, 0.05, 0.05],  # B: mostly the end
    ]
)
RULES = Rules(START, (END,), (), None, 1.0, False, 1)


def writing(rules: Rules = RULES, most: int = 6, *, cuts: bool = False) -> Writing:
    return Writing(Words(), TABLE, rules, Limit(most, cuts), "")


def found(rules: Rules, size: int, longest: int = 6) -> Found:
    (one,) = generate(TABLE, np.array([[5]]), np.array([1]), rules, size, longest)
    return one


def test_greedy_takes_the_most_probable_and_a_beam_what_is_best_as_a_whole() -> None:
    greedy, beam = found(RULES, 1), found(Rules(START, (END,), (), None, 0.0, False, 1), 3)
    assert (greedy.words, greedy.finished) == ((A,) * 6, False)
    assert (beam.words, beam.finished) == ((B,), True)
    assert beam.score == pytest.approx(np.log(0.4 * 0.9))
    assert greedy.margin == pytest.approx(np.log(0.5 / 0.4))


def test_what_must_never_be_written_is_not_and_an_end_can_be_forced() -> None:
    never_a = Rules(START, (END,), (A,), None, 1.0, False, 1)
    assert found(never_a, 1).words == (B,)
    forced = found(Rules(START, (END,), (), END, 1.0, False, 1), 1)
    assert (forced.words, forced.finished) == ((A,) * 5, False)


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        pytest.param(Question("  "), "text is empty; there is nothing to translate.", id="nothing"),
        pytest.param(
            Question("abcdef"),
            "text has 7 tokens; this model reads at most 6. Ask part by part, or build the model with "
            "longTexts: Truncate.",
            id="too long",
        ),
        pytest.param(
            Question("a", beam_size=1000),
            "beam_size is 1000; it must be between 1 (greedy) and 16",
            id="a beam of 1,000",
        ),
        pytest.param(Question("a", beam_size=-1), "beam_size is -1", id="less than nothing"),
        pytest.param(
            Question("a", max_tokens=7), "max_tokens is 7; it must be between 1 and 6", id="too much wanted"
        ),
        pytest.param(
            Question("a", "b"), "text_pair is given; this model translates one text.", id="two texts"
        ),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(question: Question, sentence: str) -> None:
    with pytest.raises(BadQuestion) as refused:
        writing().check(question)
    assert sentence in str(refused.value)


def test_a_text_is_cut_only_where_that_was_declared_and_the_answer_tells() -> None:
    long, short = Question("abcdefgh"), Question("abc")
    cutting = writing(cuts=True)
    cutting.check(long)
    cut, whole = cutting.answer([long, short])
    assert cut.source_tokens == (*map(str, map(ord, "abcde")), str(END))
    assert (cut.truncated, whole.truncated) == (True, False)


def test_requests_with_limits_and_beams_of_their_own_share_a_batch() -> None:
    asked = [Question("a", None, 1, 2), Question("b", None, 3, 0), Question("c")]
    together = writing().answer(asked)
    alone = [writing().answer([question])[0] for question in asked]
    assert [one.found.words for one in together] == [one.found.words for one in alone]
    assert together[0].found.words == (A, A)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("longest", [1, 2, 3, 6])
def test_a_row_whose_asker_leaves_is_cut_there_and_its_neighbours_go_on(size: int, longest: int) -> None:
    """At every step, that on which it ends with nothing left to go on with among them."""
    given = TABLE, np.array([[5], [6], [7]]), np.array([1, 1, 1]), RULES, size, longest
    patient = generate(*given)
    for looks in range(longest + 1):
        leaving = Impatient(looks)
        first, second, third = generate(*given, [Asker(), leaving, Asker()])
        assert leaving.told == [second]
        assert second.finished or len(second.words) == min(looks + 1, longest)
        for neighbour, alone in ((first, patient[0]), (third, patient[2])):
            assert (neighbour.words, neighbour.score) == (alone.words, alone.score)


def piece(text: str, label: str, start: int, score: float = 1.0) -> Piece:
    return Piece(text, label, score, start, start + len(text))


def test_tokens_of_one_label_are_one_entity_until_another_begins() -> None:
    text = "김민준 서울부산 o"
    tokens = [
        piece("김", "B-PER", 0, 0.9),
        piece("민", "I-PER", 1, 0.8),
        piece("준", "I-PER", 2, 0.7),
        piece("서울", "B-LOC", 4),
        piece("부산", "B-LOC", 6),
        piece("o", "O", 9),
    ]
    named = [(one.text, one.label, one.start, one.end) for one in entities_of(text, tokens)]
    assert named == [("김민준", "PER", 0, 3), ("서울", "LOC", 4, 6), ("부산", "LOC", 6, 8)]
    assert entities_of(text, tokens)[0].score == pytest.approx(0.8)
    assert entities_of(text, []) == []


@pytest.mark.parametrize(
    ("text", "offsets", "whole"),
    [
        pytest.param("\u110c\u116e\u11ab은", [(0, 1), (3, 4)], [(0, 3), (3, 4)], id="a syllable in letters"),
        pytest.param(
            "\u110c\u116e\u11ab", [(0, 1), (1, 2), (2, 3)], [(0, 1), (1, 2), (2, 3)], id="a token a letter"
        ),
        pytest.param("e\u0301te\u0301", [(0, 1), (2, 3), (3, 4)], [(0, 2), (2, 3), (3, 5)], id="accents"),
        pytest.param(
            "준은",
            [(0, 0), (0, 1), (0, 1), (1, 2), (0, 0)],
            [(0, 0), (0, 1), (0, 1), (1, 2), (0, 0)],
            id="bytes",
        ),
        pytest.param("", [(0, 0), (0, 0)], [(0, 0), (0, 0)], id="nothing"),
    ],
)
def test_a_token_ends_where_its_last_character_ends(
    text: str, offsets: list[tuple[int, int]], whole: list[tuple[int, int]]
) -> None:
    assert whole_offsets(text, offsets) == whole


def test_shorter_rows_are_filled_up_and_a_row_of_nothing_is_a_row() -> None:
    one = Tagged((piece("가", "O", 0, 0.5),), (), False)
    nothing = Tagged((), (), True)
    tensors = Tagged.together([one, nothing])
    assert tensors["token"].tolist() == [["가".encode()], [b""]]
    assert tensors["token_end"].tolist() == [[1], [0]]
    assert tensors["entity"].shape == (2, 1)
    assert tensors["truncated"].tolist() == [[False], [True]]
    assert text_tensor([[], ["a", "b"]]).tolist() == [[b"", b""], [b"a", b"b"]]
