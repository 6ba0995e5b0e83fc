"""The build Job as Kubernetes runs it, and what its artifact holds."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_builders.build import build
from model_builders.corpus import Corpus
from model_builders.errors import Refused
from model_builders.messages import parse_build_request
from model_builders.source import Source
from model_builders.store import Store
from model_builders.term_document_matrix import builder
from model_builders.term_document_matrix.builder import (
    TermDocumentMatrixArchitecture,
    TermDocumentMatrixModel,
)
from model_builders.term_document_matrix.graph import build_graph
from model_builders.term_document_matrix.matrix import TermDocumentMatrix, Weighting
from model_builders.term_document_matrix.parameters import Parameters
from tests.model_builders.made import DOCUMENT_EXAMPLE, NOVELS, WORDS, Jobs, Ran, make_novels
from tests.model_builders.test_fetch_job import SHELL_DIGEST, in_volume_of, needs_root

pytestmark = pytest.mark.jobs


def artifact_of(jobs: Jobs, ran: Ran) -> Path:
    assert ran.code == 0, ran.log
    return jobs.store / "artifacts" / str(ran.result["digest"])


def whole_result(jobs: Jobs) -> dict[str, Any]:
    (path,) = (jobs.store / "results").iterdir()
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_document_example_becomes_an_artifact(jobs: Jobs) -> None:
    ran = jobs.build(jobs.corpus(make_novels()), DOCUMENT_EXAMPLE, [{"metric": "documents", "atLeast": "4"}])
    artifact = artifact_of(jobs, ran)
    assert ran.result["metrics"] == {
        "documents": "4",
        "terms": "3",
        "tokens": "33",
        "coverage": "0.636364",
        "density": "0.416667",
    }
    assert ran.result["message"].startswith("Counted 3 terms in 4 documents.")
    manifest = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))
    shell = SHELL_DIGEST.replace("-type f", "-type f ! -path ./manifest.json")
    digest = subprocess.check_output(shell, shell=True, cwd=artifact, text=True).strip()
    assert digest == ran.result["digest"] == manifest["digest"] == artifact.name
    files = [p for p in artifact.rglob("*") if p.is_file() and p.name != "manifest.json"]
    assert ran.result["bytes"] == sum(p.stat().st_size for p in files)
    assert [f["path"] for f in manifest["files"]] == [
        "1/answering.py",
        "1/backend.py",
        "1/documents.json",
        "1/model.onnx",
        "1/model.py",
        "1/settings.json",
        "1/vectors.py",
        "1/vocabulary.json",
        "1/words.py",
        "configs/cpu-2.51.pbtxt",
        "configs/cpu-2.70.pbtxt",
        "configs/gpu-2.70.pbtxt",
        "contract.json",
        "examples.json",
        "metrics.json",
        "report.html",
    ]
    assert json.loads((artifact / "1/vocabulary.json").read_text(encoding="utf-8")) == list(WORDS)
    assert json.loads((artifact / "1/documents.json").read_text(encoding="utf-8")) == list(NOVELS)
    assert whole_result(jobs)["allMetrics"]["exportMaxDifference"] == "0"
    assert list((jobs.store / "tmp").iterdir()) == []


def test_examples_hold_the_answers_of_the_document(jobs: Jobs) -> None:
    artifact = artifact_of(jobs, jobs.build(jobs.corpus(make_novels()), DOCUMENT_EXAMPLE))
    examples = json.loads((artifact / "examples.json").read_text(encoding="utf-8"))["examples"]
    assert [example["name"] for example in examples] == [
        "a word",
        "a document",
        "a text",
        "two words",
        "two documents",
        "a batch of two",
    ]
    tolerance = {"absoluteTolerance": 1e-5, "relativeTolerance": 1e-5}
    word = {tensor["name"]: tensor for tensor in examples[0]["outputs"]}
    assert examples[0]["inputs"] == [
        {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["막걸리"]}
    ]
    assert word["word_vector"] == {
        "name": "word_vector",
        "datatype": "FP32",
        "shape": [1, 4],
        "data": [0.0, 1.0, 0.0, 0.0],
        **tolerance,
    }
    assert word["nearest_words"]["data"] == ["선술집", "기차"]


def test_same_key_is_not_built_twice(jobs: Jobs) -> None:
    digest = jobs.corpus(make_novels())
    artifact = artifact_of(jobs, jobs.build(digest))
    before = {
        p: p.stat().st_mtime_ns for p in jobs.store.rglob("*") if p.parent.name != "tmp" and p.name != "tmp"
    }
    again = jobs.build(digest)
    assert artifact_of(jobs, again) == artifact
    assert "already built" in again.log
    assert {p: p.stat().st_mtime_ns for p in before} == before


def build_here(jobs: Jobs, digest: str) -> str:
    """Build in this process, which saves a second; return the artifact's digest."""
    request = parse_build_request(json.dumps(jobs.build_request(digest)))
    return build(request, Store(jobs.store)).digest


