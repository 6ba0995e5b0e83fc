"""The brain in the harness: better than what people use, on requests that it was not tuned on, and safe
when blind."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.autoscaling import __main__ as command
from benchmarks.autoscaling import allocator_bench, doubts, jumps, scarce, scenarios, traces, unseen
from benchmarks.autoscaling.baselines import Hpa, Keda
from benchmarks.autoscaling.comparison import POLICIES, Case, Job, compare, execute, load
from benchmarks.autoscaling.ours import Ours
from benchmarks.autoscaling.scenarios import Scenario
from benchmarks.autoscaling.tables import Asked, at_hours, at_lateness, judge, table, value
from benchmarks.autoscaling.traces import Trace, TraceError
from benchmarks.autoscaling.world import Model, Policy, Pool, Settings, World, run
from nlp_operator.planning.scaling.allocator import Fits, Offer, Request

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
    seen = jumps.jumped("nlp-operator", [jumps.LOW] * 60 + [jumps.HIGH] * 30, 24)
    assert seen.back_seconds <= 35 + 60
    assert seen.highest <= 1.3 * jumps.needed(jumps.HIGH)


@pytest.mark.parametrize(
    ("late_looks", "back"),
    [
        pytest.param((), 0.0, id="nothing was ever late"),
        pytest.param((0, 1, 2), 15.0, id="late at once"),
        pytest.param((20, 21), 110.0, id="late after some good minutes"),
        pytest.param((0, 1, 20), 105.0, id="late again"),
        pytest.param((39,), float("inf"), id="late at the end"),
    ],
)
def test_it_is_back_when_nothing_is_late_any_more(late_looks: tuple[int, ...], back: float) -> None:
    """Looks of five seconds, in each a hundred requests or, where it is late, twenty of them late."""
    late = np.cumsum([0.0] + [20.0 * (k in late_looks) for k in range(40)])
    points = [jumps.Point(3600.0 + 5 * k, 100.0 * k, float(late[k]), 1) for k in range(41)]
    assert jumps.back_after(points, 6) == back


def test_a_shock_is_judged_by_the_worst_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    backs = {24: 0.0, 32: 0.0, 40: 800.0}

    def jumped(_: str, __: object, seed: int, **___: object) -> jumps.Jumped:
        return jumps.Jumped(backs[seed], 100.0, 1, 1, 1.0)

    monkeypatch.setattr(jumps, "jumped", jumped)
    rows = jumps.shocks(make_case(minutes=5), 3, 1)
    assert {row["back_seconds"] for row in rows} == {0.0}
    judged = judge(jumps.SHOCKS_ASKED, rows)
    assert {row["holds"] for row in judged if "seconds" in row["row"]} == {"missed"}
    assert [row["reached"] for row in judged if "late requests" in row["row"]] == [1.0]
    rows = jumps.step(make_case(minutes=5), 3, 1)
    beyond = [row for row in judge(jumps.STEP_ASKED, rows) if "seconds beyond" in row["row"]]
    assert {row["holds"] for row in beyond} == {"missed"}


def test_a_service_slower_than_believed_is_found_out_and_never_by_who_only_believes() -> None:
    case = make_case(minutes=30)
    slow = tuple(
        Model(m.name, base_seconds=m.base_seconds * 1.4, believed_factor=1 / 1.4) for m in case.models
    )
    late = {}
    for policy in ("nlp-operator-new", "feed-forward"):
        result = execute(Job(Case(case.trace, None, slow), policy, (Pool("gpu", 64),), 24))
        late[policy] = result.late[:, 1:].sum() / result.total[:, 1:].sum()
    assert late["nlp-operator-new"] < 0.02
    assert late["feed-forward"] > 0.1


def test_the_saturation_rule_adds_one_replica_at_a_time() -> None:
    """Each once the one before it serves, from 4 replicas to the 14 or so that ten erlang do not saturate."""
    load = [jumps.LOW] * 20 + [jumps.HIGH] * 20
    seen = jumps.jumped("wva", load, 24, at=20 * 60.0)
    assert 300 <= seen.back_seconds <= 700
    assert 12 <= seen.highest <= 18


def test_the_allocator_comes_near_to_the_bound() -> None:
    measured = allocator_bench.measure(24)
    assert measured["of_bound"] > 0.98
    assert 0 < measured["over_bound"] < 0.4
    assert measured["used"] <= measured["devices"]


def test_the_bound_of_fractions_lies_below_that_of_whole_replicas() -> None:
    """A replica of speed 2 and price 3: half a one bears all, a whole one costs twice as much."""
    asked = [Request("m", [10.0, 0.0], [10.0, 0.0], [Offer("a", 1, 2.0, 3.0)], {}, 0, 5)]
    assert allocator_bench.bound(asked, {"a": 1}, 1.0) == pytest.approx(1.5)
    assert allocator_bench.bound(asked, {"a": 1}, 1.0, whole=True) == pytest.approx(3.0)


def test_the_allocator_is_measured_with_the_planners_answer_to_what_fits() -> None:
    requests, devices = allocator_bench.make_problem(24)
    fits = allocator_bench.fits_of(requests, devices)
    one = next(request for request in requests if len(request.offers) < len(devices))
    pool = one.offers[0].pool
    (other, *_) = set(devices) - {offer.pool for offer in one.offers}
    assert fits(one.name, pool, devices[pool], devices[pool])
    assert not fits(one.name, pool, devices[pool] + 1, devices[pool] + 1)
    assert not fits(one.name, other, 1, 1)


def test_the_plan_is_made_as_the_operator_makes_it_and_timed_on_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Waiting for the processor counts for nothing, and `fits` is asked."""
    asked: list[str] = []
    real = allocator_bench.fits_of

    def noting(requests: list[Request], devices: dict[str, int]) -> Fits:
        fits = real(requests, devices)

        def noted(name: str, pool: str, replicas: int, used: int) -> bool:
            asked.append(name)
            return fits(name, pool, replicas, used)

        return noted

    monkeypatch.setattr(allocator_bench, "fits_of", noting)
    ticks = iter(range(100))
    monkeypatch.setattr(time, "process_time", lambda: next(ticks))
    assert allocator_bench.measure(24)["milliseconds"] == 1000
    assert asked


