"""What people do without a planner."""

from __future__ import annotations

from dataclasses import dataclass

from nlp_operator.planning.packing.insert import seat_in
from nlp_operator.planning.packing.ledger import Ledger, group_of
from nlp_operator.planning.packing.problem import Model, Problem


@dataclass(frozen=True)
class Found:
    price_micros: int
    devices: int
    without_place: int


def first_fit_decreasing(problem: Problem) -> Found:
    """The largest first; into the first server with room, else into a new one on the pool whose device is
    cheapest."""
    ledger = Ledger(problem)
    without = 0
    for model in sorted(problem.models, key=lambda one: (-one.believed.memory.mebibytes, one.key)):
        if model.replicas and not _first_fit(ledger, model):
            without += 1
    return Found(ledger.price_micros(), sum(ledger.used.values()), without)


def _first_fit(ledger: Ledger, model: Model) -> bool:
    group = group_of(model)
    for server in ledger.in_group.get(group, {}).values():
        seat = seat_in(ledger, model, server)
        if seat is None or seat.over_millis:
            continue
        if seat.replicas == server.replicas and seat.granted == model.replicas:
            ledger.join(server, model)
            return True
    for pool in ledger.options(model):
        if ledger.room(pool, model.namespace, model.devices) >= model.replicas:
            ledger.join(ledger.open(group, pool, model.replicas), model)
            return True
    return False


def one_model_a_device(problem: Problem) -> Found:
    """Each on the cheapest device that holds it, with as many devices in every pool as that takes."""
    ledger = Ledger(problem)
    price = devices = without = 0
    for model in problem.models:
        options = ledger.options(model)
        if options:
            price += model.replicas * model.devices * options[0].price_micros
            devices += model.replicas * model.devices
        elif model.replicas:
            without += 1
    return Found(price, devices, without)
