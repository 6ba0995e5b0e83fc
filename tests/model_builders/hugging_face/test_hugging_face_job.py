"""The real build Job, with torch and transformers: folders of every task, and those that are refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.model_builders.hugging_face.folders import PARAMETERS, Kind, build, built, folder_of
from tests.model_builders.hugging_face.rows import animal_pairs, mood_texts
from tests.model_builders.made import Jobs, make_jobs
from tests.model_builders.torch_jobs import python_with_torch

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(900)]  # the first time, torch is downloaded


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("kind", "message", "files"),
    [
        pytest.param(
            "moods",
            "Gives texts of up to 48 tokens 2 labels (BertForSequenceClassification).",
            {"model.onnx"},
            id="a classifier",
        ),
        pytest.param(
            "animals",
            "Translates texts of up to 64 tokens (MarianMTModel, a beam of 4).",
            {"encoder.onnx", "decoder.onnx", "vocabulary.json"},
            id="Marian",
        ),
        pytest.param(
            "digits",
            "Translates texts of up to 64 tokens (T5ForConditionalGeneration, greedy).",
            {"encoder.onnx", "decoder.onnx"},
            id="T5",
        ),
    ],
)
def test_a_folder_becomes_an_artifact_that_a_fresh_process_answers_from(
    kind: Kind, message: str, files: set[str]
) -> None:
    """That it gives what torch gives, and of a translator what `generate` gives, the Job itself checks."""
    found = built(kind)
    assert found.result["message"].startswith(message)
    assert 0 < float(found.result["metrics"]["exportMaxDifference"]) <= 1e-5
    version = found.artifact / "1"
    served = {path.name for path in version.iterdir() if path.suffix != ".py"}
    assert served == files | {"settings.json", "tokenizer.json"}
    for path in version.glob("*.onnx"):
        content = path.read_bytes()
        assert b"site-packages" not in content
        assert b"hugging_face" not in content


def test_the_contract_and_the_examples_are_those_of_the_task() -> None:
    contract, examples = (read(built("names").artifact / f"{name}.json") for name in ("contract", "examples"))
    assert [one["name"] for one in contract["inputs"]] == ["text"]
    assert [one["name"] for one in contract["outputs"]] == [
        *(f"{of}{what}" for of in ("token", "entity") for what in ("", "_label", "_score", "_start", "_end")),
        "truncated",
    ]
    assert [one["name"] for one in examples["examples"]] == ["a text", "another text", "a batch of two"]
    beam = read(built("animals").artifact / "examples.json")["examples"][1]
    sizes = {one["name"]: one["data"] for one in beam["inputs"]}
    assert (beam["name"], sizes["beam_size"]) == ("a beam", [4])


def table(rows: list[tuple[str, str]], header: str) -> str:
    return "\n".join((header, *("\t".join(row) for row in rows))) + "\n"


def test_texts_that_the_model_has_not_seen_measure_it_and_are_what_the_report_shows(tmp_path: Path) -> None:
    test = tmp_path / "test.tsv"
    test.write_text(table(mood_texts()[-40:], "text\tlabel"), encoding="utf-8")
    jobs = make_jobs(tmp_path)
    quality = ({"metric": "accuracy", "atLeast": "0.95"},)
    ran = build(jobs, {"weights": folder_of("moods"), "test": test}, PARAMETERS["moods"], quality)
    assert ran.code == 0, ran.log
    assert float(ran.result["metrics"]["accuracy"]) >= 0.95
    report = (jobs.store / "artifacts" / ran.result["digest"] / "report.html").read_text(encoding="utf-8")
    assert mood_texts()[-40][0] in report
    assert "<h2>Confusion</h2>" in report


def test_a_translation_that_is_not_the_tests_fails_the_build_with_the_number(tmp_path: Path) -> None:
    rows = [*animal_pairs()[-9:], ("The red cat sees the old dog.", "고양이")]
    test = tmp_path / "test.tsv"
    test.write_text(table(rows, "source\ttarget"), encoding="utf-8")
    quality = ({"metric": "exactMatch", "atLeast": "0.95"},)
    inputs = {"weights": folder_of("animals"), "test": test}
    ran = build(make_jobs(tmp_path), inputs, PARAMETERS["animals"], quality)
    assert (ran.code, ran.result["reason"]) == (10, "QualityBelowFloor")
    assert "exactMatch is 0.9, at least 0.95 was asked for" in ran.result["message"]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        pytest.param(
            ("", "고양이"),
            "line 10 has nothing in the column source; a pair needs both of its sides.",
            id="no source",
        ),
        pytest.param(
            ("The cat.", " "),
            "line 10 has nothing in the column target; a pair needs both of its sides.",
            id="no target",
        ),
        pytest.param(
            ("The red cat sees the old dog. " * 100, "고양이"),
            "line 10: text has 2,201 tokens; this model reads at most 64. Ask part by part, or build "
            "the model with longTexts: Truncate.",
            id="a hundred times longer",
        ),
    ],
)
def test_bad_pairs_to_measure_by_are_refused_with_their_line(
    tmp_path: Path, row: tuple[str, str], sentence: str
) -> None:
    test = tmp_path / "test.tsv"
    test.write_text(table([*animal_pairs()[-8:], row], "source\ttarget"), encoding="utf-8")
    inputs = {"weights": folder_of("animals"), "test": test}
    ran = build(make_jobs(tmp_path), inputs, PARAMETERS["animals"])
    assert (ran.code, ran.result["reason"]) == (10, "InputInvalid")
    assert sentence in ran.result["message"]


UNDECIDED = """
import pathlib, sys
from safetensors.torch import load_file, save_file
path = pathlib.Path(sys.argv[1]) / "model.safetensors"
weights = load_file(path)
for name in ("classifier.weight", "classifier.bias"):
    weights[name].zero_()