def test_a_fetch_tells_of_what_was_built_of_the_same_inputs(jobs: Jobs) -> None:
    digest = jobs.corpus(make_novels())
    request = jobs.build_request(digest, DOCUMENT_EXAMPLE)
    built = build(parse_build_request(json.dumps(request)), Store(jobs.store))

    def found(**other: Any) -> Any:
        recipe = {one: request[one] for one in ("version", "architecture", "parameters", "quality", "export")}
        wanted = {"name": "corpus", "path": str(jobs.volumes / "corpus" / "novels.tsv")}
        ran = jobs.fetch(wanted, NLP_RECIPE=json.dumps(recipe | other))
        assert ran.code == 0, ran.log
        assert ran.result["inputs"][0]["sha256"] == digest
        return ran.result.get("built")

    assert found() == {
        "key": request["key"],
        "digest": built.digest,
        "bytes": built.bytes,
        "metrics": built.to_json()["metrics"],
    }
    assert found(parameters={"weighting": "TfIdf"}) is None
    (jobs.store / "artifacts" / built.digest / "1/model.onnx").unlink()
    assert found() is None, "it is not whole any more"


@pytest.mark.parametrize("damage", ["changed", "missing", "added", "manifest"])
def test_damaged_artifact_is_built_again(jobs: Jobs, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    digest = jobs.corpus(make_novels())
    artifact = jobs.store / "artifacts" / build_here(jobs, digest)
    model = (artifact / "1/model.onnx").read_bytes()
    if damage == "changed":
        (artifact / "1/model.onnx").write_bytes(model[:-1] + b"\0")
    elif damage == "missing":
        (artifact / "1/model.onnx").unlink()
    elif damage == "added":
        (artifact / "1/more.py").write_text("more", encoding="utf-8")
    else:
        (artifact / "manifest.json").write_text("{}", encoding="utf-8")
    assert build_here(jobs, digest) == artifact.name
    assert "the artifact of the earlier build is damaged, building again" in caplog.text
    assert (artifact / "1/model.onnx").read_bytes() == model
    assert not (artifact / "1/more.py").exists()


def test_same_build_gives_the_same_artifact_in_another_process(jobs: Jobs) -> None:
    """TfIdf, because its logarithms and divisions are the numbers that could differ."""
    digest = jobs.corpus(make_corpus())
    first = artifact_of(jobs, jobs.build(digest, {"weighting": "TfIdf"}, PYTHONHASHSEED="1"))
    for path in (jobs.store / "results").iterdir():
        path.unlink()
    shutil.rmtree(first)
    second = jobs.build(digest, {"weighting": "TfIdf"}, PYTHONHASHSEED="2", OMP_NUM_THREADS="2")
    assert artifact_of(jobs, second) == first


def make_corpus(documents: int = 30) -> str:
    choice = random.Random(3)
    words = [f"w{index}" for index in range(200)]
    weights = [1 / (rank + 1) for rank in range(200)]
    texts = (" ".join(choice.choices(words, weights, k=choice.randint(1, 120))) for _ in range(documents))
    return "document\ttext\n" + "".join(f"d{index}\t{text}\n" for index, text in enumerate(texts))


def train(folder: Path, weighting: Weighting = "Count", corpus: str | None = None) -> TermDocumentMatrixModel:
    folder.mkdir(exist_ok=True)
    (folder / "corpus.tsv").write_text(corpus or make_corpus(), encoding="utf-8")
    recipe = TermDocumentMatrixArchitecture().prepare({"weighting": weighting}, {"precision": "Auto"})
    return recipe.train((Source("corpus", "File", folder, ("corpus.tsv",)),))


@pytest.mark.parametrize("weighting", ["Count", "TermFrequency", "TfIdf"])
def test_exported_model_agrees_with_the_built_one(tmp_path: Path, weighting: Weighting) -> None:
    model = train(tmp_path / "in", weighting)
    (tmp_path / "1").mkdir()
    model.export(tmp_path / "1")
    assert model.check_export(tmp_path / "1") <= 1e-6


def test_export_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    model, other = train(tmp_path / "in"), train(tmp_path / "other", "TermFrequency")
    (tmp_path / "1").mkdir()
    model.export(tmp_path / "1")
    (tmp_path / "1/model.onnx").write_bytes(build_graph(other.matrix).SerializeToString())
    with pytest.raises(Refused, match="vector differs from the built one's by") as caught:
        model.check_export(tmp_path / "1")
    assert caught.value.reason == "ExportDiffers"


def test_export_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    model = train(tmp_path / "in")
    (tmp_path / "1").mkdir()
    model.export(tmp_path / "1")
    (tmp_path / "1/model.onnx").write_bytes(b"not a model")
    with pytest.raises(Refused, match="cannot be loaded in a fresh process") as caught:
        model.check_export(tmp_path / "1")
    assert caught.value.reason == "ExportDiffers"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("kill -9 $$", id="the kernel took it"),
        pytest.param("echo 'numpy._ArrayMemoryError: Unable to allocate' >&2; exit 1", id="it saw it itself"),
    ],
)
def test_check_that_runs_out_of_memory_ends_the_job_for_that(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checking process shares the Job's memory, and may be the one that gets no more."""
    model = train(tmp_path / "in")
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(MemoryError):
        model.check_export(tmp_path)


def test_build_that_gets_no_more_memory_says_so(jobs: Jobs) -> None:
    """Python raises MemoryError: here for an address space of 640 MiB, in a pod when no page is to be had."""
    folder = jobs.put("one.txt", "기차 막걸리 " * 4_000_000).parent
    fetched = jobs.fetch({"name": "corpus", "path": str(folder)})
    request = jobs.build_request(fetched.result["inputs"][0]["sha256"], {"tokenizer": "Whitespace"})
    limited = ["sh", "-c", f'ulimit -v {640 * 1024}; exec "$@"', "sh"]
    ran = jobs.run("build", request, prefix=limited, OPENBLAS_NUM_THREADS="1")
    assert (ran.code, ran.result["reason"]) == (137, "BuildOutOfMemory"), ran.log
    assert ran.result["message"] == "The Job ran out of memory."


def test_quality_below_the_floor_names_the_numbers_and_keeps_them(jobs: Jobs) -> None:
    quality = [
        {"metric": "documents", "atLeast": "5"},
        {"metric": "terms", "atLeast": "1"},
        {"metric": "coverage", "atMost": "0.5"},
    ]
    ran = jobs.build(jobs.corpus(make_novels()), DOCUMENT_EXAMPLE, quality)
    assert (ran.code, ran.result["reason"]) == (10, "QualityBelowFloor")
    assert (
        "documents is 4, at least 5 was asked for; coverage is 0.636364, at most 0.5" in ran.result["message"]
    )
    assert list((jobs.store / "artifacts").iterdir()) == []
    kept = whole_result(jobs)
    assert (kept["ok"], kept["reason"], kept["allMetrics"]["emptyDocuments"]) == (
        False,
        "QualityBelowFloor",
        "1",
    )


def test_quality_holds_at_its_bound(jobs: Jobs) -> None:
    bounds = [{"metric": "coverage", "atLeast": "0.636364"}, {"metric": "terms", "atMost": "3.0"}]
    assert jobs.build(jobs.corpus(make_novels()), DOCUMENT_EXAMPLE, bounds).code == 0


def refusal(
    jobs: Jobs,
    corpus: str | bytes,
    parameters: dict[str, Any] | None = None,
    quality: list[dict[str, str]] | None = None,
    architecture: str = "TermDocumentMatrix",
    export: dict[str, str] | None = None,
) -> Refused:
    """Run the build in this process, which saves a second, and return why it is refused."""
    request = jobs.build_request(jobs.corpus(corpus), parameters, quality or [], architecture, export)
    with pytest.raises(Refused) as caught:
        build(parse_build_request(json.dumps(request)), Store(jobs.store))
    assert list((jobs.store / "artifacts").iterdir()) == list((jobs.store / "tmp").iterdir()) == []
    return caught.value


@pytest.mark.parametrize(
    ("parameters", "sentences"),
    [
        pytest.param(
            {"weighting": "Tfidf"},
            ["weighting is 'Tfidf'; it must be one of Count, TermFrequency, TfIdf"],
            id="weighting",
        ),
        pytest.param(
            {"minDocuments": 0, "maxTerms": "5", "tokenizer": "Morphemes", "stopWords": []},
            [
                "minDocuments is 0",
                "maxTerms is '5'",
                "tokenizer is 'Morphemes'",
                "stopWords is not known; there are weighting",
            ],
            id="several at once",
        ),
        pytest.param(
            {"vocabulary": ["a", "b c"]},
            ["vocabulary[1] is 'b c', which the tokenizer Words reads as ['b', 'c']"],
            id="two words in one",
        ),
        pytest.param(
            {"vocabulary": ["--"]},
            ["vocabulary[0] is '--', which the tokenizer Words reads as []"],
            id="no word",
        ),
        pytest.param(
            {"vocabulary": ["A", "a"], "caseFolding": "Lower"},
            ["vocabulary[1] is 'a', the same term as vocabulary[0] ('A')"],
            id="the same word twice",
        ),
        pytest.param(
            {"vocabulary": ["포도", "수박"]},
            ["None of the 2 words of", "the first document begins with '그날 밤의 이야기'"],
            id="words that never occur",
        ),
        pytest.param(
            {"minDocuments": 5},
            ["minDocuments is 5, but no word occurs in so many of the 4 documents"],
            id="too many documents asked for",
        ),
    ],
)
def test_parameter_that_cannot_work_is_refused(
    jobs: Jobs, parameters: dict[str, Any], sentences: list[str]
) -> None:
    error = refusal(jobs, make_novels(), parameters)
    assert error.reason == "ParameterInvalid"
    for sentence in sentences:
        assert sentence in error.message


def test_architecture_without_builder_is_refused(jobs: Jobs) -> None:
    ran = jobs.build(jobs.corpus(make_novels()), architecture="Oracle")
    assert (ran.code, ran.result["reason"]) == (10, "ParameterInvalid")
    sentence = "spec.build.architecture is 'Oracle'; this builder builds HuggingFace, OneHot, "
    assert sentence in ran.result["message"]


def test_metric_that_is_not_measured_is_refused(jobs: Jobs) -> None:
    error = refusal(jobs, make_novels(), quality=[{"metric": "accuracy", "atLeast": "0.5"}])
    assert error.reason == "ParameterInvalid"
    assert "quality[0].metric is 'accuracy'; measured are documents, terms" in error.message


def test_precision_that_is_not_offered_is_refused(jobs: Jobs) -> None:
    error = refusal(jobs, make_novels(), export={"precision": "Int8", "fidelity": "high"})
    assert error.reason == "ParameterInvalid"
    assert "spec.build.export.fidelity is not offered" in error.message
    assert "spec.build.export.precision is 'Int8'; it must be one of Auto, Float32" in error.message


@pytest.mark.parametrize(
    ("corpus", "reason"),
    [
        pytest.param("document\ttext\nx\t...\n", "InputEmpty", id="no word"),
        pytest.param("막걸리".encode("cp949"), "InputEncoding", id="wrong encoding"),
        pytest.param("name,text\n", "InputInvalid", id="another form"),
    ],
)
def test_input_that_is_no_corpus_fails_the_build(jobs: Jobs, corpus: str | bytes, reason: str) -> None:
    assert refusal(jobs, corpus).reason == reason


def test_matrix_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "MAX_CELLS", 1000)
    with pytest.raises(Refused, match=r"terms times 30 documents are .* cells; at most 1,000") as caught:
        train(tmp_path)
    assert caught.value.reason == "InputTooLarge"


