from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nlp_agent import decisions
from nlp_agent.decisions import (
    Action,
    Bring,
    GiveUp,
    Heal,
    Model,
    Refusal,
    Remove,
    Rest,
    Restart,
    next_action,
)
from nlp_agent.server_config import Spec
from nlp_agent.settings import Timing

TIMING = Timing()
OLD = Spec("words", "a" * 64, 8, 1)
NEW = Spec("words", "b" * 64, 8, 1)
THREE = Spec("words", "a" * 64, 8, 3)
OTHER = Spec("other", "c" * 64, 8, 1)
NOW = 1000.0


def make_refusal(spec: Spec, retry_in: float = 10.0, attempts: int = 1) -> Refusal:
    return Refusal(spec, "WrongAnswers", "No.", attempts, NOW + retry_in)


def serving(spec: Spec, **more: Any) -> Model:
    return Model(spec.name, live=spec, good=spec, **more)


@pytest.mark.parametrize(
    ("wanted", "models", "expected"),
    [
        pytest.param([NEW], [], Bring("words", NEW, None), id="a new model is brought"),
        pytest.param([OLD], [serving(OLD)], Rest(None), id="what serves is left alone"),
        pytest.param([NEW], [serving(OLD)], Bring("words", NEW, OLD), id="an update is brought beside"),
        pytest.param([], [serving(OLD)], Remove("words"), id="an unwanted model leaves"),
        pytest.param([OTHER], [serving(OLD)], Remove("words"), id="leaving comes before bringing"),
        pytest.param([OLD], [serving(OLD, sick="x")], Heal("words", OLD, "x"), id="a sick backend is healed"),
        pytest.param(
            [NEW], [serving(OLD, sick="x")], Heal("words", OLD, "x"), id="healing comes before an update"
        ),
        pytest.param(
            [OTHER, OLD],
            [serving(OLD, sick="x")],
            Heal("words", OLD, "x"),
            id="healing comes before a new model",
        ),
        pytest.param(
            [OLD, OTHER],
            [serving(OLD, deaths=(NOW,) * 9)],
            Bring("other", OTHER, None),
            id="past deaths do not count",
        ),
        pytest.param(
            [NEW, OTHER],
            [serving(OLD)],
            Bring("other", OTHER, None),
            id="a model that does not serve comes first",
        ),
        pytest.param(
            [OLD], [Model("words", refusal=make_refusal(OLD))], Rest(NOW + 10), id="a refused model waits"
        ),
        pytest.param(
            [OLD],
            [Model("words", refusal=make_refusal(OLD, -1))],
            Bring("words", OLD, None),
            id="and is tried again",
        ),
        pytest.param(
            [NEW],
            [Model("words", refusal=make_refusal(OLD))],
            Bring("words", NEW, None),
            id="a changed one at once",
        ),
        pytest.param(
            [NEW], [serving(OLD, refusal=make_refusal(NEW))], Rest(NOW + 10), id="a refused update waits"
        ),
        pytest.param(
            [OLD],
            [serving(OLD, refusal=make_refusal(NEW, -1))],
            Rest(None),
            id="a moment that has passed is not waited for",
        ),
        pytest.param(
            [NEW],
            [Model("words", good=OLD)],
            Bring("words", OLD, None),
            id="what served last comes back first",
        ),
        pytest.param(
            [NEW],
            [Model("words", good=OLD, refusal=make_refusal(NEW))],
            Bring("words", OLD, None),
            id="also when the update was refused",
        ),
    ],
)
def test_next_action(wanted: list[Spec], models: list[Model], expected: Action) -> None:
    found = next_action(
        {spec.name: spec for spec in wanted}, {model.name: model for model in models}, NOW, TIMING
    )
    assert found == expected


