"""`nlpctl simulate` takes a user's manifests and a trace; its page needs nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from nlpctl.__main__ import cli

MODEL = """
apiVersion: nlp-operator.io/v1alpha1
kind: NLPModel
metadata: {{name: {name}}}
spec:
  build:
    architecture: TermDocumentMatrix
    termDocumentMatrix: {{}}
    inputs: [{{name: corpus, source: {{configMap: {{name: texts}}}}}}]
  scaling: {{maxReplicas: 6, latencyTarget: {{milliseconds: 500}}}}
---
"""
POOL = """
apiVersion: nlp-operator.io/v1alpha1
kind: DevicePool
metadata: {name: cpu}
spec: {device: {type: Cpu, cpu: {cores: "1"}}, memoryMebibytes: 1024, maxDevices: 9, pricePerHour: "0.1"}
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "models.yaml").write_text(MODEL.format(name="first") + MODEL.format(name="second"))
    (tmp_path / "pool.yaml").write_text(POOL)
    lines = [
        f"1,{minute},{300 + 20 * (minute % 7)},{900 if 10 < minute < 20 else 200}" for minute in range(30)
    ]
    (tmp_path / "trace.csv").write_text("\n".join(["day,minute,second,first", *lines]) + "\n")
    return tmp_path


def run(files: Path, *words: str, models: str = "models.yaml") -> tuple[int, str]:
    given = ["simulate", "-f", str(files / models), "--trace", str(files / "trace.csv"), *words]
    result = CliRunner().invoke(cli, given)
    return result.exit_code, result.output if result.exception is None else str(result.exception)


@pytest.mark.brain
def test_each_model_takes_the_column_of_its_name_and_the_page_needs_nothing_else(files: Path) -> None:
    page, picture = files / "page.html", files / "picture.png"
    code, output = run(
        files, "-f", str(files / "pool.yaml"), "--json", "--html", str(page), "--png", str(picture)
    )
    assert code == 0
    said = json.loads(output)
    assert "second for second" in said["notes"][1].replace("first for first", "second for second")
    assert next(row["policy"] for row in said["totals"]) == "nlp-operator"
    most = {row["model"]: row["most_replicas"] for row in said["models"] if row["policy"] == "nlp-operator"}
    assert 2 <= most["first"] <= 6
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = page.read_text(encoding="utf-8")
    assert "data:image/png;base64," in text
    assert "http" not in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        pytest.param((), "The files have no DevicePool; add one with -f", id="no pool"),
        pytest.param(
            ("-f", "pool.yaml", "--day", "7"), "trace.csv has no day 7; it has 1 to 1.", id="no such day"
        ),
    ],
)
def test_what_is_missing_is_said(files: Path, words: tuple[str, ...], sentence: str) -> None:
    given = [str(files / word) if word.endswith(".yaml") else word for word in words]
    code, output = run(files, *given)
    assert code != 0
    assert sentence in output
