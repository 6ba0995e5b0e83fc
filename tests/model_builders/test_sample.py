"""The sample that the README begins with, through both Jobs and out of the artifact's own files."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from model_builders.term_document_matrix.served.answering import Answering, Question, load
from tests.model_builders.made import NOVELS, WORDS, Jobs, make_jobs
from tests.model_builders.test_fetch_job import make_config_map_volume

pytestmark = pytest.mark.jobs

SAMPLE = Path(__file__).resolve().parents[2] / "manifests/samples/korean-novels.yaml"


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Answering:
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(SAMPLE.read_text(encoding="utf-8")))
    config_map = next(document for document in documents if document["kind"] == "ConfigMap")
    build = next(document for document in documents if document["kind"] == "NLPModel")["spec"]["build"]
    jobs: Jobs = make_jobs(tmp_path_factory.mktemp("sample"))
    make_config_map_volume(jobs.volumes / "corpus", config_map["data"])
    fetched = jobs.fetch({"name": "corpus", "path": str(jobs.volumes / "corpus")})
    assert fetched.code == 0, fetched.log
    digest = fetched.result["inputs"][0]["sha256"]
    built = jobs.build(digest, build["termDocumentMatrix"], build["quality"], build["architecture"])
    assert built.code == 0, built.log
    return load(jobs.store / "artifacts" / built.result["digest"] / "1")


def test_sample_holds_the_document_example_exactly(answering: Answering) -> None:
    assert (tuple(answering.terms), tuple(answering.documents)) == (WORDS, NOVELS)
    answers = answering.answer([Question("운수 좋은 날"), Question("막걸리"), Question("기차")])
    assert answers[0].document_vector.tolist() == [2, 1, 1]
    assert answers[1].word_vector.tolist() == [0, 1, 0, 0]
    assert answers[2].word_vector.tolist() == [0, 2, 10, 7]


def test_words_of_one_novel_are_nearer_than_others(answering: Answering) -> None:
    to_bar, to_train = answering.answer([Question("막걸리", "선술집"), Question("막걸리", "기차")])
    assert to_bar.similarity == 1.0
    assert to_train.similarity == pytest.approx(0.161690, abs=1e-6)


def test_novels_that_share_the_train_are_nearer(answering: Answering) -> None:
    guest, lucky_day = answering.answer(
        [Question("사랑 손님과 어머니", "삼포 가는 길"), Question("운수 좋은 날", "삼포 가는 길")]
    )
    assert guest.similarity == 1.0
    assert lucky_day.similarity == pytest.approx(0.816497, abs=1e-6)