LATE = serving(OLD, late=THREE, late_until=NOW + 10)
GONE = decisions.triton_ended(serving(OLD))


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        pytest.param([serving(OLD)], Rest(None), id="what serves is left alone"),
        pytest.param([serving(OLD, refusal=make_refusal(NEW, -1))], Rest(None), id="no update is tried"),
        pytest.param([Model("words")], Rest(None), id="nothing is brought that nobody was promised"),
        pytest.param([Model("words", refusal=make_refusal(OLD, -1))], Rest(None), id="nor tried again"),
        pytest.param([serving(OLD, sick="x")], Heal("words", OLD, "x"), id="a sick backend is healed"),
        pytest.param([GONE], Bring("words", OLD, None), id="a Triton that died is brought back"),
        pytest.param(
            [replace(GONE, refusal=make_refusal(OLD, -1))], Rest(None), id="but not what is refused since"
        ),
        pytest.param(
            [Model("other"), GONE], Bring("words", OLD, None), id="also beside what never came to serve"
        ),
        pytest.param([LATE], Rest(None), id="a change of instances goes on"),
        pytest.param([replace(LATE, late_over=True)], Rest(None), id="and is not proven"),
        pytest.param([replace(LATE, sick="x")], Restart("words", THREE, "x"), id="a heal does not wait"),
        pytest.param(
            [replace(LATE, late_over=True, sick="x")], Heal("words", OLD, "x"), id="also when it is over"
        ),
    ],
)
def test_a_pod_that_ends_keeps_what_serves_and_begins_nothing(models: list[Model], expected: Action) -> None:
    aim = decisions.in_a_pod_that_ends({model.name: model for model in models})
    assert next_action(*aim, NOW, TIMING) == expected


def test_a_download_of_what_never_served_ends_with_its_pod() -> None:
    models = {"words": serving(OLD), "other": GONE}
    wanted, _ = decisions.in_a_pod_that_ends(models)
    assert decisions.put_off(Bring("words", NEW, OLD), wanted, models)
    assert not decisions.put_off(Bring("words", OLD, None), wanted, models)


@pytest.mark.parametrize(
    ("wanted", "model", "expected"),
    [
        pytest.param([THREE], LATE, Rest(None), id="it goes on"),
        pytest.param([OLD], LATE, Rest(None), id="nobody wants it any more: it cannot be ended"),
        pytest.param([NEW], LATE, Rest(NOW + 10), id="a new version waits a little"),
        pytest.param(
            [NEW],
            replace(LATE, late_until=NOW),
            Restart("words", THREE, "A new version waits for it."),
            id="and no longer",
        ),
        pytest.param([NEW, OTHER], LATE, Bring("other", OTHER, None), id="another model does not wait"),
        pytest.param([THREE], replace(LATE, sick="x"), Restart("words", THREE, "x"), id="a heal cannot wait"),
        pytest.param(
            [THREE, OTHER],
            replace(LATE, sick="x"),
            Heal("words", OLD, "x"),
            id="but others in the server are not ended for it",
        ),
        pytest.param([THREE], replace(LATE, late_over=True), Bring("words", THREE, OLD), id="it is over"),
        pytest.param(
            [OLD],
            replace(LATE, late_over=True),
            Bring("words", THREE, OLD),
            id="it is over, and what was wanted since comes after it",
        ),
        pytest.param(
            [THREE], replace(LATE, late_over=True, sick="x"), Heal("words", OLD, "x"), id="over, and sick"
        ),
    ],
)
def test_a_change_of_instances_that_goes_on(wanted: list[Spec], model: Model, expected: Action) -> None:
    assert next_action({spec.name: spec for spec in wanted}, {"words": model}, NOW, TIMING) == expected


