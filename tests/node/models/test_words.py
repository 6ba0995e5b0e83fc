"""The samples that turn words into numbers, on a real node: applied, built, asked through their Services."""

from __future__ import annotations

import re
from typing import Any

import pytest
from numpy.typing import NDArray

from localcluster.cluster import Cluster
from tests.faults.plain_api import Obj
from tests.node.models.place import Place, until

PROTOCOLS = ("http", "grpc")
DIARY, WORDS, PEOPLE = "korean-diary", "korean-words", "korean-people"
FAR = re.compile(
    r"Job korean-words-build-\w+ builds the artifact "
    r"\(epoch \d+ of 1000, \d+ %: loss \d+\.\d{4}, [\d,]+ words/s, \d+ (s|min) left\)\."
)


def test_words_have_the_places_of_the_sample(place: Place) -> None:
    place.apply(*place.sample("word-places"))
    place.wait_ready("word-places")
    for protocol in PROTOCOLS:
        answer = place.ask("다음 기차", protocol, "word-places")
        assert answer["indices"].tolist() == [[1, 0]]
        assert answer["tokens"].tolist() == [[2]]
        several = place.ask("역 앞 막걸리", protocol, "word-places", encoding="MultiHot")
        assert several["multi_hot"][0].nonzero()[0].tolist() == [2, 5, 6]


def test_a_folder_of_documents_is_counted_in_the_morphemes_of_the_sample(place: Place) -> None:
    """Documents in the order of the files: kitchen, market, sea, station."""
    place.apply(*place.sample(DIARY))
    place.wait_ready(DIARY)
    for protocol in PROTOCOLS:
        word = place.ask("기차", protocol, DIARY)
        assert word["word_vector"].tolist() == [[0, 0, 1, 2]]
        assert names(word["nearest_words"])[:2] == ["역", "바다"]
        pair = place.ask("배추", protocol, DIARY, text_pair="사과")
        assert pair["similarity"].ravel()[0] == pytest.approx(1)
        document = place.ask("market", protocol, DIARY)
        assert document["document_vector"].tolist() == [[0, 0, 0, 2, 2, 0]]
        assert names(document["nearest_documents"])[0] == "kitchen"
        told = place.ask("기차를 타고 바다로 갔다.", protocol, DIARY)
        assert told["document_vector"].tolist() == [[1, 0, 1, 0, 0, 0]]
        assert names(told["nearest_documents"])[:2] == ["station", "sea"]


def test_morphemes_of_a_folder_in_a_claim_are_counted(place: Place) -> None:
    """기차가 and 기차를 are one word, and so are 막걸리를 and 막걸리는."""
    stories = {
        "stories/낮.txt": "기차가 떠났다. 우리는 다음 기차를 기다렸다!\n",
        "stories/밤.txt": "막걸리를 마셨다.\n그 선술집의 막걸리는 달았다.\n",
    }
    place.make_claim("datasets", {path: text.encode() for path, text in stories.items()})
    source = {"persistentVolumeClaim": {"claimName": "datasets", "path": "stories"}}
    matrix = {
        "weighting": "Count",
        "tokenizer": "KoreanMorphemes",
        "vocabulary": ["기차", "막걸리", "선술집"],
    }
    place.apply_model(source, build={"termDocumentMatrix": matrix})
    place.wait_ready()
    for protocol in PROTOCOLS:
        assert place.vector("낮", protocol=protocol) == [2, 0, 0]
        assert place.vector("밤", protocol=protocol) == [0, 2, 1]


def names(tensor: NDArray[Any]) -> list[str]:
    return [name.decode() for name in tensor.ravel()]


def assert_words(place: Place) -> None:
    """The analogy, a vector, a similarity, and neighbours."""
    for protocol in PROTOCOLS:
        answer = place.ask("아들", protocol, WORDS, negative="딸", positive="소녀")
        assert names(answer["nearest_words"])[0] == "소년"
        near = place.ask("아들", protocol, WORDS, text_pair="딸")
        far = place.ask("아들", protocol, WORDS, text_pair="백성")
        assert near["vector"].shape == (1, 32)
        assert near["similarity"][0, 0] > far["similarity"][0, 0]
        assert "아들" not in names(near["nearest_words"])


def assert_labels(place: Place) -> None:
    """Of people that no labelled text is about."""
    for protocol in PROTOCOLS:
        for question, label in (("소년은 밥을 먹었다.", "남"), ("여왕의 노래를 들었다.", "여")):
            answer = place.ask(question, protocol, PEOPLE)
            assert names(answer["label"]) == [label]
            assert answer["score"].ravel()[0] > 0.5


@pytest.mark.timeout(1200)  # a first build of the image downloads 0.6 GB
def test_vectors_then_a_classifier_are_built_in_order_and_again_when_the_vectors_change(
    with_torch: Cluster, place: Place
) -> None:
    place.apply(*place.sample(PEOPLE))
    place.wait_for("Built", "Unknown", "DependencyMissing", name=PEOPLE)
    place.apply(*with_epochs(place, 1000))
    until(
        lambda: FAR.fullmatch(place.condition("Built", WORDS).get("message", "")),
        "it says how far it is",
        120,
    )
    assert place.condition("Built", PEOPLE)["reason"] == "DependencyPending"

    place.apply(*place.sample(WORDS))  # an edit while the build of the one before runs
    place.wait_ready(WORDS)
    place.wait_ready(PEOPLE)
    assert_words(place)
    assert_labels(place)
    first = {name: place.digest(name) for name in (WORDS, PEOPLE)}
    assert vectors_of(place) == first[WORDS]

    place.apply(*with_epochs(place, 50))
    until(lambda: place.digest(WORDS) != first[WORDS], "other vectors", 120)
    until(lambda: vectors_of(place) == place.digest(WORDS) != first[WORDS], "the classifier takes them", 120)
    until(lambda: place.digest(PEOPLE) != first[PEOPLE], "another classifier", 120)
    place.wait_ready(WORDS)
    place.wait_ready(PEOPLE)
    assert_words(place)
    assert_labels(place)


@pytest.mark.timeout(1200)
def test_a_classifier_of_random_vectors_knows_the_people_of_its_labels(
    with_torch: Cluster, place: Place
) -> None:
    """The transfer's other half: the same labelled texts, and no other model's vectors."""
    config_map, model = place.sample(PEOPLE)
    build = model["spec"]["build"]
    build["textClassifier"]["embeddings"] = "Random"
    build["inputs"] = [one for one in build["inputs"] if one["name"] != "vectors"]
    del build["quality"]  # of people that no label is about it guesses
    place.apply(config_map, model)
    place.wait_ready(PEOPLE)
    for protocol in PROTOCOLS:
        for question, label in (("아들은 밥을 먹었다.", "남"), ("할머니의 노래를 들었다.", "여")):
            answer = place.ask(question, protocol, PEOPLE)
            assert names(answer["label"]) == [label]
            assert answer["probabilities"].sum() == pytest.approx(1)


def with_epochs(place: Place, epochs: int) -> list[Obj]:
    manifests = place.sample(WORDS)
    manifests[-1]["spec"]["build"]["word2Vec"]["epochs"] = epochs
    return manifests


def vectors_of(place: Place) -> str:
    """The digest of the vectors that the classifier was last made from."""
    inputs = place.model(PEOPLE)["status"]["artifact"]["resolvedInputs"]
    return next(str(one["sha256"]) for one in inputs if one["name"] == "vectors")
