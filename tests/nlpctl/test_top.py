from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from rich.cells import cell_len
from rich.console import Console

from nlpctl import show
from nlpctl.errors import NotFound
from nlpctl.operator_page import Page
from nlpctl.report import Happening
from nlpctl.top import Change, busy, history, read_change, read_page
from nlpctl.values import busy_value, scaling_value
from tests.nlpctl.site import site
from tests.nlpctl.test_why import make_model

REASON = "About 25 requests/s came in the last minute; 3 replicas are wanted."
KOREAN = "운수 좋은 날과 삼포 가는 길을 찾는 요청이 늦습니다. " * 4


def model(
    name: str, ready: int = 1, replicas: int = 1, limited: str = "", why: str = REASON, well: bool = True
) -> dict[str, Any]:
    conditions = [
        {"type": "Ready", "status": "True" if well else "False", "reason": "R", "message": "Pods start."}
    ]
    if limited:
        conditions.append({"type": "ScaleLimited", "status": "True", "reason": limited, "message": KOREAN})
    made = make_model(name, "cpu", replicas)
    made["status"] = {
        "servers": [{"pool": "cpu", "replicas": replicas, "readyReplicas": ready}],
        "scaling": {"desired": 3, "reason": why},
        "conditions": conditions,
    }
    return made


def page(leader: int = 1, **models: tuple[float, float, float]) -> str:
    """Of each model: requests a second, seconds, share that is late."""
    lines = [f"nlp_operator_leader {float(leader)}", "# TYPE nlp_operator_model_ready gauge"]
    for name, (rate, seconds, late) in models.items():
        labels = f'{{namespace="demo",model="{name}"}}'
        for what, value in (
            ("requests_per_second", rate),
            ("latency_seconds", seconds),
            ("late_ratio", late),
            ("latency_target_seconds", 0.5),
            ("latency_target_quantile", 0.95),
        ):
            lines.append(f"nlp_operator_model_{what}{labels} {value}")
        lines.append(f'nlp_operator_model_scale_limited{{namespace="demo",model="{name}",reason="X"}} 1.0')
    return "\n".join(lines) + "\n"


PAGE = page(novels=(24.6, 0.812, 0.21), quiet=(0.5, 0.02, 0.0), poems=(3.0, 2.5, 0.6))
MODELS = [model("quiet"), model("novels", 2, 3), model("poems"), model("full", limited="NoRoom")]


def test_a_model_is_told_by_its_status_and_by_the_operator() -> None:
    (novels,) = (row for row in busy(MODELS, PAGE) if row.name == "novels")
    assert busy_value(novels) == {
        "namespace": "demo",
        "model": "novels",
        "ready": True,
        "pools": ["cpu"],
        "readyReplicas": 2,
        "replicas": 3,
        "wantedReplicas": 3,
        "requestsPerSecond": 24.6,
        "latencySeconds": 0.812,
        "quantile": 0.95,
        "targetSeconds": 0.5,
        "lateShare": 0.21,
        "failedShare": None,
        "scaleLimited": "",
        "reason": REASON,
    }


def test_those_that_are_late_come_first_and_then_those_that_lack_something() -> None:
    assert [row.name for row in busy(MODELS, PAGE)] == ["poems", "novels", "full", "quiet"]


@pytest.mark.parametrize(
    ("failures", "share", "failing"),
    [(0.0, 0.0, False), (0.5, 0.02, False), (5.0, 0.2, True), (30.0, 1.0, True)],
)
def test_the_share_of_requests_that_fail_is_told_and_who_fails_comes_before_who_lacks_something(
    failures: float, share: float, failing: bool
) -> None:
    told = f'nlp_operator_model_failures_per_second{{namespace="demo",model="quiet"}} {failures}\n'
    rows = busy(MODELS, page(quiet=(25.0, 0.02, 0.0)) + told)
    (quiet,) = (row for row in rows if row.name == "quiet")
    assert quiet.failed_share == pytest.approx(share)
    assert quiet.failing == failing
    assert (rows[0] is quiet) == failing
    assert show.busy_mark(quiet) == show.MARKS["False" if failing else "True"]