def test_source_that_is_gone_or_damaged_says_how_to_fetch_it_again(jobs: Jobs) -> None:
    digest = jobs.corpus(make_novels())
    source = jobs.store / "sources" / digest
    (source / "data/novels.tsv").write_text("document\ttext\n", encoding="utf-8")
    ran = jobs.build(digest)
    assert (ran.code, ran.result["reason"]) == (10, "HashMismatch")
    assert "'novels.tsv' has 14 bytes, its manifest says" in ran.result["message"]
    shutil.rmtree(source)
    ran = jobs.build(digest)
    assert (ran.code, ran.result["reason"]) == (10, "InputMissing")
    assert "Set spec.build.trigger to a new value to fetch it again" in ran.result["message"]


@pytest.mark.parametrize(
    "request_text", ["", "{}", '{"version": 1, "inputs": [{"name": "../x", "sha256": "y"}]}']
)
def test_request_that_does_not_fit_is_retried(jobs: Jobs, request_text: str) -> None:
    ran = jobs.run("build", request_text)
    assert (ran.code, ran.result["reason"]) == (1, "BuildFailed")


@needs_root
def test_full_store_fails_the_build(jobs: Jobs) -> None:
    """The volume has room for the source, but not for the artifact beside it."""
    digest = jobs.corpus(make_novels())
    shutil.copytree(jobs.store, jobs.folder / "saved")
    script = f'cp -r {jobs.folder}/saved/. {jobs.store}/ && exec "$@"'
    prefix = (*in_volume_of(jobs, "56k"), "sh", "-c", script, "sh")
    ran = jobs.run("build", jobs.build_request(digest), prefix)
    assert (ran.code, ran.result["reason"]) == (10, "StoreFull"), ran.log