def test_every_policy_has_a_row_without_being_told_anything() -> None:
    """As the command has it when no policy is named."""
    rows = compare(make_case(models=2, minutes=20), list(POLICIES), [8], 1, 1)
    assert [row["policy"] for row in rows] == list(POLICIES)


def test_a_policy_differs_from_itself_by_nothing_and_the_worst_model_is_no_better_than_all() -> None:
    rows = compare(make_case(models=3, minutes=40), ["nlp-operator", "hpa-rate-0.7"], [5], 2, 1)
    ours, hpa = rows
    assert ours["late_share_minus_ours_interval"] == [0.0, 0.0]
    low, high = hpa["late_share_minus_ours_interval"]
    assert low <= hpa["late_share"] - ours["late_share"] <= high
    assert low < high
    for row in rows:
        assert row["late_share_interval"][1] <= row["worst_model_late_share_interval"][1]


@pytest.mark.parametrize(
    ("reached", "holds"),
    [
        pytest.param(0.9, "goal", id="below the goal"),
        pytest.param(1.5, "must", id="below the must"),
        pytest.param(2.1, "missed", id="above both"),
        pytest.param(float("inf"), "missed", id="never"),
        pytest.param(None, "tells nothing", id="neither is late"),
    ],
)
def test_what_was_asked_is_judged(reached: float | None, holds: str) -> None:
    (row,) = judge([Asked("late", 2.0, 1.0, value("x", policy="a"))], [{"policy": "a", "x": reached}])
    assert row["holds"] == holds


def test_a_scenario_whose_must_is_missed_ends_the_command_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("day,minute,m\n1,0,100\n1,1,100\n")
    bad = Scenario(lambda *_: [{"x": 3.0}], lambda _: [Asked("x", 2.0, 1.0, value("x"))])
    monkeypatch.setitem(scenarios.SCENARIOS, "step", bad)
    report = tmp_path / "report.json"
    words = ["--trace", str(trace), "--scenarios", "step", "--json", str(report)]
    assert command.main(words) == 1
    assert json.loads(report.read_text())["asked"][0]["holds"] == "missed"


def test_a_pool_that_is_gone_is_replaced_by_another_after_a_minute() -> None:
    load, pools, settings = jumps.SHOCKS["the pool disappears"]
    seen = jumps.jumped("nlp-operator", load, 24, pools=pools, settings=settings)
    assert seen.back_seconds <= 60 + 35 + 60