def test_without_the_operators_page_the_load_is_not_known() -> None:
    (row,) = busy([model("novels")], "")
    assert (row.requests_per_second, row.latency_seconds, row.late_share) == (None, None, None)
    assert (row.ready, row.wanted) == (1, 3)


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        pytest.param(model("a", limited="NoRoom"), KOREAN, id="what limits it"),
        pytest.param(model("a", well=False), "Pods start.", id="why it is not ready"),
        pytest.param(make_model("a"), "demo/a: the operator has not looked", id="not looked at"),
    ],
)
def test_what_stands_in_the_way_is_the_reason(shown: dict[str, Any], reason: str) -> None:
    (row,) = busy([shown], PAGE)
    assert row.reason.startswith(reason)


def test_what_is_no_number_of_a_model_is_left_out() -> None:
    odd = PAGE.replace("24.6", "NaN") + 'nlp_operator_model_late_ratio{model="x"} 1\nhttp_total{a="b"} 2\n'
    assert "requests_per_second" not in read_page(odd)["demo", "novels"]
    assert set(read_page(odd)) == {("demo", "novels"), ("demo", "quiet"), ("demo", "poems")}


# --- as it is shown ---


def in_state(name: str, status: str, ready: int, replicas: int) -> dict[str, Any]:
    made = model(name, ready, replicas)
    made["status"]["conditions"][0]["status"] = status
    return made


def test_the_mark_and_the_order_are_those_of_the_condition_and_not_of_a_count() -> None:
    """One whose new version cannot be built has all its pods; one that sleeps needs none."""
    models = [
        in_state("asleep", "True", 0, 0),
        in_state("broken", "False", 1, 1),
        in_state("coming", "Unknown", 1, 2),
        in_state("serving", "True", 1, 1),
        in_state("unseen", "True", 1, 1) | {"metadata": {"name": "unseen", "generation": 7}},
    ]
    rows = busy(models, page(serving=(2.0, 0.0004, 0.0)))
    marks = {"[green]✓[/]": "ready", "[red]✗[/]": "not", "[yellow]…[/]": "under way"}
    assert [(row.name, marks[show.busy_mark(row)]) for row in rows] == [
        ("unseen", "under way"),
        ("broken", "not"),
        ("coming", "under way"),
        ("serving", "ready"),
        ("asleep", "ready"),
    ]


def test_a_latency_below_ten_milliseconds_has_two_digits() -> None:
    assert [show.milliseconds(one) for one in (0.0004, 0.0123, 1.2, None)] == [
        "0.4 ms",
        "12 ms",
        "1,200 ms",
        "",
    ]


def drawn(width: int, *, fits: bool) -> list[str]:
    out = io.StringIO()
    table = show.busy_table(busy(MODELS, PAGE), with_namespace=True, width=width if fits else None)
    Console(file=out, width=width).print(table)
    return out.getvalue().splitlines()


def test_plain_output_has_a_line_a_model_with_all_of_it() -> None:
    lines = [line.split("  ") for line in drawn(400, fits=False)]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells[0] == [
        "NAMESPACE", "MODEL", "POOL", "READY", "WANTED", "REQ/S", "LATENCY", "TARGET", "LATE", "FAIL",
        "REASON",
    ]  # fmt: skip
    assert cells[2] == [
        "demo", "✗", "novels", "cpu", "2/3", "3", "25", "812 ms", "500 ms p95", "21.0 %", REASON,
    ]  # fmt: skip
    assert cells[3] == ["demo", "✗", "full", "cpu", "1/1", "3", f"NoRoom: {KOREAN.strip()}"]
    assert cells[4][6:10] == ["0.5", "20 ms", "500 ms p95", "0.0 %"]


def test_on_a_terminal_each_model_is_one_line_that_fits_also_in_korean() -> None:
    lines = drawn(110, fits=True)
    assert len(lines) == 1 + len(MODELS)
    assert all(cell_len(line) <= 110 for line in lines)
    (full,) = (line for line in lines if "full" in line)
    assert "NoRoom: 운수 좋은" in full
    assert full.rstrip().endswith("…")


class Looks:
    def __init__(self, most: int, trouble: str = "") -> None:
        self.count = 0
        self.most = most
        self.trouble = trouble

    def __call__(self) -> Any:
        self.count += 1
        if self.count > self.most:
            raise KeyboardInterrupt
        return busy(MODELS, PAGE), self.trouble


