"""Cores that a server keeps busy for each execution, from what the kernel and Triton count."""

from __future__ import annotations

import os

import pytest

from nlp_agent.backends import cores_used, parse_used
from nlp_agent.work import OVERLAP_SECONDS, WINDOW_SECONDS, Executed, Overlap, Work, busy_seconds

PAGE = """
# TYPE nv_inference_exec_count counter
nv_inference_request_success{model="words",version="1"} 40
nv_inference_exec_count{model="words",version="1"} 10
nv_inference_compute_input_duration_us{model="words",version="1"} 1000000
nv_inference_compute_infer_duration_us{model="words",version="1"} 6000000
nv_inference_compute_output_duration_us{model="words",version="1"} 1000000
nv_inference_queue_duration_us{model="words",version="1"} 99000000
nv_inference_request_success{model="idle",version="1"} 0
nv_inference_exec_count{model="idle",version="1"} 0
nv_cpu_utilization 0.5
"""


def test_an_execution_counts_once_whatever_it_held() -> None:
    assert busy_seconds(PAGE) == {"words": pytest.approx(2.0), "idle": 0.0}
    assert busy_seconds("") == {}


def test_cores_are_those_of_all_processes_by_the_seconds_of_executions() -> None:
    work = Work()
    assert work.cores_each is None
    work.note(0.0, {1: 100.0, 2: 5.0}, {"words": 50.0})
    assert work.cores_each is None
    work.note(10.0, {1: 101.0, 2: 7.0}, {"words": 54.0})
    assert work.cores_each == pytest.approx(3.0 / 4.0)


def test_little_work_says_nothing() -> None:
    work = Work()
    work.note(0.0, {1: 0.0}, {"words": 0.0})
    work.note(10.0, {1: 1.0}, {"words": 1.9})
    assert work.cores_each is None


def test_what_is_new_or_began_anew_counts_from_its_first_reading() -> None:
    work = Work()
    work.note(0.0, {1: 100.0}, {"words": 50.0})
    work.note(10.0, {1: 101.0, 2: 40.0}, {"words": 52.0, "other": 900.0})
    assert work.cores_each == pytest.approx(0.5)
    work.note(20.0, {2: 41.0}, {"words": 0.0, "other": 902.0})
    assert work.cores_each == pytest.approx(2.0 / 4.0)


def test_what_is_long_ago_is_forgotten() -> None:
    work = Work()
    work.note(0.0, {1: 0.0}, {"words": 0.0})
    for step in range(1, 3):
        work.note(step * WINDOW_SECONDS, {1: 100.0 * step**2}, {"words": 100.0 * step})
    assert work.cores_each == pytest.approx(3.0)


def test_the_kernel_tells_of_processes_that_are_there() -> None:
    assert parse_used("12 (a (b) c) S 1 1 1 0 -1 0 0 0 0 0 250 150 0 0 20 0") == pytest.approx(
        400 / os.sysconf("SC_CLK_TCK")
    )
    used = cores_used([os.getpid(), 2**22 + 1])
    assert used.keys() == {os.getpid()}
    assert used[os.getpid()] > 0


def overlap_of(instances: int, each: float, took: float, *, busy: float = 1.0, slow: float = 0.0) -> int:
    """What is known after so long of so many that are busy so much; Triton answers so slowly."""
    overlap = Overlap()
    for at in (0.0, took / 2, took):
        seconds = instances * busy * at
        overlap.note(Executed(at - slow, at + slow, round(seconds / each), seconds))
    return overlap.at_least


@pytest.mark.parametrize(
    ("instances", "each", "took", "more", "expected"),
    [
        pytest.param(1, 0.1, 5.0, {}, 1, id="one"),
        pytest.param(3, 0.1, 5.0, {}, 3, id="three"),
        pytest.param(3, 0.1, 5.0, {"busy": 0.9}, 3, id="that wait for requests in between"),
        pytest.param(3, 0.1, 5.0, {"busy": 0.5}, 2, id="that have little to do: so many for sure"),
        pytest.param(8, 0.1, 10.0, {"busy": 0.97}, 8, id="many"),
        pytest.param(3, 2.0, 5.0, {}, 0, id="too few of what takes long"),
        pytest.param(3, 0.1, 5.0, {"slow": 2.0}, 2, id="an answer that came late"),
        pytest.param(3, 0.1, 0.0, {}, 0, id="no time has passed"),
    ],
)
def test_what_runs_side_by_side_is_at_work(
    instances: int, each: float, took: float, more: dict[str, float], expected: int
) -> None:
    assert overlap_of(instances, each, took, **more) == expected


def test_nothing_is_known_of_what_executes_nothing_or_was_loaded_anew() -> None:
    assert Overlap().at_least == 0
    overlap = Overlap()
    for at in range(3):
        overlap.note(Executed(at, at, 10, 1.0))
    assert overlap.at_least == 0
    overlap.note(Executed(3, 3, 2, 0.2))
    assert overlap.at_least == 0


def test_only_what_is_new_counts_for_what_runs_side_by_side() -> None:
    overlap, count, seconds = Overlap(), 0, 0.0
    for at in range(60):
        overlap.note(Executed(at, at, count, seconds))
        instances = 1 if at < 30 else 3
        count, seconds = count + 10 * instances, seconds + instances
        if at == 30:
            assert overlap.at_least == 1
    assert overlap.at_least == 3
    assert OVERLAP_SECONDS < 30
