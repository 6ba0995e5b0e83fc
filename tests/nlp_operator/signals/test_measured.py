"""What is known of every model's pods, from the loop's side and from the autoscaler's."""

from __future__ import annotations

from nlp_operator.planning.readings.counters import Counters, Reading
from nlp_operator.planning.readings.totals import Newest
from nlp_operator.planning.scaling.signals import Sample
from nlp_operator.signals.measured import Measured, Model

WORDS, NOVELS = Model("demo", "words"), Model("demo", "novels")


def test_models_are_kept_apart() -> None:
    measured = Measured(5.5)
    measured.put(WORDS, "a", True, Reading(1.0, Counters(waiting=3)))
    measured.put(NOVELS, "b", False, Reading(1.0, Counters(quarantined="LoadFailed")))
    sample = measured.sample(WORDS, 0.1, 1.0)
    assert isinstance(sample, Sample)
    assert (sample.pods_up, sample.waiting) == (1, 3)
    other = measured.sample(NOVELS, 0.1, 1.0)
    assert isinstance(other, Sample)
    assert other.pods_up == 0
    assert measured.quarantined(NOVELS) == "LoadFailed"
    assert measured.sample(Model("other", "words"), 0.1, 1.0) is None
    assert measured.quarantined(Model("other", "words")) == ""


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
