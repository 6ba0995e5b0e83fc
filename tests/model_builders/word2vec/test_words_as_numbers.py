"""The corpus as numbers, vectors from files, and analogies: what Word2Vec does without torch."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from model_builders.errors import Refused
from model_builders.source import Source
from model_builders.word2vec.analogies import Analogy, measure_analogies, read_analogies
from model_builders.word2vec.corpus import encode
from model_builders.word2vec.vectors_file import read_vectors

VECTORS = {"소년": (1.0, -0.5, 0.25), "소녀": (0.5, 1.5, -2.0), "왕": (0.125, 0.0, 3.0)}


def source_of(folder: Path, content: bytes | str, name: str = "vectors.txt") -> Source:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return Source("vectors", "File", folder, (name,))


def as_text() -> str:
    return "".join(f"{word} {' '.join(map(str, vector))}\n" for word, vector in VECTORS.items())


def as_binary(line_feeds: bool) -> bytes:
    end = b"\n" if line_feeds else b""
    records = [word.encode() + b" " + struct.pack("<3f", *vector) + end for word, vector in VECTORS.items()]
    return b"3 3\n" + b"".join(records)


def test_frequent_words_come_first_and_rare_ones_not_at_all() -> None:
    corpus = encode([["b", "a", "b"], [], ["c", "a", "rare", "b"], ["c"]], min_count=2, max_terms=100)
    assert corpus.terms == ("b", "a", "c")
    assert corpus.counts.tolist() == [3, 2, 2]
    assert corpus.tokens.tolist() == [0, 1, 0, 2, 1, 0, 2]
    assert corpus.texts.tolist() == [0, 0, 0, 2, 2, 2, 3]
    assert corpus.total == 8
    assert encode([["a", "a", "b", "c", "c"]], min_count=1, max_terms=2).terms == ("a", "c")


@pytest.mark.parametrize(
    ("texts", "reason", "sentence"),
    [
        pytest.param([[], []], "InputEmpty", "hold no word at all", id="no word"),
        pytest.param([["a", "b"]], "ParameterInvalid", "2 different words (2 in all) none occurs", id="rare"),
        pytest.param([["a", "a", "b"]], "ParameterInvalid", "only one occurs so often; at least 2", id="one"),
    ],
)
def test_too_few_words_are_refused_with_their_number(
    texts: list[list[str]], reason: str, sentence: str
) -> None:
    with pytest.raises(Refused) as refused:
        encode(texts, min_count=2, max_terms=10)
    assert refused.value.reason == reason
    assert sentence in refused.value.message


@pytest.mark.parametrize(
    ("content", "form"),
    [
        pytest.param("3 3\n" + as_text(), "word2vec text", id="word2vec, text"),
        pytest.param("3 3\r\n" + as_text().replace("\n", "\r\n"), "word2vec text", id="lines of Windows"),
        pytest.param(as_text(), "GloVe", id="GloVe"),
        pytest.param(as_binary(True), "word2vec binary", id="word2vec, binary"),
        pytest.param(as_binary(False), "word2vec binary", id="gensim, binary"),
    ],
)
def test_vectors_of_every_form_are_read_as_they_are(tmp_path: Path, content: bytes | str, form: str) -> None:
    found = read_vectors(source_of(tmp_path, content), "Preserve", 100)
    assert (found.form, found.terms) == (form, tuple(VECTORS))
    np.testing.assert_array_equal(found.vectors, np.array(list(VECTORS.values()), dtype=np.float32))
    assert read_vectors(source_of(tmp_path, content), "Preserve", 2).terms == ("소년", "소녀")


def test_words_with_blanks_and_words_that_become_the_same(tmp_path: Path) -> None:
    found = read_vectors(source_of(tmp_path, ". . . 1 2\nKing 3 4\nking 5 6\n"), "Lower", 100)
    assert found.terms == (". . .", "king")
    assert found.vectors.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("content", "reason", "sentence"),
    [
        pytest.param(
            "a 1 2\nb 1\n",
            "InputInvalid",
            "vectors.txt, line 2 has 1 numbers behind its word; every line must have 2",
            id="too few numbers",
        ),
        pytest.param("a 1 2\nb 1 x\n", "InputInvalid", "line 2 holds 'x', which is no finite", id="word"),
        pytest.param("a 1 2\nb 1 nan\n", "InputInvalid", "line 2 holds 'nan'", id="not a number"),
        pytest.param(
            "3 2\na 1 2\nb 1 2\n",
            "InputInvalid",
            "announces 3 words in its first line and ends after 2",
            id="cut off",
        ),
        pytest.param(
            as_binary(True)[:-8],
            "InputInvalid",
            "announces 3 words in its first line and ends after 2",
            id="binary, cut off",
        ),
        pytest.param(
            as_binary(False).replace(struct.pack("<f", 1.5), struct.pack("<f", np.inf)),
            "InputInvalid",
            "word 2 ('소녀'): its vector holds a number that is not finite",
            id="binary, infinite",
        ),
        pytest.param(
            b"a 1 2\n\xba\xf1 1 2\n", "InputEncoding", "line 2 is not UTF-8: its byte 1", id="encoding"
        ),
        pytest.param("a 1 2\n", "InputEmpty", "holds 1 vectors; at least 2 are needed", id="one"),
        pytest.param(
            "2 9999\na 1\n", "InputInvalid", "vectors of 9,999 numbers; they must have 2 to", id="wide"
        ),
        pytest.param("a\nb\n", "InputInvalid", "line 1 has vectors of 0 numbers", id="no numbers"),
        pytest.param(
            "a 1 2\n" + "기차 " * 150_000 + "\n",
            "InputInvalid",
            "vectors.txt, line 2 has more than 1,048,576 bytes; a line is a word and its numbers.",
            id="a megabyte line",
        ),
        pytest.param("", "InputEmpty", "holds 0 vectors; at least 2 are needed", id="empty"),
    ],
)
def test_vectors_that_cannot_be_read_say_where(
    tmp_path: Path, content: bytes | str, reason: str, sentence: str
) -> None:
    with pytest.raises(Refused) as refused:
        read_vectors(source_of(tmp_path, content), "Preserve", 100)
    assert refused.value.reason == reason
    assert sentence in refused.value.message


def test_sections_and_comments_of_analogies(tmp_path: Path) -> None:
    text = "# ours\n: family\nA B c d\n\n: gram1-adverb\ne f g h\n"
    assert read_analogies(source_of(tmp_path, text), "Lower") == (
        Analogy("family", ("a", "b", "c", "d")),
        Analogy("gram1-adverb", ("e", "f", "g", "h")),
    )


@pytest.mark.parametrize(
    ("text", "reason", "sentence"),
    [
        pytest.param(
            ": s\na b c\n", "InputInvalid", "line 2 is 'a b c'; an analogy has four", id="three words"
        ),
        pytest.param(": s\n", "InputEmpty", "holds no line with four words", id="no question"),
    ],
)
def test_analogies_that_are_none_say_where(tmp_path: Path, text: str, reason: str, sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        read_analogies(source_of(tmp_path, text), "Preserve")
    assert refused.value.reason == reason
    assert sentence in refused.value.message


def test_analogies_are_counted_as_a_slow_loop_counts_them() -> None:
    choice = np.random.default_rng(5)
    terms = [f"w{index}" for index in range(40)]
    vectors = choice.normal(size=(40, 4)).astype(np.float32)
    asked = [
        Analogy("gram" if index % 3 else "family", tuple(choice.choice(terms, 4))) for index in range(700)
    ]
    asked.append(Analogy("family", ("w1", "w2", "w3", "absent")))
    top1 = {"gram": [], "family": []}  # type: dict[str, list[bool]]
    top5 = []
    for one in asked[:-1]:
        a, b, c, d = (terms.index(word) for word in one.words)
        wanted = sum(s * vectors[i] / np.linalg.norm(vectors[i]) for i, s in ((a, -1), (b, 1), (c, 1)))
        cosines = vectors @ wanted / np.linalg.norm(vectors, axis=1) / np.linalg.norm(wanted)
        ranked = [index for index in np.argsort(-cosines) if index not in (a, b, c)]
        top1[one.section].append(ranked[0] == d)
        top5.append(d in ranked[:5])
    assert measure_analogies(asked, terms, vectors) == pytest.approx(
        {
            "analogyTop1": np.mean(top1["gram"] + top1["family"]),
            "analogyTop5": np.mean(top5),
            "analogyQuestions": 700,
            "analogyCoverage": 700 / 701,
            "analogySemanticTop1": np.mean(top1["family"]),
            "analogySyntacticTop1": np.mean(top1["gram"]),
        }
    )
    assert measure_analogies(asked[-1:], terms, vectors)["analogyTop1"] == 0.0