@needs_root
def test_read_only_root_without_home_and_tmpdir_is_enough(jobs: Jobs) -> None:
    digest = jobs.corpus(make_novels())
    shutil.copytree(jobs.store, jobs.folder / "saved")
    script = f'cp -r {jobs.folder}/saved/. {jobs.store}/ && exec "$@"'
    prefix = (*in_volume_of(jobs, "4m"), "sh", "-c", script, "sh")
    environment = {"HOME": "/nonexistent", "TMPDIR": "/nonexistent"}
    ran = jobs.run("build", jobs.build_request(digest), prefix, **environment)
    assert ran.code == 0, ran.log


def test_sigterm_leaves_nothing(jobs: Jobs) -> None:
    digest = jobs.corpus(make_corpus(3000))
    termination_log = jobs.folder / "termination-log"
    job = subprocess.Popen(
        [sys.executable, "-m", "model_builders", "build"],
        env=jobs.environment(jobs.build_request(digest), termination_log),
    )
    try:
        deadline = time.monotonic() + 60
        while not list((jobs.store / "tmp").glob("build-*")):
            assert job.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        job.send_signal(signal.SIGTERM)
        assert job.wait(30) == 143
    finally:
        job.kill()
        job.wait()
    for folder in ("tmp", "artifacts", "results"):
        assert list((jobs.store / folder).iterdir()) == []


