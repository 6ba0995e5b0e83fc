"""What each builder is held to: an oracle, a floor, and how it is measured."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import yaml
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks.builders.places import GENSIM, ROOT, Built, Data, Place, run_in
from localcluster.environments import BUILDER
from model_builders.one_hot.dense import DIMENSIONS
from model_builders.one_hot.served import answering as one_hot
from model_builders.source import Source
from model_builders.term_document_matrix.served import answering as matrix
from model_builders.word2vec.analogies import measure_analogies, read_analogies
from model_builders.word2vec.served import answering as words
from model_builders.word2vec.vectors_file import read_vectors

SKLEARN = f"scikit-learn {sklearn.__version__}"
NOTE = "the study note"
RANDOM = "random vectors"

KOREAN_EPOCHS, ENGLISH_EPOCHS = 5, 3
TESTS = 2_000
"""Test texts of the gates of every change. As many as a comparison takes, so the model itself is one of the
three that are compared."""


@dataclass(frozen=True)
class Row:
    """One number of a gate: `measured` must not be below `floor`."""

    name: str
    architecture: str
    metric: str
    floor: float | None
    """None: recorded, and held to nothing."""
    measured: float
    oracle: str
    oracle_measured: float | None
    cpu_seconds: float
    """Of fetch and build, and of splitting the text where that was done before."""
    artifact_bytes: int

    @property
    def holds(self) -> bool:
        return self.floor is None or self.measured >= self.floor

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"measured": round(self.measured, 6), "holds": self.holds}


@dataclass(frozen=True)
class Gate:
    name: str
    architecture: str
    run: Callable[[Data, Place], Iterator[Row]]
    release: bool = False
    """Too long for every change."""


def one_hot_gate(data: Data, place: Place) -> Iterator[Row]:
    """The reviews as sets of morphemes: as scikit-learn has them, and good enough for a linear classifier."""
    rows = labelled(data, place)
    (texts, labels), (asked, truth) = (
        zip(*(row.split("\t") for row in rows[part]), strict=True) for part in ("train", "test")
    )
    parameters = {"tokenizer": "Whitespace", "maxTerms": 100_000}
    built = place.build("OneHot", parameters, {"texts": "\n".join(texts) + "\n"})
    answering = one_hot.load(built.artifact / "1")
    oracle = CountVectorizer(
        tokenizer=str.split, token_pattern=None, lowercase=False, binary=True, vocabulary=answering.terms
    )
    found = multi_hot(answering, asked)
    unequal = np.asarray((found != oracle.transform(asked)).sum(axis=1)).ravel()
    yield row_of(built, "one-hot", "OneHot", "equalRows", 1.0, float((unequal == 0).mean()), SKLEARN, 1.0)
    classifier = LogisticRegression(max_iter=300).fit(multi_hot(answering, texts), labels)
    accuracy = float(classifier.score(found, truth))
    yield row_of(built, "one-hot", "OneHot", "linearAccuracy", 0.8, accuracy, SKLEARN, None)
    # An index says in eight bytes what the vector says in four a term.
    smaller = 4 * len(answering.terms) / (8 * built.metrics["tokensPerText"])
    yield row_of(built, "one-hot", "OneHot", "vectorBytesOverIndexBytes", 10.0, smaller, "", None)
    product, lookup = milliseconds_of(answering, asked)
    slower, oracle = product / lookup, "a dense embedding, ms"
    yield row_of(built, "one-hot", "OneHot", "millisecondsOverDense", 10.0, slower, oracle, lookup)


def milliseconds_of(answering: one_hot.Answering, texts: Sequence[str]) -> tuple[float, float]:
    """To a layer of a hundred numbers: one-hot vectors by a product, indices by a lookup. Best of five."""
    known = [
        place
        for answer in answering.answer([one_hot.Question(text) for text in texts[:64]])
        for place in answer.indices
        if place != one_hot.UNKNOWN
    ]
    layer = np.random.default_rng(1).normal(size=(len(answering.terms), DIMENSIONS)).astype(np.float32)
    vectors = np.zeros((len(known), len(answering.terms)), dtype=np.float32)
    vectors[np.arange(len(known)), known] = 1

    def best(run: Callable[[], Any]) -> float:
        spent = []
        for _ in range(5):
            began = time.perf_counter()
            run()
            spent.append(time.perf_counter() - began)
        return min(spent) * 1000

    np.testing.assert_array_equal(vectors @ layer, layer[known])
    return best(lambda: vectors @ layer), best(lambda: layer[known])


def multi_hot(answering: one_hot.Answering, texts: Sequence[str]) -> Any:
    """The answers of the artifact as a sparse matrix (texts, terms)."""
    answers = answering.answer([one_hot.Question(text) for text in texts])
    places = [sorted(set(answer.indices) - {one_hot.UNKNOWN}) for answer in answers]
    columns = [place for row in places for place in row]
    ends = np.cumsum([0, *map(len, places)])
    shape = (len(texts), len(answering.terms))
    return csr_matrix((np.ones(len(columns)), columns, ends), shape=shape)


def matrix_gate(data: Data, place: Place) -> Iterator[Row]:
    """Counts of five hundred reviews as scikit-learn counts them; the note's example stands in the sample."""
    rows = data.table("nsmc-small/train.tsv.gz")[:500]
    corpus = "document\ttext\n" + "".join(f"{row['id']}\t{row['document']}\n" for row in rows)
    built = place.build("TermDocumentMatrix", {"tokenizer": "Whitespace"}, {"corpus": corpus})
    answering = matrix.load(built.artifact / "1")
    oracle = CountVectorizer(
        tokenizer=str.split, token_pattern=None, lowercase=False, vocabulary=answering.terms
    )
    expected = oracle.transform([row["document"] for row in rows]).toarray()
    asked = [matrix.Question(row["id"], role="document") for row in rows]
    found = np.stack([answer.document_vector for answer in answering.answer(asked)])
    equal = float((found == expected).all(axis=1).mean())
    name = "term-document-matrix"
    yield row_of(built, name, "TermDocumentMatrix", "equalColumns", 1.0, equal, SKLEARN, 1.0)


