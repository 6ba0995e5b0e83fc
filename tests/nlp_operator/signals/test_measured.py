"""What is known of every model's pods, from the loop's side and from the autoscaler's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nlp_operator.planning.readings.counters import Counters, Reading
from nlp_operator.planning.readings.totals import Newest
from nlp_operator.planning.scaling import signals
from nlp_operator.planning.scaling.signals import Counted, Sample, Unknown, Window
from nlp_operator.signals.measured import Measured, Model

WORDS, NOVELS = Model("demo", "words"), Model("demo", "novels")


def test_models_are_kept_apart() -> None:
    measured = Measured(5.5)
    measured.put(WORDS, "a", True, Reading(1.0, Counters(waiting=3)))
    measured.put(NOVELS, "b", False, Reading(1.0, Counters()))
    sample = measured.sample(WORDS, 0.1, 1.0)
    assert isinstance(sample, Sample)
    assert (sample.pods_up, sample.waiting) == (1, 3)
    other = measured.sample(NOVELS, 0.1, 1.0)
    assert isinstance(other, Sample)
    assert other.pods_up == 0
    assert measured.sample(Model("other", "words"), 0.1, 1.0) is None


def test_nothing_grows_when_pods_come_and_go() -> None:
    measured = Measured(5.5)
    for number in range(500):
        model = Model("demo", f"model-{number % 7}")
        measured.put(model, f"pod-{number}", True, Reading(float(number), Counters()))
        measured.sample(model, 0.1, float(number))
        measured.believed(model)
        measured.drop(model, f"pod-{number}")
        measured.drop(model, f"pod-{number}")
    assert not measured._pods
    assert not measured._totals


def test_a_look_at_a_model_whose_last_pod_goes_meanwhile_leaves_nothing() -> None:
    measured = Measured(5.5)
    measured.put(WORDS, "a", True, Reading(1.0, Counters()))
    pods = measured._pods[WORDS]

    class Going(dict):  # type: ignore[type-arg]
        def setdefault(self, key: object, default: object = None) -> object:
            measured.drop(WORDS, "a")
            return super().setdefault(key, default)

    measured._totals = Going()
    measured.sample(WORDS, 0.1, 1.0)
    assert not pods
    assert not measured._totals


def test_each_new_reading_is_told_with_the_rate_of_all_pods() -> None:
    told: list[tuple[Model, Newest]] = []
    measured = Measured(5.5)
    measured.on_newest = lambda model, found: told.append((model, found))
    for at, offered in ((0.0, 0.0), (2.0, 20.0), (2.0, 20.0)):  # the last is the same again, as of Prometheus
        measured.put(WORDS, "a", True, Reading(at, Counters(offered=offered)))
        measured.put(NOVELS, "c", True, Reading(at, Counters()))
    assert told == [(WORDS, Newest(10.0, 2.0)), (NOVELS, Newest(0.0, 2.0))]
    measured.put(WORDS, "b", True, Reading(3.0, Counters(offered=9.0)))
    measured.put(WORDS, "b", True, Reading(4.0, Counters(offered=14.0)))
    assert told[2] == (WORDS, Newest(15.0, 1.5))
    measured.put(WORDS, "b", True, Reading(9.0, Counters(offered=14.0)))
    assert told[3] == (WORDS, Newest(0.0, 5.0))  # the other is silent for too long


# --- what is forgotten and seen again ---

RATE = 20.0
READ, LOOK = 2, 10
"""Seconds between readings of a pod, and between looks."""


class Eye:
    """The brain's, on one model; pods are measured anew at each reading."""

    def __init__(self) -> None:
        self.measured = Measured(5.5)
        self.known: Counted | None = None

    def read(self, pod: str, at: float, offered: float, **more: float) -> None:
        counters = Counters(offered=offered, **more)  # type: ignore[arg-type]
        self.measured.put(WORDS, pod, True, Reading(at, counters))

    def look(self, now: float, ready: int = 1) -> Window | Unknown:
        found = signals.read(self.measured.sample(WORDS, 0.1, now), now, ready, 45.0)
        if isinstance(found, Unknown):
            return found
        before, self.known = self.known, found
        return signals.between(before, found, ready)


def test_a_model_that_was_seen_once_and_forgotten_is_unknown_when_it_is_back_and_not_idle() -> None:
    eye = Eye()
    eye.read("a", 1.0, 100)
    assert isinstance(eye.look(1.0), Unknown)
    eye.measured.drop(WORDS, "a")
    eye.read("b", 11.0, 50)
    found = eye.look(11.0)
    assert isinstance(found, Unknown), "nothing was seen in between"
    assert found.reason == "CounterReset"
    eye.read("b", 21.0, 250)
    known = eye.look(21.0)
    assert isinstance(known, Window)
    assert (known.offered, known.seconds) == (200, 10)


def test_what_a_new_pod_counted_is_not_set_against_what_one_that_is_gone_had() -> None:
    """It has counted more of everything by the time of the look, so that no counter falls."""
    eye = Eye()
    eye.read("a", 0.0, 0)
    eye.look(0.0)
    eye.read("a", 10.0, 10, refused=1)
    assert isinstance(eye.look(10.0), Window)
    eye.measured.drop(WORDS, "a")
    eye.read("b", 12.0, 0)
    eye.read("b", 20.0, 160, refused=9)
    assert isinstance(eye.look(20.0), Unknown)


def test_a_pod_that_was_forgotten_while_others_were_not_is_counted_from_when_it_is_back() -> None:
    eye = Eye()
    for pod in "ab":
        eye.read(pod, 0.0, 1000)
    eye.look(0.0, 2)
    for pod in "ab":
        eye.read(pod, 2.0, 5)  # both began anew, and go on from what they had
        eye.read(pod, 9.0, 145)
    eye.look(10.0, 2)
    eye.measured.drop(WORDS, "b")
    eye.read("b", 11.0, 185)
    for pod in "ab":
        eye.read(pod, 20.0, 365)
    found = eye.look(20.0, 2)
    assert isinstance(found, Window)
    assert found.offered == 220 + 180


@given(
    st.lists(st.tuples(st.sampled_from(("forgotten", "replaced")), st.integers(0, 1), st.integers(3, 120))),
    st.integers(1, 2),
)
def test_a_model_under_a_steady_load_never_looks_idle_whatever_is_forgotten(
    events: list[tuple[str, int, int]], count: int
) -> None:
    eye = Eye()
    lives, began = [0, 0], [-50.0, -50.0]
    for now in range(130):
        for what, pod, at in events:
            if at == now and pod < count:
                eye.measured.drop(WORDS, f"{pod}-{lives[pod]}")
                if what == "replaced":
                    lives[pod], began[pod] = lives[pod] + 1, now
        for pod in range(count):
            if now % READ == pod:
                eye.read(f"{pod}-{lives[pod]}", now, RATE * (now - began[pod]))
        if now % LOOK == LOOK - 1:
            found = eye.look(now, count)
            if isinstance(found, Window):
                assert 0.3 * RATE * count <= found.offered / found.seconds <= 1.5 * RATE * count
