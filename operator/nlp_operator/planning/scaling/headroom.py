"""How busy the models of shared servers keep their slots: what the planner is told of it, slowly.

Two figures, for two questions (docs/decisions/0102-head-room.md). Who may lie together follows from the
busiest five minutes of about a day, of each model. Who has to be taken apart follows from what all of a
quarter of an hour had in common, while nothing changed that could have helped. So what was taken apart is not
put together again for what it does next, and a burst that scaling answers moves nobody.

What executions take is stretched while neighbours execute, too. Each is taken to have its equal part of the
slot then, so that a model counts as busy as it would alone: one that executes for m of the time, while n
others do on average, uses m / (1 + n) of the slot. (Processor sharing, with the others at their mean.)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from nlp_operator.planning.scaling.signals import Unknown, Window

HOUR = 3600.0
STRETCH_SECONDS = 300.0
"""What a figure is the mean of: long beside a burst, and beside what scaling needs to answer it."""
MEASURED_SHARE = 0.5
"""Of a stretch, that has to have been measured."""
MOST_HOURS = 26
"""Of which the busiest stretch is remembered: a day, and what it may begin late. Hours in which nothing was
measured are none, as far as this process knows; those since what an earlier one told are by the clock."""
SEEN_AGAIN_HOURS = 12
"""Until it is told anew when a model was so busy: less than a day, or what comes back daily would be
forgotten, and many hours, for each time a status is written."""
LASTING = 3
"""Stretches after each other in which a server was too busy, as it is."""
TOO_BUSY = 0.9
"""Of a slot. Members move in up to `packing.Settings.busy_millis`, well below."""
MOST_OFFERED = 10.0
"""Of requests that came, to those that were executed: more is not load that lasts."""
LEAST_STEP = 5


@dataclass(frozen=True)
class Seat:
    """A model in its shared server, at a look."""

    server: str
    replicas: int
    """Of the server, as planned."""
    ready: int
    wanted: int
    """Of these, the model's own."""
    devices: int
    """Of a replica."""
    at_a_time: int
    """Executions of the model in a slot."""


@dataclass
class _Stretch:
    seat: Seat
    seconds: float = 0.0
    busy: float = 0.0
    possible: float = 0.0
    """As `busy` would be if the model executed all the time."""
    offered: float = 0.0
    items: float = 0.0


@dataclass
class _Kept:
    stretch: _Stretch | None = None
    peaks: dict[int, float] = field(default_factory=dict)
    """By hour, the newest last: thousandths of a device for each of its own replicas."""
    told: int = 0
    seen_hour: int = 0
    """In which it was so busy last, to within `SEEN_AGAIN_HOURS`."""
    earlier_hour: int | None = None
    """Of the peak that is known from an earlier process alone."""


@dataclass
class _Server:
    members: Mapping[str, Seat]
    lasted: list[Mapping[str, float]]
    """Thousandths of a device of each member, in the last stretches in which it was too busy."""


@dataclass
class HeadRoom:
    """What is remembered between two looks. Time is seconds of the calendar here: what is told outlives the
    process."""

    since: float | None = None
    """When the stretch began."""
    models: dict[str, _Kept] = field(default_factory=dict)
    servers: dict[str, _Server] = field(default_factory=dict)

    def busy_millis(self, name: str) -> int:
        """Thousandths of a device that a replica of the model keeps busy at its busiest; 0: not known."""
        kept = self.models.get(name)
        return kept.told if kept is not None else 0

    def busy_at(self, name: str) -> float:
        """When the model was so busy last, to within half a day; of nothing that is known: 0."""
        kept = self.models.get(name)
        return kept.seen_hour * HOUR if kept is not None else 0.0

    @property
    def lasting(self) -> dict[str, int]:
        """Of the members of servers that have been too busy: thousandths of a device that each has kept busy
        all the while, all replicas together."""
        found: dict[str, int] = {}
        for server in self.servers.values():
            if len(server.lasted) >= LASTING:
                for name in server.members:
                    found[name] = int(min(one[name] for one in server.lasted[-LASTING:]))
        return found