def korean_sample_gate(data: Data, place: Place) -> Iterator[Row]:
    """The sample on synthetic text: 아들 - 딸 + 소녀 = 소년 comes first. Needs no data set."""
    sample = (ROOT / "manifests/samples/korean-words.yaml").read_text(encoding="utf-8")
    config_map, model = yaml.safe_load_all(sample)
    texts = {name.removesuffix(".txt"): text for name, text in config_map["data"].items()}
    built = place.build("Word2Vec", model["spec"]["build"]["word2Vec"], texts)
    found = 1 / note_rank(built)
    yield row_of(built, "korean-words", "Word2Vec", "noteReciprocalRank", 1.0, found, NOTE, 1.0)
    top1 = built.metrics["analogyTop1"]
    yield row_of(built, "korean-words", "Word2Vec", "analogyTop1", 0.9, top1, "", None)


@dataclass(frozen=True)
class Split:
    """Texts split into morphemes: one a line, with blanks between the words."""

    file: Path
    cpu_seconds: float


def split_korean(place: Place, name: str, texts: str) -> Split:
    """Once for all that need it: gensim and we then train on the same words."""
    room = place.room(name)
    raw, words_file = room / "raw.txt", room / "words.txt"
    raw.write_text(texts, encoding="utf-8")
    spent = run_in(BUILDER, "-m", "benchmarks.builders.split_korean", raw, words_file)["cpuSeconds"]
    return Split(words_file, spent)


@dataclass(frozen=True)
class Vectors:
    """Word vectors of a corpus, which two gates need."""

    corpus: Split
    questions: str
    built: Built


def korean_vectors(data: Data, place: Place) -> Vectors:
    """Of 170,000 film reviews."""

    def make() -> Vectors:
        questions = data.text("analogy-kor/family.txt")
        reviews = split_korean(place, "reviews", data.text("nsmc-reviews/reviews.txt.xz"))
        inputs = {"corpus": reviews.file.read_text(encoding="utf-8"), "analogies": questions}
        built = place.build("Word2Vec", {"tokenizer": "Whitespace", "epochs": KOREAN_EPOCHS}, inputs)
        return Vectors(reviews, questions, built)

    found: Vectors = place.shared.once("korean vectors", make)
    return found


