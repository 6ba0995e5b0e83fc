"""Models that share a server: the server is scaled as one, for a replica of it is one of each of them.

    requests of its members ─> as_one ─> allocate, among all others ─> apart ─> what each of them wants

One request stands for the server: a further replica avoids what it avoids of all members together, and costs
its devices once. Each member then wants what it would want alone, but no more than its server was given; the
server has as many replicas as the one that wants most. So a member that goes takes along what only it wanted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nlp_operator.planning.scaling.allocator import (
    Allocation,
    AllocatorSettings,
    Move,
    Request,
    allocate,
    cost,
)


@dataclass(frozen=True)
class Company:
    """The server that a model shares, as it is now."""

    server: str
    replicas: int
    least: int = 0
    """That those want of it who are not decided about here."""


@dataclass(frozen=True)
class Part:
    """What one member wants of what its server was given."""

    counts: Mapping[str, int]
    moves: tuple[Move, ...]


def as_one(members: Sequence[Request], company: Company) -> Request:
    """What the server asks for. All members have the one offer: the pool that it is in.

    Nobody counts as served better by more replicas than it may have, so that a member that waits for pods, or
    that more do not help, does not make its server grow.
    """
    (offer,) = members[0].offers
    length = max(max(len(one.soon), len(one.later)) for one in members)
    lowest = max(company.least, *(one.lowest for one in members))
    return Request(
        company.server,
        [math.fsum(_within(one, one.soon, count) for one in members) for count in range(length)],
        [math.fsum(_within(one, one.later, count) for one in members) for count in range(length)],
        (offer,),
        {offer.pool: company.replicas},
        lowest,
        max(lowest, *(one.highest for one in members)),
        start_seconds=max(one.start_seconds for one in members),
        starving=any(one.starving for one in members),
        grew_last=any(one.grew_last for one in members),
        turns=max(one.turns for one in members),
    )


def _within(member: Request, curve: Sequence[float], count: int) -> float:
    return curve[min(count, max(member.highest, 0), len(curve) - 1)]


def apart(
    members: Sequence[Request], company: Company, made: Allocation, settings: AllocatorSettings
) -> dict[str, Part]:
    """By member. Where none of them alone is worth the last replica that all together are, the one that
    gains most by it wants it: first of all one that has as many already."""
    given = sum(made.counts[company.server].values())
    taken = [move for move in made.moves if move.model == company.server and move.kind in ("Give", "Shed")]
    parts = {one.name: _part(one, given, taken, settings) for one in members}
    wanted = max(company.least, *(sum(one.counts.values()) for one in parts.values()))
    able = [one for one in members if one.highest >= given]
    if wanted >= given or not able:
        return parts

    def rank(one: Request) -> tuple[bool, float, str]:
        gain = cost(one.later, given - 1) - cost(one.later, given)
        return sum(one.current.values()) < given, -gain, one.name

    leader = min(able, key=rank)
    (offer,) = leader.offers
    part = parts[leader.name]
    more = Move("Lead", leader.name, offer.pool, given - sum(part.counts.values()), 0.0, company.server)
    parts[leader.name] = Part({offer.pool: given}, (*part.moves, more))
    return parts


def _part(member: Request, given: int, taken: Sequence[Move], settings: AllocatorSettings) -> Part:
    (offer,) = member.offers
    had = sum(member.current.values())
    alone = replace(
        member,
        lowest=min(member.lowest, given),
        highest=min(member.highest, given),
        settled=False,
        leaving="",
    )
    found = allocate([alone], {offer.pool: max(given, had) * offer.devices}, settings)
    counts = found.counts[member.name]
    moves = [move for move in found.moves if move.kind != "Shed"]
    if sum(counts.values()) < had:
        moves += [replace(move, model=member.name) for move in taken]
    return Part(counts, tuple(moves))
