"""What is missing gets a place, the highest priority first; where none is left, lower ones make room.

A place without time for it counts as one before anybody has to make room: nobody loses a replica because
others are busy. In a pool that is closed only what still misses a place is placed, and nobody makes room
there: its pods may wait, so that whoever makes nodes sees them, and the first that gets one opens the pool.
"""

from __future__ import annotations

from collections.abc import Iterable

from nlp_operator.planning.packing.insert import insert
from nlp_operator.planning.packing.keep import put_back
from nlp_operator.planning.packing.ledger import Ledger
from nlp_operator.planning.packing.problem import Model


def settle(ledger: Ledger) -> Ledger:
    """May return another ledger. In it no model misses a replica that it would get were everything of lower
    priority away, pools that are closed apart."""
    while missing := short(ledger):
        helped = _insert_all(ledger, missing)
        before = ledger
        for priority in sorted({one.priority for one in missing if ledger.missing(one)}, reverse=True):
            ledger = _make_room(ledger, priority)
        if not helped and ledger is before:
            break
    return ledger


def use_closed(ledger: Ledger) -> None:
    """What misses a place gets one in pools that are closed."""
    ledger.closed_too = any(one.closed for one in ledger.problem.pools)
    if ledger.closed_too:
        _insert_all(ledger, short(ledger))
    ledger.closed_too = False


def _make_room(ledger: Ledger, priority: int) -> Ledger:
    vacating = {key for server in ledger.vacated.values() for key in server.models}
    lower = [
        one
        for one in ledger.problem.models
        if one.priority < priority
        and (ledger.granted(one) or one.key in ledger.leaving or one.key in vacating)
    ]
    missing = [one for one in short(ledger) if one.priority == priority]
    return _lift(ledger, lower, missing) if lower and missing else ledger


def short(ledger: Ledger) -> list[Model]:
    """Who misses replicas, in the order in which they are served."""
    return in_order(ledger, [one for one in ledger.problem.models if ledger.missing(one)])


def in_order(ledger: Ledger, models: Iterable[Model]) -> list[Model]:
    """Priority first; then those that are harder to place."""

    def rank(model: Model) -> tuple[int, int, int, str]:
        size = max((ledger.mebibytes(model, pool.name) for pool in ledger.options(model)), default=0)
        return (-model.priority, -model.devices, -size, model.key)

    return sorted(models, key=rank)


def _lift(ledger: Ledger, lower: list[Model], missing: list[Model]) -> Ledger:
    """As it would be had those of lower priority come last, if that helps; else as it is."""
    trial = ledger.copy()
    for model in lower:
        trial.remove(model)
    if not _insert_all(trial, missing):
        return ledger
    for model in in_order(trial, lower):
        put_back(trial, model, ledger)
    _insert_all(trial, short(trial))
    return trial


def _insert_all(ledger: Ledger, models: list[Model]) -> bool:
    """Again and again while it helps: a server that one of them opens may have room for another."""
    helped = False
    while models and sum(insert(ledger, one, last_resort=True) for one in models):
        helped = True
        models = [one for one in models if ledger.missing(one)]
    return helped