def korean_gate(data: Data, place: Place) -> Iterator[Row]:
    """170,000 film reviews, 3.2 million morphemes."""
    vectors = korean_vectors(data, place)
    name, spent, built = "word2vec-korean", vectors.corpus.cpu_seconds, vectors.built
    found = 1 / note_rank(built)
    yield row_of(built, name, "Word2Vec", "noteReciprocalRank", 1 / 3, found, NOTE, 1.0, spent)
    top1 = built.metrics["analogyTop1"]
    yield row_of(built, name, "Word2Vec", "analogyTop1", 0.25, top1, "", None, spent)
    yield from against_gensim(place, name, vectors, KOREAN_EPOCHS)


def transfer_gate(data: Data, place: Place) -> Iterator[Row]:
    """Few labels: what vectors of other reviews add, in the end and after the first epoch. Two seeds.

    From the comparison that every such build keeps: all kinds of vectors, on the same texts.
    """
    texts = labelled(data, place)
    for metric, floor, labels, epochs in (
        ("gainAt500Labels", 0.03, 500, 10),
        ("gainAfterFirstEpochAt2000Labels", 0.08, 2000, 1),
    ):
        builds = classify(data, place, texts, "Frozen", labels, epochs, seeds=(1, 2))
        gains = [curve["frozen"][-1] - curve["random"][-1] for curve in map(compared, builds)]
        spent = sum(one.cpu_seconds for one in builds[:-1])
        gain = float(np.mean(gains))
        yield row_of(builds[-1], "transfer", "TextClassifier", metric, floor, gain, RANDOM, None, spent)


def compared(built: Built) -> Mapping[str, Sequence[float]]:
    """The share of test texts that are right after each epoch, by the kind of vectors."""
    kept = json.loads((built.artifact / "metrics.json").read_text(encoding="utf-8"))["drawings"]
    found: Mapping[str, Sequence[float]] = next(
        one["series"] for one in kept if one["title"] == "Random, frozen and fine-tuned"
    )
    return found


def many_labels_gate(data: Data, place: Place) -> Iterator[Row]:
    """All 20,000 labels, fine-tuned."""
    (built,) = classify(data, place, labelled(data, place), "FineTuned", 20_000, 3, seeds=(1,), tests=None)
    accuracy = built.metrics["accuracy"]
    yield row_of(built, "many-labels", "TextClassifier", "accuracy", 0.83, accuracy, "", None)


def labelled(data: Data, place: Place) -> Mapping[str, list[str]]:
    """Lines of a .tsv with the columns text and label, of training and of test, split into morphemes."""

    def make() -> Mapping[str, list[str]]:
        lines: dict[str, list[str]] = {}
        for part in ("train", "test"):
            rows = data.table(f"nsmc-small/{part}.tsv.gz")
            # A line for each, also for those without a word: the places must stay.
            raw = "\n".join(row["document"].strip() or "-" for row in rows) + "\n"
            split = split_korean(place, part, raw)
            words_of = split.file.read_text(encoding="utf-8").rstrip("\n").split("\n")
            lines[part] = [f"{text}\t{row['label']}" for text, row in zip(words_of, rows, strict=True)]
        return lines

    found: Mapping[str, list[str]] = place.shared.once("labelled", make)
    return found


def classify(
    data: Data,
    place: Place,
    texts: Mapping[str, list[str]],
    embeddings: str,
    labels: int,
    epochs: int,
    seeds: Sequence[int],
    tests: int | None = TESTS,
) -> list[Built]:
    """A build for each seed, of the first so many labelled texts, measured on the first so many others."""
    header = "text\tlabel\n"
    inputs = {
        "train": header + "\n".join(texts["train"][:labels]) + "\n",
        "test": header + "\n".join(texts["test"][:tests]) + "\n",
    }
    parameters = {"embeddings": embeddings, "tokenizer": "Whitespace", "epochs": epochs}
    vectors = korean_vectors(data, place).built
    return [place.build("TextClassifier", parameters | {"seed": seed}, inputs, vectors) for seed in seeds]


