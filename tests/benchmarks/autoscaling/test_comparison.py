"""The brain in the harness: better than what people use, on requests that it was not tuned on, and safe
when blind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.autoscaling import __main__ as command
from benchmarks.autoscaling import allocator_bench, scenarios, traces
from benchmarks.autoscaling.baselines import Hpa, Keda
from benchmarks.autoscaling.comparison import POLICIES, Case, Job, compare, execute, load
from benchmarks.autoscaling.ours import Ours
from benchmarks.autoscaling.traces import Trace, TraceError
from benchmarks.autoscaling.world import Model, Policy, Pool, Settings, World, run

pytestmark = pytest.mark.brain

TRACES = Path(__file__).resolve().parents[4] / "shared" / "traces"
FARO = TRACES / "faro_10jobs_11d.csv"
needs_traces = pytest.mark.skipif(not FARO.exists(), reason="../shared/traces is not there")


def make_case(*, models: int = 4, minutes: int = 60) -> Case:
    """Loads that rise and fall out of step, with unrest from minute to minute."""
    random = np.random.default_rng(3)
    minute = np.arange(minutes)[:, None]
    phase = np.arange(models)[None, :] / models
    load = 2.0 + 1.2 * np.sin(2 * np.pi * (minute / 45 + phase)) + random.normal(0, 0.15, (minutes, models))
    trace = Trace(tuple(f"m{k}" for k in range(models)), 60.0, np.maximum(load, 0.2) / 0.1543 * 60)
    return Case(trace, None, tuple(Model(name) for name in trace.names))


def fewest_replicas(
    policy: Policy, case: Case, lost: tuple[float, float], pools: tuple[Pool, ...]
) -> list[int]:
    """By how many replicas each model shrank while its metrics were lost."""
    world = World(case.trace, case.models, pools, 24, Settings(metrics_lost=(lost,)))
    result = run(world, policy, 24, keep_ticks=True)
    before = next(tick for tick in reversed(result.ticks) if tick[0] < lost[0])
    during = [tick for tick in result.ticks if lost[0] <= tick[0] < lost[1]]
    return [before[2][m] - min(tick[2][m] for tick in during) for m in range(len(case.models))]


def test_lost_metrics_make_nothing_smaller_and_the_default_of_keda_everything() -> None:
    case, pools, lost = make_case(), (Pool("gpu", 40),), (1800.0, 2700.0)
    assert max(fewest_replicas(Ours(), case, lost, pools)) <= 0
    assert max(fewest_replicas(Hpa("rate", 0.7), case, lost, pools)) <= 0
    assert min(fewest_replicas(Keda(0.7, fallback=False), case, lost, pools)) >= 1


def test_a_jump_to_five_times_the_load_is_borne_a_minute_after_the_cold_start() -> None:
    back, highest = scenarios._stepped("nlp-operator-new", 35.0, 24)
    assert back <= 35 + 60
    assert highest <= 1.3 * scenarios._needed(10.0)


def test_a_service_slower_than_believed_is_found_out() -> None:
    case = make_case(minutes=30)
    slow = tuple(
        Model(m.name, base_seconds=m.base_seconds * 1.4, believed_factor=1 / 1.4) for m in case.models
    )
    result = execute(Job(Case(case.trace, None, slow), "nlp-operator-new", (Pool("gpu", 64),), 24))
    assert result.late[:, 1:].sum() / result.total[:, 1:].sum() < 0.02


def test_the_allocator_comes_near_to_the_bound() -> None:
    measured = allocator_bench.measure(24)
    assert measured["of_bound"] > 0.98
    assert measured["used"] <= measured["devices"]


def test_every_policy_has_a_row_without_being_told_anything() -> None:
    """As the command has it when no policy is named."""
    rows = compare(make_case(models=2, minutes=20), list(POLICIES), [8], 1, 1)
    assert [row["policy"] for row in rows] == list(POLICIES)


@needs_traces
def test_less_is_late_than_with_a_tuned_hpa_and_no_less_than_with_the_optimum() -> None:
    case = load(FARO, 2, minutes=120)
    rows = compare(
        case, ["nlp-operator", "hpa-rate-0.6", "hpa-rate-0.7", "hpa-rate-0.8", "oracle"], [32], 1, 0
    )
    late = {row["policy"]: row["late_share"] for row in rows}
    best = min(share for policy, share in late.items() if policy.startswith("hpa"))
    assert late["oracle"] <= late["nlp-operator"] < best


@needs_traces
@pytest.mark.parametrize(
    ("policy", "cap", "published", "tolerance"),
    [
        pytest.param("aiad", 32, 0.1106, 0.035, id="AIAD at 32"),
        pytest.param("aiad", 40, 0.0816, 0.025, id="AIAD at 40"),
        pytest.param("fair-share", 32, 0.272, 0.02, id="fair share at 32"),
        pytest.param("one-shot", 32, 0.411, 0.08, id="one-shot at 32"),
    ],
)
def test_the_simulator_agrees_with_the_published_one(
    policy: str, cap: int, published: float, tolerance: float
) -> None:
    """Faro's simulator on the same day, from its artefact's results."""
    result = execute(Job(load(FARO, 11), policy, (Pool("gpu", cap),), 24))
    assert result.late_share == pytest.approx(published, abs=tolerance)


@needs_traces
def test_the_command_writes_a_row_a_policy_and_cap(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = [
        "--trace",
        str(FARO),
        "--caps",
        "32,36",
        "--seeds",
        "1",
        "--minutes",
        "20",
        "--json",
        str(report),
    ]
    assert command.main([*words, "--policies", "fair-share,hpa-rate-0.7"]) == 0
    rows = json.loads(report.read_text())["rows"]
    assert [(row["policy"], row["cap"]) for row in rows] == [
        ("fair-share", 32),
        ("hpa-rate-0.7", 32),
        ("fair-share", 36),
        ("hpa-rate-0.7", 36),
    ]
    assert {"late_share", "gpu_hours", "flips_per_model_hour", "worst_model_late_share"} <= set(rows[0])


@needs_traces
@pytest.mark.parametrize("name", sorted(path.name for path in TRACES.glob("*.csv")))
def test_every_shared_trace_can_be_read(name: str) -> None:
    trace = traces.read(TRACES / name)
    assert trace.counts.shape == (len(trace.counts), len(trace.names))
    arrivals = trace.between(0, 5).arrivals(1) if not trace.times else trace.times
    assert all((np.diff(one) >= 0).all() for one in arrivals)


def test_a_file_in_another_format_is_refused_with_what_is_known(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("when,what\n1,2\n")
    with pytest.raises(TraceError, match="the columns are when,what; known are day,minute"):
        traces.read(path)