save_file(weights, path, {"format": "pt"})
"""


def test_a_model_that_decides_nothing_is_held_to_what_does_not_depend_on_it(
    jobs: Jobs, tmp_path: Path
) -> None:
    """All labels are equally probable: another processor may say another."""
    folder = tmp_path / "undecided"
    shutil.copytree(folder_of("names"), folder)
    subprocess.run([str(python_with_torch()), "-c", UNDECIDED, str(folder)], check=True)
    ran = build(jobs, {"weights": folder}, PARAMETERS["names"])
    assert ran.code == 0, ran.log
    examples = read(jobs.store / "artifacts" / ran.result["digest"] / "examples.json")["examples"]
    assert {one["name"] for example in examples for one in example["outputs"]} == {"token_start", "token_end"}


def rewritten(name: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        content = read(folder / name)
        change(content)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")

    return rewrite


@pytest.mark.parametrize(
    ("kind", "change", "sentence"),
    [
        pytest.param(
            "names",
            rewritten("config.json", lambda config: config.update(num_hidden_layers=3)),
            "the safetensors hold no 'bert.encoder.layer.2.",
            id="weights of another model",
            marks=pytest.mark.release,
        ),
        pytest.param(
            "digits",
            lambda folder: (folder / "tokenizer.json").write_text("{}"),
            "makes no tokenizer of tokenizer.json",
            id="a tokenizer that is none",
        ),
        pytest.param(
            "animals",
            lambda folder: (folder / "source.spm").write_bytes(b"\x0a\xff\xff"),
            "source.spm is no model of sentencepiece.",
            id="pieces that are none",
        ),
        pytest.param(
            "animals",
            rewritten("vocab.json", lambda pieces: pieces.pop("</s>")),
            "vocab.json must give each piece a number, from 0 on, and does not.",
            id="a vocabulary with a gap",
        ),
        pytest.param(
            "animals",
            rewritten("generation_config.json", lambda settings: settings.update(repetition_penalty=1.5)),
            "asks for repetition_penalty: 1.5, which is not served.",
            id="settings that are not served",
            marks=pytest.mark.release,
        ),
    ],
)
def test_a_folder_that_cannot_be_served_as_transformers_has_it_is_refused(
    jobs: Jobs, tmp_path: Path, kind: Kind, change: Callable[[Path], None], sentence: str
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(folder_of(kind), folder)
    change(folder)
    ran = build(jobs, {"weights": folder}, PARAMETERS[kind])
    assert (ran.code, ran.result["reason"]) == (10, "InputInvalid")
    assert sentence in ran.result["message"]


def test_weights_as_a_pickle_alone_are_refused_before_anything_is_copied(jobs: Jobs, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(folder_of("moods"), folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    jobs.volumes.mkdir(parents=True, exist_ok=True)
    (jobs.volumes / "weights").symlink_to(folder)
    ran = jobs.fetch({"name": "weights", "path": str(jobs.volumes / "weights")})
    assert (ran.code, ran.result["reason"]) == (10, "InputRefused")
    assert "pytorch_model.bin" in ran.result["message"]


@pytest.mark.release
def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        ran = build(make_jobs(tmp_path / name), {"weights": folder_of("animals")}, PARAMETERS["animals"])
        assert ran.code == 0, ran.log
        digests.add(ran.result["digest"])
    assert len(digests) == 1