def english_gate(data: Data, place: Place) -> Iterator[Row]:
    """8.9 million English words, 19,544 questions."""
    text = place.room("english") / "words.txt"
    parts = [data.text(name).rstrip("\n") for name in data.names("english-corpora", ".txt.xz")]
    text.write_text("\n".join(parts) + "\n", encoding="utf-8")
    questions = data.text("questions-words/questions-words.txt").lower()
    inputs = {"corpus": text.read_text(encoding="utf-8"), "analogies": questions}
    built = place.build("Word2Vec", {"tokenizer": "Whitespace", "epochs": ENGLISH_EPOCHS}, inputs)
    vectors = Vectors(Split(text, 0.0), questions, built)
    yield from against_gensim(place, "word2vec-english", vectors, ENGLISH_EPOCHS)


def against_gensim(place: Place, name: str, vectors: Vectors, epochs: int) -> Iterator[Row]:
    """The same words, parameters and number of workers: analogies, and words in a CPU second."""
    room = place.room("gensim")
    questions, trained = room / "analogies.txt", room / "vectors.bin"
    questions.write_text(vectors.questions, encoding="utf-8")
    built, spent = vectors.built, vectors.corpus.cpu_seconds
    parameters = {"vector_size": 100, "window": 5, "negative": 5, "sample": 0.001, "min_count": 5, "sg": 1}
    program = Path(__file__).parent / "opponents/gensim_word2vec.py"
    more = {"workers": 1, "epochs": epochs, "seed": 1}
    said = run_in(GENSIM, program, vectors.corpus.file, trained, json.dumps(parameters | more))
    oracle = f"gensim {said['gensim']}"
    theirs = score_of(trained, questions)
    for metric in ("analogyTop1", "analogySemanticTop1", "analogySyntacticTop1"):
        if metric in theirs:
            ratio = built.metrics[metric] / max(theirs[metric], 1e-9)
            wanted = f"{metric}OverGensim"
            yield row_of(built, name, "Word2Vec", wanted, 0.9, ratio, oracle, theirs[metric], spent)
    speed = said["words"] / said["cpuSeconds"]
    ratio = built.metrics["wordsPerCpuSecond"] / speed
    wanted = "wordsPerCpuSecondOverGensim"
    yield row_of(built, name, "Word2Vec", wanted, 0.6, ratio, oracle, speed, spent)


def note_rank(built: Built) -> int:
    """The place of 소년 among the neighbours of 아들 - 딸 + 소녀, from 1."""
    asked = words.Question(None, None, ("아들", "소녀"), ("딸",), top_k=words.MAX_TOP_K)
    (answer,) = words.load(built.artifact / "1").answer([asked])
    names = [one.name for one in answer.nearest]
    return names.index("소년") + 1 if "소년" in names else words.MAX_TOP_K + 1


def score_of(vectors: Path, analogies: Path) -> Mapping[str, float]:
    """gensim's vectors by our own count: the same questions, the same words left out."""
    asked = read_analogies(source_of(analogies), "Preserve")
    found = read_vectors(source_of(vectors), "Preserve", 3_000_000)
    return measure_analogies(asked, found.terms, found.vectors)


def source_of(path: Path) -> Source:
    return Source(path.stem, "File", path.parent, (path.name,))


def row_of(
    built: Built,
    name: str,
    architecture: str,
    metric: str,
    floor: float | None,
    measured: float,
    oracle: str,
    of_oracle: float | None,
    spent: float = 0.0,
) -> Row:
    seconds = round(built.cpu_seconds + spent, 1)
    return Row(name, architecture, metric, floor, measured, oracle, of_oracle, seconds, built.bytes)


GATES = (
    Gate("word2vec-korean", "Word2Vec", korean_gate),
    Gate("one-hot", "OneHot", one_hot_gate),
    Gate("term-document-matrix", "TermDocumentMatrix", matrix_gate),
    Gate("korean-words", "Word2Vec", korean_sample_gate),
    Gate("transfer", "TextClassifier", transfer_gate),
    Gate("word2vec-english", "Word2Vec", english_gate, release=True),
    Gate("many-labels", "TextClassifier", many_labels_gate, release=True),
)