def test_a_change_of_instances_is_over_with_whatever_ends_it() -> None:
    proven = decisions.proven(LATE, THREE, 1, 1.0, 1)
    refused = decisions.refused(LATE, THREE, "LoadFailed", "No.", OLD, NOW, TIMING, harmful=True)
    for model in (proven, refused, decisions.triton_ended(LATE)):
        assert (model.late, model.late_over) == (None, False)
    assert (refused.live, refused.good) == (OLD, OLD)
    assert decisions.proven(refused, OLD, 1, 1.0, 1).refusal is not None
    assert decisions.proven(refused, NEW, 1, 1.0, 1).refusal is None, "that version is no more"
    gone = decisions.triton_ended(refused)
    assert decisions.returns(gone), "its callers are held"
    assert next_action({"words": THREE}, {"words": gone}, NOW, TIMING) == Bring("words", OLD, None)


def test_what_is_seen_to_work_is_told_until_the_change_is_over() -> None:
    assert Model("words").at_work == 0
    assert LATE.at_work == 1
    seen = decisions.seen_at_work(decisions.seen_at_work(LATE, 2), 1)
    assert seen.at_work == 2, "what worked once is there"
    assert decisions.seen_at_work(LATE, 9).at_work == 3, "no more than were asked for"
    refused = decisions.refused(seen, THREE, "LoadFailed", "No.", OLD, NOW, TIMING, harmful=True)
    assert refused.at_work == 1
    assert decisions.is_late(refused, THREE, NOW + 10).at_work == 1, "of another try nothing is known"
    assert decisions.seen_at_work(serving(THREE, late=OLD), 1).at_work == 3, "some are to go"


def test_only_a_change_that_goes_on_is_watched() -> None:
    assert decisions.to_watch(LATE)
    assert not decisions.to_watch(replace(LATE, late_over=True))
    assert not decisions.to_watch(serving(OLD))
    assert not decisions.to_watch(replace(LATE, late=replace(THREE, streams=True)))


def test_only_fewer_instances_end_processes() -> None:
    assert not decisions.shrinks(LATE)
    assert not decisions.shrinks(serving(THREE))
    assert decisions.shrinks(serving(THREE, late=OLD))


def test_backend_that_keeps_dying_is_given_up_alone() -> None:
    dying = serving(OLD)
    for moment in (NOW - 20, NOW - 10, NOW):
        dying = decisions.fell_ill(dying, "it died", moment, TIMING)
    action = next_action(
        {"words": OLD, "other": OTHER}, {"words": dying, "other": serving(OTHER)}, NOW, TIMING
    )
    assert isinstance(action, GiveUp)
    assert action.spec == OLD
    assert "3 times" in action.message


def test_deaths_outside_the_window_are_forgotten() -> None:
    dying = serving(OLD, deaths=(NOW - 400, NOW - 301))
    assert decisions.fell_ill(dying, "it died", NOW, TIMING).deaths == (NOW,)


def test_refusals_back_off_and_a_changed_spec_starts_anew() -> None:
    model, delays = Model("words"), []
    for _ in range(8):
        model = decisions.refused(model, OLD, "LoadFailed", "No.", None, NOW, TIMING)
        assert model.refusal is not None
        delays.append(model.refusal.retry_at - NOW)
    assert delays == [5, 10, 20, 40, 80, 160, 300, 300]
    model = decisions.refused(model, NEW, "LoadFailed", "No.", None, NOW, TIMING)
    assert model.refusal is not None
    assert model.refusal.retry_at - NOW == 5


def test_backend_that_dies_after_each_proof_backs_off() -> None:
    model, delays = serving(OLD), []
    for death in range(6):
        model = decisions.fell_ill(decisions.proven(model, OLD, 1, 1, 1), "it died", NOW + death, TIMING)
        model = decisions.refused(model, OLD, "BackendDied", "No.", None, NOW + death, TIMING)
        assert model.refusal is not None
        delays.append(model.refusal.retry_at - NOW - death)
    assert delays == [5, 5, 5, 10, 20, 40]


def test_refused_update_leaves_the_old_version_serving() -> None:
    model = decisions.refused(serving(OLD), NEW, "WrongAnswers", "No.", OLD, NOW, TIMING)
    assert (model.live, model.good) == (OLD, OLD)
    assert model.refusal is not None


