"""`nlpctl simulate` takes a user's manifests and a trace; its page needs nothing else."""

from __future__ import annotations

import json
import re
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


LOADED = re.compile(r"""(src|href)\s*=\s*["'](?!#)|url\((?!["']?#)|@import|<script""")
"""Anything that a page would fetch; a drawing refers to its own parts by #."""


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
    assert {"late_share", "device_hours", "price"} <= set(said["totals"][0])
    assert {"p95_seconds", "target_seconds"} <= set(said["models"][0])
    most = {row["model"]: row["most_replicas"] for row in said["models"] if row["policy"] == "nlp-operator"}
    assert 2 <= most["first"] <= 6
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = page.read_text(encoding="utf-8")
    for title in (
        "Latency, p95 of ten minutes",
        "Requests later than their target",
        "Cost so far",
        "replicas",
    ):
        assert title in text
    assert not LOADED.search(text)


@pytest.mark.brain
def test_a_korean_name_of_a_column_is_text_in_the_page_and_never_boxes_in_the_picture(files: Path) -> None:
    trace = files / "trace.csv"
    lines = trace.read_text().splitlines()[1:]
    trace.write_text("\n".join(["day,minute,영화 리뷰,문장", *lines]) + "\n", encoding="utf-8")
    page, picture = files / "page.html", files / "picture.png"
    code, output = run(files, "-f", str(files / "pool.yaml"), "--html", str(page), "--png", str(picture))
    assert code == 0
    assert "영화 리뷰 for first, 문장 for second" in output
    assert page.read_text(encoding="utf-8").count("영화 리뷰") == 2  # above its plot, and in the notes


@pytest.mark.brain
def test_a_model_without_a_maximum_is_shown_with_one_and_told(files: Path) -> None:
    (files / "models.yaml").write_text(MODEL.format(name="first").replace("maxReplicas: 6, ", ""))
    code, output = run(files, "-f", str(files / "pool.yaml"))
    assert code == 0, output
    assert (
        "first has no spec.scaling.maxReplicas, which holds it at its 1; here it may have up to 64" in output
    )


@pytest.mark.brain
def test_pools_without_a_price_cost_device_hours(files: Path) -> None:
    (files / "pool.yaml").write_text(POOL.replace(', pricePerHour: "0.1"', ""))
    code, output = run(files, "-f", str(files / "pool.yaml"), "--json")
    assert code == 0
    assert "price" not in json.loads(output)["totals"][0]


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


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(b"", "trace.csv is empty; known are day,minute,<model>,...", id="nothing in it"),
        pytest.param(b"day,minute,a,b\n", "trace.csv has columns but no rows.", id="only a head"),
        pytest.param(
            b"day,minute,a,b\n1,0,3,x\n",
            "trace.csv: line 2 has 'x'; a number of requests is wanted.",
            id="not a number",
        ),
        pytest.param(
            b"day,minute,a,b\n1,0,3,-4\n",
            "trace.csv: line 2 has '-4'; a number of requests is wanted.",
            id="below zero",
        ),
        pytest.param(
            b"day,minute,a,b\n1,0,3\n", "trace.csv: line 2 has 3 columns; the head has 4.", id="a short row"
        ),
        pytest.param(
            b"day,minute,a,b\n1,0,3,3\n1,2,3,3\n",
            "trace.csv: day 1 has 2 rows; they must be its minutes 0 to 1.",
            id="a minute is missing",
        ),
        pytest.param(
            "day,minute,리뷰,문장\n1,0,3,3\n".encode("cp949"),
            "trace.csv is not UTF-8 text (byte 11); save it as UTF-8.",
            id="saved by a Korean spreadsheet in its old encoding",
        ),
        pytest.param(
            b"TIMESTAMP,a\nyesterday,1\n",
            "trace.csv has a row that cannot be read: Invalid isoformat string: 'yesterday'.",
            id="no time",
        ),
        pytest.param(
            b"day,minute,a\n1,0,3\n",
            "The files have 2 models and the trace has 1 columns; one is needed for each.",
            id="too few columns",
        ),
    ],
)
def test_what_is_wrong_in_a_trace_is_said(files: Path, content: bytes, sentence: str) -> None:
    (files / "trace.csv").write_bytes(content)
    code, output = run(files, "-f", str(files / "pool.yaml"))
    assert code != 0
    assert sentence in output


@pytest.mark.brain
def test_a_spreadsheet_may_have_marked_its_utf_8(files: Path) -> None:
    trace = files / "trace.csv"
    trace.write_text(trace.read_text(), encoding="utf-8-sig")
    assert run(files, "-f", str(files / "pool.yaml"))[0] == 0