def remember(room: HeadRoom, name: str, millis: int, at: float) -> None:
    """What an earlier process told, and of when; nothing where this one knows anything. It grows no younger:
    however often processes change, it is forgotten once it is too old and something else is measured."""
    if millis > 0 and name not in room.models:
        hour = int(at // HOUR)
        room.models[name] = _Kept(peaks={hour: float(millis)}, told=millis, seen_hour=hour, earlier_hour=hour)


def note(room: HeadRoom, name: str, seat: Seat, signal: Window | Unknown) -> None:
    """One window of a model. What is unknown, or of some of the pods, says nothing."""
    kept = room.models.setdefault(name, _Kept())
    if kept.stretch is None or _moved(kept.stretch.seat, seat):
        kept.stretch = _Stretch(seat)
    if isinstance(signal, Unknown) or not signal.complete or seat.ready <= 0:
        return
    stretch = kept.stretch
    stretch.seconds += signal.seconds
    stretch.busy += signal.busy_seconds
    stretch.possible += signal.seconds * seat.ready * max(seat.at_a_time, 1)
    stretch.offered += signal.offered
    stretch.items += signal.items


def look(room: HeadRoom, names: Collection[str], now: float) -> None:
    """At the end of a stretch: the figures anew. `names`: the models that share servers; others are
    forgotten."""
    for gone in room.models.keys() - set(names):
        del room.models[gone]
    if room.since is None or now < room.since:
        room.since = now
    if now - room.since < STRETCH_SECONDS:
        return
    asked = (now - room.since) * MEASURED_SHARE
    room.since = now
    servers: dict[str, dict[str, _Stretch]] = {}
    for name, kept in room.models.items():
        if kept.stretch is not None:
            servers.setdefault(kept.stretch.seat.server, {})[name] = kept.stretch
            kept.stretch = None
    for gone in room.servers.keys() - servers.keys():
        del room.servers[gone]
    for server, members in servers.items():
        _ended(room, server, members, asked, now)


def _moved(before: Seat, after: Seat) -> bool:
    return (before.server, before.replicas) != (after.server, after.replicas)


def _ended(room: HeadRoom, server: str, members: Mapping[str, _Stretch], asked: float, now: float) -> None:
    known = {name: one for name, one in members.items() if one.seconds >= asked}
    shares = dict(zip(known, used([one.busy / one.possible for one in known.values()]), strict=True))
    held: dict[str, float] = {}
    for name, one in known.items():
        came = min(max(one.offered / one.items, 1.0), MOST_OFFERED) if one.items > 0 else 1.0
        held[name] = 1000.0 * shares[name] * came * one.seat.ready * one.seat.devices
        _note_peak(room.models[name], held[name] / max(one.seat.wanted, 1), now)
    seats = {name: one.seat for name, one in members.items()}
    before = room.servers.get(server)
    lasted = list(before.lasted) if before is not None and _same(before.members, seats) else []
    whole = len(known) == len(members) and all(one.ready >= one.replicas for one in seats.values())
    full = max(1000.0 * one.ready * one.devices for one in seats.values())
    if whole and len(members) > 1 and sum(held.values()) > TOO_BUSY * full:
        lasted = [*lasted, held][-LASTING:]
    else:
        lasted = []
    room.servers[server] = _Server(seats, lasted)


def _same(before: Mapping[str, Seat], after: Mapping[str, Seat]) -> bool:
    """Whether nothing changed that may have helped: who is in it, and replicas."""
    return before.keys() == after.keys() and not any(_moved(before[name], after[name]) for name in after)


def used(busy: Sequence[float]) -> list[float]:
    """The part of a slot that each of these models uses, which keep it busy for such parts of the time. One
    alone uses just that; together they never use more than the slot."""
    parts = [min(max(one, 0.0), 1.0) for one in busy]
    return [one / (1.0 + sum(parts) - one) for one in parts]


def _note_peak(kept: _Kept, millis: float, now: float) -> None:
    hour = int(now // HOUR)
    if kept.earlier_hour is not None and hour - kept.earlier_hour >= MOST_HOURS:
        del kept.peaks[kept.earlier_hour]
        kept.earlier_hour = None
    kept.peaks[hour] = max(kept.peaks.get(hour, 0.0), millis)
    for old in sorted(kept.peaks)[:-MOST_HOURS]:
        del kept.peaks[old]
    if kept.earlier_hour not in kept.peaks:
        kept.earlier_hour = None
    before, peak = kept.told, max(kept.peaks.values())
    # Well below what is told before it is told: else it would flicker between two steps.
    kept.told = rounded_up(peak) if peak > kept.told else min(kept.told, _holds(peak))
    last = max(one for one, high in kept.peaks.items() if _holds(high) >= kept.told)
    if kept.told != before or last - kept.seen_hour >= SEEN_AGAIN_HOURS:
        kept.seen_hour = last


def _holds(peak: float) -> int:
    """The most that is still told by such a peak."""
    return rounded_up(1.25 * peak)


def rounded_up(millis: float) -> int:
    """In steps of 5, and from 40 on of a quarter of the power of two below."""
    whole = -int(-millis // 1)
    step = max(LEAST_STEP, (1 << max(whole.bit_length() - 1, 0)) // 4)
    return -(-whole // step) * step