def test_version_that_cannot_come_back_is_no_longer_the_good_one() -> None:
    model = decisions.refused(Model("words", good=OLD), OLD, "LoadFailed", "No.", None, NOW, TIMING)
    assert model.good is None


def test_proof_of_the_old_version_keeps_the_reason_of_the_refused_one() -> None:
    refusal = make_refusal(NEW)
    assert decisions.proven(Model("words", refusal=refusal), OLD, 1, 1, 1).refusal == refusal
    assert decisions.proven(Model("words", refusal=refusal), NEW, 1, 1, 1).refusal is None


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        pytest.param([], False, id="nothing yet"),
        pytest.param([serving(OLD)], False, id="one of two"),
        pytest.param([serving(OLD), serving(OTHER)], True, id="both proven"),
        pytest.param([serving(OLD), Model("other", refusal=make_refusal(OTHER))], True, id="one refused"),
        pytest.param([serving(OLD), Model("other", good=OTHER)], False, id="one remembered only"),
    ],
)
def test_set_is_settled(models: list[Model], expected: bool) -> None:
    assert decisions.settled(["words", "other"], {model.name: model for model in models}) is expected


def test_store_that_gives_no_answer_is_asked_again_soon_for_as_long_as_it_takes() -> None:
    model, pauses = Model("words"), []
    for _ in range(8):
        model = decisions.refused(model, NEW, "StoreUnreachable", "Away.", None, NOW, TIMING)
        assert model.refusal is not None
        pauses.append(model.refusal.retry_at - NOW)
    assert pauses == [5.0, 10.0, 20.0, 30.0, 30.0, 30.0, 30.0, 30.0]


def test_set_at_start_is_not_decided_while_the_store_gives_no_answer() -> None:
    away = decisions.refused(Model("words"), NEW, "StoreUnreachable", "Away.", None, NOW, TIMING)
    wrong = decisions.refused(Model("words"), NEW, "WrongAnswers", "No.", None, NOW, TIMING)
    assert not decisions.settled(["words"], {"words": away})
    assert decisions.settled(["words"], {"words": wrong})


@pytest.mark.parametrize(
    ("action", "wanted", "models", "waits"),
    [
        pytest.param(Bring("words", NEW, OLD), [NEW], [serving(OLD)], False, id="nothing else to do"),
        pytest.param(
            Bring("words", NEW, OLD), [NEW], [serving(OLD, sick="x")], True, id="its backend is sick"
        ),
        pytest.param(
            Bring("words", NEW, None), [NEW, OTHER], [serving(OTHER, sick="x")], True, id="another one is"
        ),
        pytest.param(Bring("words", OLD, None), [NEW], [], True, id="a newer one is wanted"),
        pytest.param(
            Bring("words", OLD, None), [NEW], [Model("words", good=OLD)], False, id="it goes back first"
        ),
        pytest.param(Bring("words", OLD, None), [], [], True, id="the model is gone"),
        pytest.param(Heal("words", OLD, "x"), [OLD], [serving(OLD, sick="x")], False, id="it heals"),
    ],
)
def test_download_waits_for_what_is_more_urgent(
    action: Action, wanted: list[Spec], models: list[Model], waits: bool
) -> None:
    named = {spec.name: spec for spec in wanted}
    assert decisions.put_off(action, named, {model.name: model for model in models}) is waits


@pytest.mark.parametrize(
    ("model", "returns"),
    [
        pytest.param(decisions.triton_ended(serving(OLD)), True, id="one that served when Triton ended"),
        pytest.param(Model("words", good=OLD), True, id="one that served when the container ended"),
        pytest.param(serving(OLD), False, id="not one that serves"),
        pytest.param(Model("words"), False, id="not one that never did"),
        pytest.param(
            Model("words", good=OLD, refusal=make_refusal(OLD)), False, id="not one that is refused"
        ),
    ],
)
def test_a_model_comes_back(model: Model, returns: bool) -> None:
    assert decisions.returns(model) == returns
