"""One model into what is there, at the least price. Nothing that is there moves for it.

Memory is hard. How busy neighbours may keep a slot is a reason to take another place, and be it a new device;
it is none to refuse a model that has no other (`last_resort`, docs/decisions/0102-head-room.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from nlp_operator.planning.packing.ledger import Group, Ledger, SharedServer, group_of
from nlp_operator.planning.packing.problem import Model, Pool


def insert(ledger: Ledger, model: Model, *, last_resort: bool = False) -> int:
    """Gives it replicas up to what it asks for; returns how many more it has than before. `last_resort`: a
    model that has no place yet, and finds none with time for it, gets one where there is memory."""
    before = ledger.granted(model)
    if before < model.replicas:
        if model.shared:
            _insert_shared(ledger, model, last_resort=last_resort)
        else:
            insert_dedicated(ledger, model)
    return ledger.granted(model) - before


# --- dedicated ---


def insert_dedicated(ledger: Ledger, model: Model) -> None:
    """The cheapest pools first, each up to its caps and its room. What it has stays."""
    for pool in ledger.options(model):
        more = min(dedicated_cap(ledger, model, pool), ledger.room_of(model, pool))
        if more > 0:
            ledger.add_dedicated(model, pool.name, more)


def dedicated_cap(ledger: Ledger, model: Model, pool: Pool) -> int:
    """Replicas that the model's own rules let it have there beyond those it has; below zero: too many."""
    counts = ledger.dedicated.get(model.key, {})
    here = counts.get(pool.name, 0)
    cap = min(model.replicas - sum(counts.values()), model.most_in_a_pool - here)
    if model.split:
        cap = min(cap, model.split.get(pool.name, 0) - here)
    if pool.spot:
        on_spot = sum(count for name, count in counts.items() if ledger.problem.pool[name].spot)
        cap = min(cap, model.spot_replicas - on_spot)
    return cap


# --- shared ---


@dataclass(frozen=True)
class _Seat:
    """One way to serve a shared model."""

    server: SharedServer | None
    """`None`: a new one."""
    pool: Pool
    replicas: int
    """Of the server, then."""
    granted: int
    added_micros: int
    wasted_mebibytes: int
    """In replicas that the model did not ask for, or that others now have without asking."""
    left_millis: int
    """Of the scarcer of memory and compute, once it is in; below zero: the slot is busier than neighbours may
    keep it."""
    over_millis: int = 0
    """By how much it makes a slot busier than neighbours may: a last resort."""

    @property
    def rank(self) -> tuple[int, int, int, bool, int, int, str]:
        return (self.over_millis, -self.granted, self.added_micros, *self.fit)

    @property
    def fit(self) -> tuple[bool, int, int, str]:
        """Of places at the same price: what is full, but not too full."""
        name = self.server.name if self.server is not None else f"~{self.pool.name}"
        return (self.left_millis < 0, self.wasted_mebibytes, abs(self.left_millis), name)


def _insert_shared(ledger: Ledger, model: Model, *, last_resort: bool) -> None:
    """Also of a model that has too few replicas where it is: its server grows, or it moves, whichever is
    cheaper once the move is counted. Where it would have no more than now, it stays; nor does it move to a
    pool that is closed."""
    home = ledger.home.get(model.key)
    if home is None:
        seat = min(_seats(ledger, model), key=lambda one: one.rank, default=None)
        if seat is not None and (last_resort or not seat.over_millis):
            _sit(ledger, model, seat)
        return
    had = home.replicas
    alone = len(home.members) == 1
    ledger.leave(model)
    staying = _return(ledger, model, home, had, alone=alone)
    seats = [
        one
        for one in _seats(ledger, model)
        if one.server is not home and one.granted > had and not one.over_millis and not one.pool.closed
    ]
    share = 1000 + ledger.problem.settings.move_millis
    best = min(
        [staying, *seats],
        key=lambda one: (
            -one.granted,
            one.added_micros * (1000 if one is staying else share),
            one is not staying,
            *one.fit,
        ),
    )
    if best is staying:
        _sit_again(ledger, model, home, best.replicas)
    else:
        _sit(ledger, model, best)


def _return(ledger: Ledger, model: Model, home: SharedServer, had: int, *, alone: bool) -> _Seat:
    """Back to where it was, with as many replicas as there is room for. The load is no reason against it:
    it was there before."""
    devices = home.group[2]
    now = 0 if alone else home.replicas
    back = had - now  # its pods are still there
    room = back + _growth(ledger, model, home, had - now)
    replicas = max(now, min(model.replicas, now + room))
    added = (replicas - now) * devices * home.pool.price_micros
    return _Seat(home, home.pool, replicas, min(replicas, model.replicas), added, 0, 0)


def _growth(ledger: Ledger, model: Model, home: SharedServer, back: int) -> int:
    return max(0, ledger.room_for(model, home.pool) - back)


def _sit_again(ledger: Ledger, model: Model, home: SharedServer, replicas: int) -> None:
    if home.name not in ledger.shared:
        home = ledger.open(home.group, home.pool, replicas, home.name)
    elif replicas != home.replicas:
        ledger.resize(home, replicas)
    ledger.join(home, model)


def _sit(ledger: Ledger, model: Model, seat: _Seat) -> None:
    server = seat.server
    if server is None:
        server = ledger.open(group_of(model), seat.pool, seat.replicas)
    elif seat.replicas != server.replicas:
        ledger.resize(server, seat.replicas)
    ledger.join(server, model)


def _seats(ledger: Ledger, model: Model) -> list[_Seat]:
    group = group_of(model)
    found = [
        seat
        for server in ledger.in_group.get(group, {}).values()
        if (seat := seat_in(ledger, model, server)) is not None
    ]
    return found + _new_seats(ledger, model, group)


def seat_in(ledger: Ledger, model: Model, server: SharedServer) -> _Seat | None:
    """`None`: there is no memory for it. Where it waited in vain it may still join others, whose pods may be
    there: it asks for none."""
    pool = server.pool
    size = ledger.mebibytes(model, pool.name)
    left = server.left_mebibytes - size
    if left < 0 or not ledger.admitted(model, pool):
        return None
    replicas = server.replicas
    if model.replicas > replicas:
        replicas = min(model.replicas, replicas + ledger.room_for(model, pool))
    idle = server.capacity_millis - server.busy_with(replicas, model)
    grown = replicas - server.replicas
    return _Seat(
        server,
        pool,
        replicas,
        min(replicas, model.replicas),
        grown * server.group[2] * pool.price_micros,
        grown * server.used_mebibytes + max(0, replicas - model.replicas) * size,
        min(left * 1000 // max(server.capacity_mebibytes, 1), idle * 1000 // server.capacity_millis),
        server.over_with(replicas, model),
    )


def _new_seats(ledger: Ledger, model: Model, group: Group) -> list[_Seat]:
    found = []
    for pool in ledger.options(model):
        replicas = min(model.replicas, ledger.room_for(model, pool))
        if replicas > 0:
            added = replicas * model.devices * pool.price_micros
            found.append(_Seat(None, pool, replicas, replicas, added, 0, 0))
    return found
