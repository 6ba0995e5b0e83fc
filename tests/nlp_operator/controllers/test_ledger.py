from __future__ import annotations

from nlp_operator.controllers.ledger import ELSEWHERE, Ledger
from nlp_operator.planning.plan import Placement


def test_a_model_does_not_count_against_itself() -> None:
    ledger = Ledger()
    ledger.reserve("a", "demo", [Placement("cpu", 2)])
    ledger.reserve("b", "demo", [Placement("cpu", 3)])
    assert ledger.usage_of_others("a", "demo") == {("cpu", "demo"): 3}
    assert ledger.usage_of_others("nobody", "demo") == {("cpu", "demo"): 5}


def test_a_new_reservation_replaces_the_old_one() -> None:
    ledger = Ledger()
    ledger.reserve("a", "demo", [Placement("cpu", 2)])
    assert ledger.reserve("a", "demo", [Placement("gpu", 1)]), "there is more room on cpu"
    assert ledger.usage_of_others("b", "demo") == {("gpu", "demo"): 1}


def test_room_is_told_only_when_there_is_more_of_it() -> None:
    ledger = Ledger()
    assert not ledger.reserve("a", "demo", [Placement("cpu", 2)])
    assert not ledger.reserve("a", "demo", [Placement("cpu", 2)])
    assert not ledger.reserve("a", "demo", [Placement("cpu", 3)])
    assert ledger.reserve("a", "demo", [Placement("cpu", 1)])
    assert ledger.release("a")
    assert not ledger.release("a")
    assert ledger.usage_of_others("b", "demo") == {}


def test_namespaces_are_counted_apart() -> None:
    ledger = Ledger()
    ledger.reserve("a", "one", [Placement("cpu", 1)])
    ledger.reserve("b", "two", [Placement("cpu", 1), Placement("cpu", 2)])
    assert ledger.usage_of_others("c", "one") == {("cpu", "one"): 1, ("cpu", ELSEWHERE): 3}
    assert ledger.usage_of_others("a", "one") == {("cpu", ELSEWHERE): 3}
    assert ledger.usage_of_others("b", "two") == {("cpu", ELSEWHERE): 1}
