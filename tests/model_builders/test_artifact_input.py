"""An input that is another model's artifact, through both Jobs as Kubernetes runs them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from model_builders.messages import InputOfBuild, build_key
from model_builders.term_document_matrix.served.answering import Question, load
from tests.model_builders.made import WORDS, Jobs, Ran, make_novels, request_of_build

pytestmark = pytest.mark.jobs

SAMPLE = Path(__file__).resolve().parents[2] / "manifests/samples/shared-vocabulary.yaml"
REVIEWS = "document\ttext\n어제\t기차 소리 선술집\n오늘\t막걸리 막걸리 기차\n"
WHITESPACE = {"tokenizer": "Whitespace"}
ABSENT = "f" * 64


def build_words(jobs: Jobs) -> str:
    """The model whose vocabulary others take: 기차, 막걸리, 선술집. Returns its digest."""
    ran = jobs.build(jobs.corpus(make_novels()), {**WHITESPACE, "vocabulary": list(WORDS)})
    assert ran.code == 0, ran.log
    return str(ran.result["digest"])


def fetch(jobs: Jobs, artifact: str, sha256: str = "") -> Ran:
    return jobs.fetch({"name": "words", "artifact": artifact, "sha256": sha256})


def build(jobs: Jobs, *inputs: InputOfBuild, **parameters: Any) -> Ran:
    return jobs.run("build", request_of_build(inputs, parameters=WHITESPACE | parameters))


def words_of(digest: str, name: str = "words") -> InputOfBuild:
    return InputOfBuild(name, digest, "Artifact")


def corpus_of(jobs: Jobs) -> InputOfBuild:
    return InputOfBuild("corpus", jobs.corpus(REVIEWS))


def read(jobs: Jobs, ran: Ran, file: str) -> Any:
    assert ran.code == 0, ran.log
    return json.loads((jobs.store / "artifacts" / ran.result["digest"] / file).read_text(encoding="utf-8"))


def test_fetch_finds_the_artifact_where_it_is_and_copies_nothing(jobs: Jobs) -> None:
    digest = build_words(jobs)
    folder = jobs.store / "artifacts" / digest
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    sources = list((jobs.store / "sources").iterdir())
    ran = fetch(jobs, digest)
    size = sum(path.stat().st_size for path in files)
    assert ran.result["inputs"] == [
        {"name": "words", "sha256": digest, "kind": "Artifact", "files": len(files), "bytes": size}
    ]
    assert list((jobs.store / "sources").iterdir()) == sources


def test_documents_of_another_corpus_are_counted_in_the_words_of_the_first(jobs: Jobs) -> None:
    digest = build_words(jobs)
    ran = build(jobs, corpus_of(jobs), words_of(digest))
    assert read(jobs, ran, "1/vocabulary.json") == list(WORDS)
    assert read(jobs, ran, "1/documents.json") == ["어제", "오늘"]
    examples = read(jobs, ran, "examples.json")["examples"]
    document = next(one for one in examples if one["name"] == "a document")
    vectors = {one["name"]: one["data"] for one in document["outputs"]}
    asked = document["inputs"][0]["data"][0]
    assert vectors["document_vector"] == {"어제": [1, 0, 1], "오늘": [1, 2, 0]}[asked]
    assert read(jobs, ran, "manifest.json")["inputs"][1] == {
        "name": "words",
        "sha256": digest,
        "kind": "Artifact",
    }


def test_sample_counts_the_second_corpus_in_the_words_of_the_first(jobs: Jobs) -> None:
    objects = list(yaml.safe_load_all(SAMPLE.read_text(encoding="utf-8")))
    texts = {one["metadata"]["name"]: next(iter(one["data"].values())) for one in objects if "data" in one}
    first = build(jobs, InputOfBuild("corpus", jobs.corpus(texts["station-words"])))
    corpus = InputOfBuild("corpus", jobs.corpus(texts["reviews"]))
    second = build(jobs, corpus, words_of(first.result["digest"], "vocabulary"))
    assert second.code == 0, second.log
    found = [load(jobs.store / "artifacts" / ran.result["digest"] / "1") for ran in (first, second)]
    assert found[0].terms == found[1].terms
    (review,) = found[1].answer([Question("첫째")])
    counted = [found[1].terms[at] for at in review.document_vector.nonzero()[0]]
    assert counted == ["기차", "를", "마셨다", "막걸리", "에서"]


def test_order_of_the_inputs_does_not_matter_to_the_model(jobs: Jobs) -> None:
    digest, corpus = build_words(jobs), corpus_of(jobs)
    first = build(jobs, corpus, words_of(digest))
    second = build(jobs, words_of(digest), corpus)
    assert first.result["key"] != second.result["key"]
    assert first.result["digest"] == second.result["digest"]


def test_another_vocabulary_makes_another_key_and_another_model(jobs: Jobs) -> None:
    corpus = corpus_of(jobs)
    other = jobs.build(jobs.corpus(make_novels()), {**WHITESPACE, "vocabulary": ["기차", "이야기"]})
    found = [build(jobs, corpus, words_of(digest)) for digest in (build_words(jobs), other.result["digest"])]
    assert found[0].result["key"] != found[1].result["key"]
    assert read(jobs, found[1], "1/vocabulary.json") == ["기차", "이야기"]


def test_artifact_and_source_of_the_same_digest_are_different_builds() -> None:
    inputs = [InputOfBuild("a", ABSENT)], [InputOfBuild("a", ABSENT, "Artifact")]
    assert build_key("X", {}, [], {}, inputs[0]) != build_key("X", {}, [], {}, inputs[1])


def test_artifact_that_is_not_in_the_store_is_refused(jobs: Jobs) -> None:
    jobs.corpus(REVIEWS)
    ran = fetch(jobs, ABSENT)
    assert (ran.code, ran.result["reason"]) == (10, "InputMissing")
    assert ran.result["message"].startswith(f"Input 'words': the artifact {ABSENT} is not in the store")


def test_artifact_that_is_damaged_is_refused_by_both_jobs(jobs: Jobs) -> None:
    digest, corpus = build_words(jobs), corpus_of(jobs)
    path = jobs.store / "artifacts" / digest / "1/vocabulary.json"
    path.write_text(path.read_text(encoding="utf-8").replace("기차", "기선"), encoding="utf-8")
    for ran in (fetch(jobs, digest), build(jobs, corpus, words_of(digest))):
        assert (ran.code, ran.result["reason"]) == (10, "HashMismatch")
        assert "'1/vocabulary.json' has the sha256" in ran.result["message"]


def test_pin_of_another_artifact_is_refused_with_both(jobs: Jobs) -> None:
    digest = build_words(jobs)
    ran = fetch(jobs, digest, sha256=ABSENT)
    assert (ran.code, ran.result["reason"]) == (10, "HashMismatch")
    assert digest in ran.result["message"]
    assert ABSENT in ran.result["message"]
    assert fetch(jobs, digest, sha256=digest).code == 0


REFUSED = [
    pytest.param(
        {"vocabulary": ["기차"]},
        "ParameterInvalid",
        "spec.build.termDocumentMatrix.vocabulary is set, and input 'words' is an artifact that brings its "
        "own. Take one of them away.",
        id="two vocabularies",
    ),
    pytest.param(
        {"tokenizer": "Words", "caseFolding": "Lower"},
        "ParameterInvalid",
        "spec.build.termDocumentMatrix.tokenizer is Words, but the vocabulary of input 'words' was made with "
        "Whitespace; spec.build.termDocumentMatrix.caseFolding is Lower, but the vocabulary of input 'words' "
        "was made with Preserve. Set the same here.",
        id="words cut another way",
    ),
]


@pytest.mark.parametrize(("parameters", "reason", "message"), REFUSED)
def test_vocabulary_that_does_not_fit_is_refused(
    jobs: Jobs, parameters: Mapping[str, Any], reason: str, message: str
) -> None:
    ran = build(jobs, corpus_of(jobs), words_of(build_words(jobs)), **parameters)
    assert (ran.code, ran.result["reason"], ran.result["message"]) == (10, reason, message)


def test_two_artifacts_and_artifacts_alone_are_refused(jobs: Jobs) -> None:
    digest, corpus = build_words(jobs), corpus_of(jobs)
    twice = build(jobs, corpus, words_of(digest), words_of(digest, "more"))
    assert (twice.code, twice.result["reason"]) == (10, "InputInvalid")
    assert twice.result["message"].startswith("Inputs 'words' and 'more' are artifacts;")
    alone = build(jobs, words_of(digest))
    assert (alone.code, alone.result["reason"]) == (10, "InputEmpty")


def test_artifact_of_another_architecture_is_refused(jobs: Jobs) -> None:
    digest, corpus = build_words(jobs), corpus_of(jobs)
    manifest = jobs.store / "artifacts" / digest / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"TermDocumentMatrix"', '"Word2Vec"'))
    ran = build(jobs, corpus, words_of(digest))
    assert (ran.code, ran.result["reason"], ran.result["message"]) == (
        10,
        "InputInvalid",
        "Input 'words' is an artifact of Word2Vec; TermDocumentMatrix takes artifacts of TermDocumentMatrix.",
    )


def test_words_that_none_of_the_documents_holds_are_told_with_their_input(jobs: Jobs) -> None:
    digest = build_words(jobs)
    ran = build(jobs, InputOfBuild("corpus", jobs.corpus("document\ttext\n하나\t비 눈\n")), words_of(digest))
    assert (ran.code, ran.result["reason"]) == (10, "ParameterInvalid")
    assert "None of the 3 words of input 'words' occurs in the 1 documents" in ran.result["message"]