def showing(monkeypatch: pytest.MonkeyPatch, looks: Looks, *, terminal: bool, once: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=terminal, color_system=None)
    monkeypatch.setattr(show, "terminal", lambda: console)
    show.keep_showing(looks, 0.0, once=once, with_namespace=False)
    return out.getvalue()


def test_a_terminal_is_drawn_anew_until_somebody_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(3)
    assert showing(monkeypatch, looks, terminal=True).count("novels") == 3
    assert looks.count == 4


@pytest.mark.parametrize(("terminal", "once"), [(False, False), (True, True)], ids=["no terminal", "once"])
def test_it_is_shown_once_where_nobody_looks_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, once: bool
) -> None:
    looks = Looks(1, "Load and latency are not shown: [no] right.")
    told = showing(monkeypatch, looks, terminal=terminal, once=once)
    assert looks.count == 1
    assert told.rstrip().endswith("Load and latency are not shown: [no] right.")


# --- the operator's page ---


class Pods:
    """A cluster that has no pod of the operator."""

    api = None

    def items(self, path: str, query: dict[str, str]) -> list[Any]:
        assert path == "/api/v1/namespaces/nlp-system/pods"
        return []


def test_a_page_is_read_where_it_is_said_to_be() -> None:
    with site(lambda path: (200, PAGE.encode())) as address:
        asked = Page(cast(Any, Pods()), "nlp-system", address)
        assert asked.read() == PAGE
        assert asked.trouble == ""


@pytest.fixture
def standing_by() -> Iterator[str]:
    with site(lambda path: (200, page(leader=0).encode())) as address:
        yield address


def test_a_process_that_stands_by_knows_nothing(standing_by: str) -> None:
    asked = Page(cast(Any, Pods()), "nlp-system", standing_by)
    asked.read()
    assert asked.trouble == "Load and latency are not shown: the operator asked stands by."


def test_an_operator_that_is_not_there_is_said_and_asked_again() -> None:
    asked = Page(cast(Any, Pods()), "nlp-system")
    assert asked.read() == ""
    assert asked.trouble.startswith(
        "Load and latency are not shown: There is no pod of the operator "
        "(app.kubernetes.io/name=nlp-operator) in namespace 'nlp-system'"
    )
    asked._given = asked._address = "127.0.0.1:1"
    assert asked.read() == ""
    assert "do not answer" in asked.trouble
    assert NotFound.exit_code == 4


# --- what was ---

AT = datetime(2026, 11, 30, 4, tzinfo=UTC)


def event(reason: str, message: str) -> Happening:
    return Happening(AT, "Normal", reason, message, 1)


ASLEEP = "No request came for 600 s, so the model sleeps; the next one wakes it."
WOKEN = "The model does not sleep any more. Each has one replica."


def test_the_history_is_what_events_tell_of_replicas_instances_and_sleep() -> None:
    changes = history(
        [
            event("Scaled", f"From 1 to 3 replicas. {REASON}"),
            event("Ready", "From 1 to 3 replicas."),
            event("Scaled", "Something else."),
            event("Scaled", "From 1 to 2 instances in each pod. 기차"),
            event("Scaled", "From 3 to 1 replicas."),
            event("Asleep", ASLEEP),
            event("Woken", WOKEN),
        ]
    )
    assert changes == [
        Change(AT, "replicas", 1, 3, REASON),
        Change(AT, "instances", 1, 2, "기차"),
        Change(AT, "replicas", 3, 1, ""),
        Change(AT, "asleep", None, None, ASLEEP),
        Change(AT, "woken", None, None, WOKEN),
    ]
    told = scaling_value(2, "기차", changes)["history"]
    assert told[1] == {
        "when": "2026-11-30T04:00:00+00:00", "what": "instances", "from": 1, "to": 2, "why": "기차",
    }  # fmt: skip
    assert (told[3]["what"], told[3]["from"]) == ("asleep", None)
    assert [show.change_said(one) for one in changes] == [
        "1 → 3 replicas",
        "1 → 2 instances a pod",
        "3 → 1 replica",
        "asleep",
        "woken",
    ]
    assert read_change(event("Ready", "It serves.")) is None