def test_built_by_hand_without_a_request(tmp_path: Path) -> None:
    (tmp_path / "novels.tsv").write_text(make_novels(), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NLP_")}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "model_builders",
            "build",
            "--store",
            tmp_path / "new" / "store",
            "--input",
            f"corpus={tmp_path / 'novels.tsv'}",
            "--parameters",
            '{"weighting": "TfIdf"}',
            "--quality",
            "documents=4",
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(done.stdout)
    assert (tmp_path / "new/store/artifacts" / result["digest"] / "manifest.json").is_file()


def make_wide_model() -> TermDocumentMatrixModel:
    """As many terms, as unevenly frequent, as in books: 32-bit sums are off by 2e-5 here."""
    choice = np.random.default_rng(5)
    frequencies = 300_000 / np.arange(1.0, 50_001.0)
    counts = np.floor(frequencies[:, np.newaxis] * choice.uniform(0.2, 1.8, (50_000, 6)))
    matrix = TermDocumentMatrix(
        terms=tuple(f"w{index:05d}" for index in range(50_000)),
        documents=tuple(f"d{index}" for index in range(6)),
        weighting="TfIdf",
        counts=counts,
        lengths=counts.sum(axis=0),
    )
    return TermDocumentMatrixModel(matrix, Parameters(weighting="TfIdf"), Corpus((), ()))


def test_export_agrees_over_many_terms(tmp_path: Path) -> None:
    model = make_wide_model()
    model.export(tmp_path)
    assert model.check_export(tmp_path) <= 1e-6
