"""`nlpctl simulate` takes a user's manifests and a trace; its page needs nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.autoscaling import preview
from nlp_operator.planning.scaling.wanted import UNDECLARED_TARGET_SECONDS
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
SPLIT = (("east", 3), ("west", 6))


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
    assert code == 0, output
    said = json.loads(output)
    assert said["notes"][1] == "The load is trace.csv: first for first, second for second."
    assert next(row["policy"] for row in said["totals"]) == "nlp-operator"
    assert {"late_share", "device_hours", "price"} <= set(said["totals"][0])
    assert {"latency_seconds", "quantile", "target_seconds"} <= set(said["models"][0])
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
    assert code == 0, output
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
def test_devices_in_two_pools_of_one_price_are_as_many_to_the_hpa(files: Path) -> None:
    one = simulated(files)
    parts = [POOL.replace("name: cpu", f"name: {name}").replace("s: 9", f"s: {n}") for name, n in SPLIT]
    (files / "pool.yaml").write_text("---".join(parts))
    two = simulated(files)
    assert [row for row in two["totals"] if "HPA" in row["policy"]] == [
        row for row in one["totals"] if "HPA" in row["policy"]
    ]
    assert "To the HPA east + west are one pool." in two["notes"]


@pytest.mark.brain
def test_the_hpa_is_shown_where_it_is_as_late_and_where_it_is_as_costly(files: Path) -> None:
    said = simulated(files)
    ours, _, as_late, as_costly = said["totals"]
    assert [row["interpolated"] for row in said["totals"]] == [False, False, True, True]
    assert as_late["late_share"] == pytest.approx(ours["late_share"])
    assert as_costly["price"] == pytest.approx(ours["price"])
    assert as_late["price"] > ours["price"]
    assert as_costly["late_share"] > ours["late_share"]
    assert not [note for note in said["notes"] if "its row" in note]
    code, output = run(files, "-f", str(files / "pool.yaml"))
    assert code == 0, output
    assert re.search(r"^HPA, as late \(interpolated\) .* -$", output, re.MULTILINE)


@pytest.mark.brain
def test_of_pools_that_differ_the_hpa_has_each_alone_and_its_best_is_told(files: Path) -> None:
    dear = POOL.replace("name: cpu", "name: dear").replace('"0.1"', '"0.3"')
    (files / "pool.yaml").write_text(POOL.replace("s: 9", "s: 1") + "---" + dear)
    assert (
        "The HPA scales one pool. It was tried in each alone (cpu; dear), and is the best in dear."
        in simulated(files)["notes"]
    )


@pytest.mark.brain
def test_pools_without_a_price_cost_device_hours(files: Path) -> None:
    (files / "pool.yaml").write_text(POOL.replace(', pricePerHour: "0.1"', ""))
    code, output = run(files, "-f", str(files / "pool.yaml"), "--json")
    assert code == 0, output
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
        pytest.param(
            b"day,minute,a,b\n",
            "trace.csv has columns but no rows; a row a minute is wanted.",
            id="only a head",
        ),
        pytest.param(
            b"day,minute,a,b\n1,0,3,x\n",
            "trace.csv: line 2 has 'x' in column b; a number of requests from 0 on is wanted.",
            id="not a number",
        ),
        pytest.param(
            b"day,minute,a,b\n1,0,3,-4\n",
            "trace.csv: line 2 has '-4' in column b; a number of requests from 0 on is wanted.",
            id="below zero",
        ),
        pytest.param(
            b"day,minute,a,b\n1,0,3\n", "trace.csv: line 2 has 3 columns; the head has 4.", id="a short row"
        ),
        pytest.param(
            b"day,minute,a,b\n1,0,3,3\n1,2,3,3\n",
            "trace.csv: day 1 has no minute 1; each of its minutes from 0 to the last is wanted once. "
            "Write 0 where nobody asked.",
            id="a minute is missing",
        ),
        pytest.param(
            "day,minute,리뷰,문장\n1,0,3,3\n".encode("cp949"),
            "trace.csv is not UTF-8 text (byte 11); save it as UTF-8.",
            id="saved by a Korean spreadsheet in its old encoding",
        ),
        pytest.param(
            b"day,minute,a,b\n1,0,3,3\n\n1,0,3,3\n",
            "trace.csv: day 1 has minute 0 twice; each",
            id="a minute is there twice",
        ),
        pytest.param(
            b"day,minute,a,b\n1,0,3,3\n\n1,1.5,3,3\n",
            "trace.csv: line 4 has '1.5' in column minute; a whole number from 0 on is wanted.",
            id="half a minute, after a line that is empty",
        ),
        pytest.param(
            b"day,minute,a,a\n1,0,3,3\n", "trace.csv has two columns 'a'; give each", id="a column twice"
        ),
        pytest.param(b"TIMESTAMP,a\n", "trace.csv has columns but no rows.", id="only a head, of times"),
        pytest.param(
            b"timestamp_ms\n0\nnan\n",
            "trace.csv: line 3 begins with 'nan'; a time as a number of milliseconds is wanted.",
            id="no number of milliseconds",
        ),
        pytest.param(
            b"TIMESTAMP,a\n1970-01-01 00:00:00,1\n2023-11-16 18:15:46,1\n",
            "trace.csv goes over 19,678 days, from its first time to its last; at most 31 are simulated.",
            id="a time that is far off",
        ),
        pytest.param(
            b"model,t_s,rate_rps\nfirst,0,-1\nsecond,0,2\n",
            "trace.csv: line 2 has 'first,0,-1'; a model, the second of its window and requests a second",
            id="a rate below zero",
        ),
        pytest.param(
            b"when,what\n1,2\n",
            "trace.csv: the columns are when,what; known are day,minute,<model>,...",
            id="columns of no format",
        ),
        pytest.param(
            b"TIMESTAMP,a\nyesterday,1\n",
            "trace.csv: line 2 begins with 'yesterday'; a time as 2023-11-16 18:15:46.680 is wanted.",
            id="no time",
        ),
        pytest.param(
            b"day,minute,a\n1,0,3\n",
            "trace.csv has 1 columns of requests (a) and the files have 2 models (first, second); each needs "
            "one. Add columns, or leave models out.",
            id="too few columns",
        ),
    ],
)
def test_what_is_wrong_in_a_trace_is_said(files: Path, content: bytes, sentence: str) -> None:
    (files / "trace.csv").write_bytes(content)
    code, output = run(files, "-f", str(files / "pool.yaml"))
    assert code != 0
    assert sentence in output


def test_a_trace_of_times_has_no_days(files: Path) -> None:
    (files / "trace.csv").write_text("timestamp_ms\n0\n3000\n")
    code, output = run(files, "-f", str(files / "pool.yaml"), "--day", "2")
    assert code != 0
    assert "trace.csv has no days; leave the day out." in output


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        pytest.param(
            "maxDevices: 9",
            "maxDevises: 9",
            "pool.yaml: DevicePool cpu: spec.maxDevises is no field. Did you mean maxDevices?",
            id="a field is misspelt",
        ),
        pytest.param(
            "maxDevices: 9", "maxDevices: -1", "pool.yaml: DevicePool cpu: spec.maxDevices", id="below zero"
        ),
        pytest.param(
            "maxDevices: 9",
            "maxDevices: 1",
            "A replica of first takes 2 devices (spec.serving.devicesPerReplica), and the largest "
            "DevicePool, cpu, has 1 (spec.maxDevices); raise that, or take fewer devices.",
            id="too small for a replica",
        ),
    ],
)
def test_what_is_wrong_with_a_pool_is_said(files: Path, before: str, after: str, sentence: str) -> None:
    (files / "pool.yaml").write_text(POOL.replace(before, after))
    models = MODEL.replace("  scaling:", "  serving: {{devicesPerReplica: 2}}\n  scaling:")
    (files / "models.yaml").write_text(models.format(name="first"))
    code, output = run(files, "-f", str(files / "pool.yaml"))
    assert code != 0
    assert sentence in output


@pytest.mark.parametrize("option", ["--html", "--png"])
@pytest.mark.parametrize(
    ("path", "why"),
    [
        pytest.param("no/page", "No such file or directory", id="no folder for it"),
        pytest.param("pool.yaml/page", "Not a directory", id="a file is its folder"),
    ],
)
def test_what_cannot_be_written_is_told_before_the_run(
    files: Path, option: str, path: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "preview", None)
    code, output = run(files, "-f", str(files / "pool.yaml"), option, str(files / path))
    assert code != 0
    assert output == f"{files / path} cannot be written: {why}."


def test_a_run_that_fails_leaves_no_empty_page_and_no_page_emptied(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("in the run")

    monkeypatch.setattr(preview, "preview", fail)
    (files / "old.html").write_text("an older page")
    words = ("--png", str(files / "new.png"), "--html", str(files / "old.html"))
    assert run(files, "-f", str(files / "pool.yaml"), *words)[1] == "in the run"
    assert not (files / "new.png").exists()
    assert (files / "old.html").read_text() == "an older page"


def test_manifests_from_the_standard_input_may_have_the_pools(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell(*given: Any, **_: object) -> None:
        raise AssertionError(" ".join(pool.name for pool in given[3]))

    monkeypatch.setattr(preview, "preview", tell)
    words = ["simulate", "-f", "-", "--trace", str(files / "trace.csv")]
    result = CliRunner().invoke(cli, words, input=(files / "models.yaml").read_text() + POOL)
    assert str(result.exception) == "cpu"


def test_a_pool_that_is_there_twice_is_told(files: Path) -> None:
    pool = str(files / "pool.yaml")
    code, output = run(files, "-f", pool, "-f", pool)
    assert code != 0
    assert f"{pool}: DevicePool cpu: it is in these files twice; leave one out." in output


def test_further_requests_of_a_batch_take_no_longer_than_the_first(files: Path) -> None:
    words = ("-f", str(files / "pool.yaml"), "--service-milliseconds", "10", "--further-milliseconds", "11")
    code, output = run(files, *words)
    assert code != 0
    assert "--further-milliseconds is 11; it must be at most --service-milliseconds (10)" in output


def simulated(files: Path, *words: str) -> dict[str, Any]:
    code, output = run(files, "-f", str(files / "pool.yaml"), "--json", *words)
    assert code == 0, output
    said: dict[str, Any] = json.loads(output)
    return said


def of_ours(said: dict[str, Any], model: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        row for row in said["models"] if (row["policy"], row["model"]) == ("nlp-operator", model)
    )
    return found


@pytest.mark.brain
def test_a_stricter_quantile_takes_more_replicas_and_is_what_is_told(files: Path) -> None:
    said = {}
    for quantile in ("0.5", "0.999"):
        target = f'latencyTarget: {{{{milliseconds: 500, quantile: "{quantile}"}}}}'
        strict = MODEL.replace("latencyTarget: {{milliseconds: 500}}", target).replace("ax: 6", "ax: 9")
        (files / "models.yaml").write_text(strict.format(name="first"))
        said[quantile] = of_ours(simulated(files), "first")
        assert said[quantile]["quantile"] == float(quantile)
    assert said["0.5"]["mean_replicas"] < said["0.999"]["mean_replicas"]


@pytest.mark.brain
def test_the_devices_of_a_replica_are_counted_and_paid(files: Path) -> None:
    (files / "models.yaml").write_text(MODEL.format(name="first"))
    one = simulated(files)
    models = MODEL.replace("  scaling:", "  serving: {{devicesPerReplica: 2}}\n  scaling:")
    (files / "models.yaml").write_text(models.format(name="first"))
    two = simulated(files)
    assert two["totals"][0]["device_hours"] > 1.5 * one["totals"][0]["device_hours"]
    assert of_ours(two, "first")["most_replicas"] <= 4  # nine devices


@pytest.mark.brain
def test_batches_bear_what_single_requests_could_not(files: Path) -> None:
    words = ("--service-milliseconds", "200", "--further-milliseconds", "10")
    for batch, bears in ((1, False), (16, True)):
        models = MODEL.replace("  scaling:", f"  serving: {{{{maxBatchSize: {batch}}}}}\n  scaling:")
        models = models.replace("maxReplicas: 6", "maxReplicas: 1")
        (files / "models.yaml").write_text(models.format(name="first"))
        assert (of_ours(simulated(files, *words), "first")["late_share"] < 0.2) is bears


@pytest.mark.brain
def test_what_was_late_beyond_measure_is_told_as_more_than_what_was_measured(files: Path) -> None:
    models = MODEL.replace("maxReplicas: 6", "maxReplicas: 1").format(name="first")
    (files / "models.yaml").write_text(models)
    (files / "trace.csv").write_text("day,minute,first\n" + "".join(f"1,{m},9000\n" for m in range(20)))
    row = of_ours(simulated(files), "first")
    assert row["late_share"] > 0.9
    assert row["latency_seconds"] is None
    assert row["latency_more_than_seconds"] > 0.5
    code, output = run(files, "-f", str(files / "pool.yaml"))
    assert code == 0, output
    assert re.search(r"p95 > \d", output)


@pytest.mark.brain
def test_who_is_late_as_often_as_may_be_is_not_called_later_than_the_target(files: Path) -> None:
    """Its latency is in the class that holds the target, and that ends after it."""
    models = MODEL.format(name="first").replace("milliseconds: 500", "milliseconds: 152")
    (files / "models.yaml").write_text(models)
    (files / "trace.csv").write_text("day,minute,first\n" + "".join(f"1,{m},60\n" for m in range(20)))
    page = files / "page.html"
    row = of_ours(said := simulated(files, "--html", str(page)), "first")
    assert 0.02 < row["late_share"] < 0.05
    assert 0.146 < row["latency_seconds"] <= 0.152
    later = [row["later_than_target"] for row in said["models"]]
    assert later == [row["late_share"] > 0.05 for row in said["models"]]
    assert page.read_text(encoding="utf-8").count('class="later"') == sum(later)


@pytest.mark.brain
def test_who_never_asked_has_no_latency(files: Path) -> None:
    (files / "models.yaml").write_text(MODEL.format(name="first"))
    (files / "trace.csv").write_text("day,minute,first\n" + "".join(f"1,{m},0\n" for m in range(20)))
    assert of_ours(simulated(files), "first")["latency_seconds"] is None
    assert "p95 no request" in run(files, "-f", str(files / "pool.yaml"))[1]


@pytest.mark.brain
def test_who_has_no_column_of_its_name_takes_the_next_that_is_nobodys(files: Path) -> None:
    trace = files / "trace.csv"
    trace.write_text(trace.read_text().replace("second,first", "first,other"))
    assert "first for first, other for second" in simulated(files)["notes"][1]


@pytest.mark.brain
def test_the_most_important_begins_with_what_it_needs_and_who_gets_less_is_told(files: Path) -> None:
    (files / "pool.yaml").write_text(POOL.replace("maxDevices: 9", "maxDevices: 4"))
    second = MODEL.replace("maxReplicas: 6", "maxReplicas: 6, minReplicas: 2, priority: 300")
    (files / "models.yaml").write_text(MODEL.format(name="first") + second.format(name="second"))
    lines = [f"1,{minute},1300,1300" for minute in range(20)]  # 4 replicas each
    (files / "trace.csv").write_text("\n".join(["day,minute,first,second", *lines]))
    notes = simulated(files, "--service-milliseconds", "100")["notes"]
    assert "first begins with 1 of the 4 replicas that its load asks for." in notes
    assert "second begins with 3 of the 4 replicas that its load asks for." in notes


@pytest.mark.brain
def test_a_start_that_is_impossible_is_told(files: Path) -> None:
    (files / "pool.yaml").write_text(POOL.replace("maxDevices: 9", "maxDevices: 3"))
    models = MODEL.replace("maxReplicas: 6", "maxReplicas: 6, minReplicas: 2")
    (files / "models.yaml").write_text(models.format(name="second") + models.format(name="first"))
    (note,) = (one for one in simulated(files)["notes"] if "minReplicas:" in one)
    assert note.startswith("second begins with 1 of its 2 minReplicas: the pools have no more devices.")


@pytest.mark.brain
def test_what_a_cluster_would_do_otherwise_is_told(files: Path) -> None:
    models = MODEL.replace("maxReplicas: 6", "mode: External, maxReplicas: 600")
    models = models.replace("  scaling:", "  suspend: true\n  placement: {{poolNames: [x]}}\n  scaling:")
    (files / "models.yaml").write_text(models.format(name="first"))
    notes = "\n".join(simulated(files)["notes"])
    for part in ("mode External", "is suspended", "poolNames are not looked at", "goes up to 64"):
        assert part in notes


@pytest.mark.brain
def test_a_folder_has_the_models_and_the_pools(files: Path) -> None:
    result = CliRunner().invoke(cli, ["simulate", "-f", str(files), "--trace", str(files / "trace.csv")])
    assert result.exit_code == 0, result.output
    assert "first for first, second for second" in result.output


@pytest.mark.brain
def test_what_is_not_as_in_a_cluster_is_told_and_that_it_is_one_run(files: Path) -> None:
    notes = "\n".join(simulated(files)["notes"])
    assert "Here nlp-operator knows what a request takes, all that wait" in notes
    assert "All this is one run with seed 24" in notes


@pytest.mark.brain
def test_who_declares_no_target_is_held_to_the_operators_and_that_is_told(files: Path) -> None:
    models = MODEL.format(name="first").replace(", latencyTarget: {milliseconds: 500}", "")
    (files / "models.yaml").write_text(models)
    said = simulated(files, "--service-milliseconds", "900")
    assert of_ours(said, "first")["target_seconds"] == UNDECLARED_TARGET_SECONDS
    assert (
        "first has no spec.scaling.latencyTarget; it is held to 1000 ms for 95 % of its requests, as the "
        "operator holds it."
    ) in said["notes"]


@pytest.mark.brain
def test_more_minutes_than_were_asked_for_are_told(files: Path) -> None:
    lines = [f"{model},{at},2" for model in ("first", "second") for at in (0, 600, 1200)]
    (files / "trace.csv").write_text("\n".join(["model,t_s,rate_rps", *lines]) + "\n")
    told = "--minutes is 5, and 10 minutes are run: the trace is in stretches of 600 s"
    assert told in "\n".join(simulated(files, "--minutes", "5")["notes"])
    assert "--minutes" not in "\n".join(simulated(files, "--minutes", "20")["notes"])


@pytest.mark.brain
def test_a_spreadsheet_may_have_marked_its_utf_8(files: Path) -> None:
    trace = files / "trace.csv"
    trace.write_text(trace.read_text(), encoding="utf-8-sig")
    assert run(files, "-f", str(files / "pool.yaml"))[0] == 0