@pytest.mark.parametrize(
    ("busiest", "tells"),
    [
        pytest.param(0.01, False, id="nothing is late with anybody"),
        pytest.param(10.0, True, id="after a jump all are"),
    ],
)
def test_where_nothing_is_late_with_anybody_nothing_is_told(
    busiest: float, tells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And who knows the mean of a minute only is not asked where the requests have times."""
    monkeypatch.setattr(unseen, "OTHERS", ("feed-forward",))
    monkeypatch.setattr(unseen, "TARGETS", (0.7, 0.9))
    counts = np.array([busiest / 10] * 15 + [busiest] * 15)[:, None] / 0.1543 * 60
    times = Trace(("m",), 60.0, counts).arrivals(1)
    case = Case(Trace(("m",), 60.0, counts, times), None, (Model("m"),))
    rows = unseen.unseen(case, 1, 1)
    assert not {"oracle", "clairvoyant"} & {row["policy"] for row in rows}
    (judged,) = judge(unseen.ASKED, rows)
    assert (judged["holds"] != "tells nothing") is tells
    assert ("-" in table([judged]).split()) is not tells


def test_metrics_that_are_a_little_late_do_little_harm() -> None:
    """A look and a half: what comes so late is still as fresh as the brain asks for."""
    rows = doubts.metric_delay(make_case(models=3, minutes=30), 1, 1)
    late = {(row["policy"], row["delay_seconds"]): row["late_share_after_10_minutes"] for row in rows}
    assert len(late) == len(rows) == 4 * len(doubts.DELAYS)
    assert late["nlp-operator", 15.0] < late["nlp-operator", 0.0] + 0.01
    assert late["hpa-rate-0.7", 120.0] < 0.2  # it reads them, old as they are


def test_the_operator_loses_little_by_what_it_does_not_know() -> None:
    rows = doubts.as_operated(make_case(models=3, minutes=30), 1, 1)
    late = {row["known"]: row["late_share"] for row in rows if row["cap"] == 32}
    assert set(late) == set(doubts.AS_OPERATED)
    assert late["as operated"] < late["all that the simulator knows"] + 0.02


def test_a_large_model_and_small_ones_trade_places_as_their_loads_do() -> None:
    case = scarce.of_different_size()
    ours = run_with_34_devices(case, "nlp-operator")
    assert ours < 0.3 * run_with_34_devices(case, "hpa-rate-0.8")
    assert scarce.over_best_hpa(
        [
            {"policy": "nlp-operator", "cap": 34, "late_share": ours},
            {"policy": "hpa-rate-0.6", "cap": 34, "late_share": 2 * ours},
            {"policy": "hpa-rate-0.7", "cap": 34, "late_share": 3 * ours},
        ],
        34,
    ) == pytest.approx(0.5)


@pytest.mark.parametrize(("devices", "whole"), [(3, False), (4, True)])
def test_the_bound_tells_whether_its_replicas_are_whole(devices: int, whole: bool) -> None:
    """A replica takes two devices; with three there is one and a half."""
    trace = Trace(("m",), 60.0, np.full((15, 1), 1.4 / 0.1543 * 60))
    case = Case(trace, None, (Model("m", devices=2),))
    row = scarce.bound_row(case, (Pool("gpu", devices, cold_start_seconds=0.0),), 100.0)
    assert row["whole_replicas"] is whole


def run_with_34_devices(case: Case, policy: str) -> float:
    settings = Settings(start_replicas=(16, *(2,) * scarce.SMALL_MODELS))
    return execute(Job(case, policy, (Pool("gpu", 34),), 24, settings)).late_share


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
    ("policy", "cap", "published", "bias"),
    [
        pytest.param("fair-share", 32, 27.2, -1.5, id="fair share at 32"),
        pytest.param("fair-share", 36, 27.2, -1.5, id="fair share at 36"),
        pytest.param("fair-share", 40, 1.92, -1.22, id="fair share at 40"),
        pytest.param("one-shot", 32, 41.1, -2.1, id="one-shot at 32"),
        pytest.param("one-shot", 36, 36.3, -3.4, id="one-shot at 36"),
        pytest.param("one-shot", 40, 30.4, -4.5, id="one-shot at 40"),
        pytest.param("aiad", 32, 11.06, -0.7, id="AIAD at 32"),
        pytest.param("aiad", 36, 8.32, -0.0, id="AIAD at 36"),
        pytest.param("aiad", 40, 8.16, -0.2, id="AIAD at 40"),
    ],
)
def test_the_simulator_differs_from_the_published_one_by_what_is_told(
    policy: str, cap: int, published: float, bias: float
) -> None:
    """Faro's simulator on the same day, from its artefact's results: every pair of a policy and devices that
    both have, in percent. Here less is late, the more so where there are more devices."""
    result = execute(Job(load(FARO, 11), policy, (Pool("gpu", cap),), 24))
    assert 100 * result.late_share - published == pytest.approx(bias, abs=0.1)


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


@pytest.mark.parametrize("caps", ["1,8", "many", "8,", ""])
def test_fewer_devices_than_the_models_take_at_the_least_are_refused(
    caps: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("day,minute,a,b\n1,0,100,100\n1,1,100,100\n")
    assert command.main(["--trace", str(trace), "--caps", caps]) == 2
    assert f"--caps is {caps!r}; whole numbers of at least 2, separated" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds", "0"], "--seeds: '0'; a whole number of at least 1 is wanted"),
        (["--seeds=-1"], "--seeds: '-1'; a whole number of at least 1 is wanted"),
        (["--minutes=-5"], "--minutes: '-5'; a whole number of at least 1 is wanted"),
        (["--mean-load", "nan"], "--mean-load: 'nan'; a number above 0 is wanted"),
        (["--mean-load=-3"], "--mean-load: '-3'; a number above 0 is wanted"),
        (["--json", "."], "--json: '.' is a folder; a file to write is wanted"),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(["--trace", "unread", *words])
    assert said in capsys.readouterr().err


def test_a_trace_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "trace.csv"
    assert command.main(["--trace", str(missing)]) == 2
    said = f"--trace {missing}: No such file or directory; a file of a trace is wanted.\n"
    assert capsys.readouterr().err == said


def test_a_day_that_was_tuned_on_is_not_judged(tmp_path: Path) -> None:
    trace, report = tmp_path / command.TUNED_ON, tmp_path / "report.json"
    trace.write_text("day,minute,a,b\n1,0,100,100\n1,1,100,100\n2,0,100,100\n2,1,100,100\n")
    words = ["--trace", str(trace), "--caps", "2", "--seeds", "1", "--processes", "1", "--json", str(report)]
    assert command.main([*words, "--day", "1", "--policies", "nlp-operator"]) == 0
    assert "asked" not in json.loads(report.read_text())


def test_of_requests_with_times_nobody_is_said_to_know_the_future(tmp_path: Path) -> None:
    trace, report = tmp_path / "trace.csv", tmp_path / "report.json"
    trace.write_text("timestamp_ms\n0\n3000\n90000\n")
    words = ["--trace", str(trace), "--caps", "2", "--seeds", "1", "--processes", "1", "--json", str(report)]
    assert command.main(words) == 0
    policies = {row["policy"] for row in json.loads(report.read_text())["rows"]}
    assert policies == set(POLICIES) - {"oracle", "clairvoyant"}


@needs_traces
@pytest.mark.parametrize("name", sorted(path.name for path in TRACES.glob("*.csv")))
def test_every_shared_trace_can_be_read(name: str) -> None:
    trace = traces.read(TRACES / name)
    assert trace.counts.shape == (len(trace.counts), len(trace.names))
    arrivals = trace.between(0, 5).arrivals(1) if not trace.times else trace.times
    assert all((np.diff(one) >= 0).all() for one in arrivals)


def test_a_stretch_of_given_times_keeps_them_and_begins_at_zero() -> None:
    times = (np.array([10.0, 70.0, 119.0, 125.0]),)
    trace = Trace(("m",), 60.0, np.array([[1.0], [2.0], [1.0]]), times).between(1, 1)
    assert trace.arrivals(1)[0].tolist() == [10.0, 59.0]
    assert trace.seconds == 60.0


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("day,minute,a,b\n1,0,600,1200\n1,1,600,1200\n", id="counts are multiplied"),
        pytest.param(
            "timestamp_ms,input_tokens,output_tokens\n0,1,1\n30000,1,1\n90000,1,1\n",
            id="with given times the service takes longer",
        ),
    ],
)
def test_a_trace_is_made_the_work_of_so_many_replicas(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    case = load(path, None, mean_load=6.0)
    work = sum(
        rate * model.mean_seconds for rate, model in zip(case.trace.rates.mean(0), case.models, strict=True)
    )
    assert work == pytest.approx(6.0)
    plain = Model("")
    for model in case.models:
        ratio = model.target_seconds / model.mean_seconds
        assert ratio == pytest.approx(plain.target_seconds / plain.mean_seconds)


def test_a_file_in_another_format_is_refused_with_what_is_known(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("when,what\n1,2\n")
    with pytest.raises(TraceError, match="the columns are when,what; known are day,minute"):
        traces.read(path)


def test_hours_and_lateness_are_read_between_the_points_and_never_beyond_them() -> None:
    points = [(0.01, 100.0), (0.0001, 200.0), (0.0001, 240.0)]
    assert at_lateness(points, 0.001) == pytest.approx(150.0)
    assert at_hours(points[:2], 150.0) == pytest.approx(0.001)
    assert (at_lateness(points, 0.5), at_lateness(points, 1e-9)) == (100.0, 200.0)
    assert at_hours(points, 90.0) == pytest.approx(0.01)
