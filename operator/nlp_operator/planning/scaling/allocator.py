"""Who gets the devices: the models whose late requests a replica avoids most, at the least price.

Every model says how many late requests a second it expects with so many replicas: soon (when a replica
started now would serve) and later (over the time that a replica given away would be missed). What a replica
is worth is the difference it makes. Devices that are free go to the best worth above their price; when none
is free, a replica moves from where it is missed least, if that is worth the cold start it costs.
Deterministic: ties go by name.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, permutations
from typing import NamedTuple


@dataclass(frozen=True)
class Offer:
    """One replica of a model in one pool."""

    pool: str
    devices: int
    speed: float
    """Relative to the reference pool of the model's curves."""
    price: float
    """Of one replica, in reference devices."""


@dataclass(frozen=True)
class Request:
    """What one model asks for."""

    name: str
    soon: Sequence[float]
    """Expected late requests a second, weighted by priority, with 0, 1, 2, ... reference replicas; never
    rises."""
    later: Sequence[float]
    offers: Sequence[Offer]
    current: Mapping[str, int]
    lowest: int
    highest: int
    keep: float = 0.0
    """In reference replicas: it gives back nothing below this for its price alone; another model may still
    get it."""
    start_seconds: float = 0.0
    """What a replica costs before it serves, in seconds of its price."""
    settled: bool = False
    """All its replicas serve: one of them may be replaced by others in a pool with better worth for its
    price."""
    leaving: str = ""
    """The pool of a replica whose successors in another pool serve by now."""
    starving: bool = False
    """Nearly all its newest requests are late."""
    grew_last: bool = False
    """The last change of its replicas was upwards."""
    turns: float = 0.0
    """How often the direction of its replicas changed lately."""
    planned: bool = False
    """Where its replicas are is decided elsewhere, by their number: of the dearest pool one goes first."""


Fits = Callable[[str, str, int, int], bool]
"""Whether this model may have so many replicas in this pool when so many of its devices are then used in
all."""


@dataclass(frozen=True)
class AllocatorSettings:
    late_price: float = 100.0
    """Device-seconds that one late request (of priority 100) is worth. Higher: fewer late, more devices."""
    keep_share: float = 0.7
    """A replica is given back for its price only when it is worth less than this share of it."""
    move_share: float = 0.65
    """A replica moves when the other model's gain is larger than what is lost by this share of the gain."""
    scarce_move_share: float = 0.85
    """The same where devices are scarce: all models are late, none is worth much more than another, and each
    move costs a cold start."""
    starving_move_share: float = 0.5
    """The same for a model that starves, wherever it does."""
    scarce_turn_share: float = 0.5
    """Where devices are scarce, a replica counts for so much more in a model that has just grown: models
    that take turns lose a cold start at each."""
    scarce_again_share: float = 0.3
    """Where devices are scarce, so much more for each turn of a model that shrank last: from half a turn on,
    it takes from others only while it starves."""
    move_least: float = 0.15
    """And at least by this share of the other model's requests: what is gained must outlast the cold start,
    and the next minute may want it back."""
    move_replicas: int = 6
    """Of a model that needs more replicas than this, one of them bears less than `move_least`; there the
    share is that of so many replicas, as of one among its own."""
    payback_seconds: float = 600.0
    """A running replica is replaced by others in another pool when that saves what starting them costs
    within so long."""
    replace_least: float = 0.1
    """And a share of the price of what is replaced."""
    exchanges: int = 400
    """How many trades of pools are made at most in one plan."""


@dataclass(frozen=True)
class Move:
    kind: str
    """`Add`, `Release` (its price is not earned), `Give` (another model needs it more), `Shed` (no room),
    `Trade` (of pools, before it starts), `Succeed` (started so that one in another pool may go once these
    serve), `Retire` (its successors serve) or `Lead` (of models that share a server: see `company`)."""
    model: str
    pool: str
    replicas: int
    late_per_second: float
    """Late requests a second that it avoids, or costs."""
    other: str = ""
    """The model that received what was given; of `Trade` and `Succeed` the pool that is left."""


LITTLE = 0.05
"""Of a model's requests: so many replicas are needed that no more are late."""


class _Trade(NamedTuple):
    """`given` replicas in the pool `out` for `gained` in the pool `into`."""

    out: str
    into: str
    given: int
    gained: int

    def turned(self) -> _Trade:
        return _Trade(self.into, self.out, self.gained, self.given)


_ONE = ((1, 1),)
"""With no pool at all."""
_RATIOS = ((1, 1), (1, 2), (2, 1), (1, 3), (3, 1))
"""Given and gained. A fast replica stands for two or three slow ones, by how well a model runs on each: who
runs better on the slow ones hands a fast one to who does not."""


@dataclass
class _Holding:
    """One model while the plan is made."""

    request: Request
    counts: dict[str, int]
    capacity: float
    total: int
    offers: dict[str, Offer] = field(default_factory=dict)
    gave: bool = False
    took: bool = False
    succeeds: bool = False
    version: int = 0


@dataclass(frozen=True)
class Allocation:
    counts: Mapping[str, Mapping[str, int]]
    moves: tuple[Move, ...]
    refused: Mapping[str, Mapping[str, str]]
    """Models that wanted more: by pool `NotAllowed` (`fits` refuses it), `NoDevice` (none is free, and nobody
    there can give one) or `NeededMore` (others miss theirs too much for what is gained)."""


def convex(curve: Sequence[float]) -> list[float]:
    """The largest convex curve below this one.

    A model that drowns gains nothing from one replica and everything from four: each of the four is then
    worth a quarter of it, and none looks worthless to whoever seeks a replica to take.
    """
    hull: list[int] = []
    for at, value in enumerate(curve):
        while len(hull) >= 2:
            a, b = hull[-2], hull[-1]
            if (curve[b] - curve[a]) * (at - b) < (value - curve[b]) * (b - a):
                break
            hull.pop()
        hull.append(at)
    result = [curve[0]] if curve else []
    for a, b in pairwise(hull):
        result += [curve[a] + (curve[b] - curve[a]) * (k - a) / (b - a) for k in range(a + 1, b + 1)]
    return result


def cost(curve: Sequence[float], capacity: float) -> float:
    """Late requests a second with so many reference replicas, between whole numbers by a straight line."""
    if capacity <= 0:
        return curve[0]
    low = int(capacity)
    if low + 1 >= len(curve):
        return curve[-1]
    return curve[low] + (capacity - low) * (curve[low + 1] - curve[low])


def allocate(
    requests: Sequence[Request],
    devices: Mapping[str, int],
    settings: AllocatorSettings,
    fits: Fits | None = None,
    scarcity: Mapping[str, float] | None = None,
) -> Allocation:
    """A plan within the pools' devices and within each model's bounds.

    `scarcity`: of each pool, from 0 to 1; a pool that is not named is not scarce.

    Where the bounds themselves do not fit, what is missed least goes first. `fits` may refuse what the
    device counts allow (memory, limits of a namespace); a plan never holds what it refuses, save what runs
    already.
    """
    asked = [replace(one, soon=convex(one.soon), later=convex(one.later)) for one in requests]
    plan = _Plan(asked, devices, settings, fits, scarcity or {})
    plan.make()
    return plan.allocation()


class _Plan:
    def __init__(
        self,
        requests: Sequence[Request],
        devices: Mapping[str, int],
        settings: AllocatorSettings,
        fits: Fits | None,
        scarcity: Mapping[str, float],
    ) -> None:
        self.settings, self.fits, self.scarcity = settings, fits, scarcity
        self.holdings: dict[str, _Holding] = {}
        self.free = dict(devices)
        self.moves: list[Move] = []
        self.refused: dict[str, dict[str, str]] = {}
        self.donors: dict[tuple[str, bool], list[tuple[float, str, int]]] = {}
        """By pool and by whether only models above their lowest count: what each loses with a replica there,
        for each device; name; version. Kept up to date from the first question on."""
        for request in sorted(requests, key=lambda one: one.name):
            offers = {offer.pool: offer for offer in sorted(request.offers, key=lambda one: one.pool)}
            counts = {pool: max(request.current.get(pool, 0), 0) for pool in offers}
            capacity = sum(counts[pool] * offers[pool].speed for pool in counts)
            self.holdings[request.name] = _Holding(request, counts, capacity, sum(counts.values()), offers)
            for pool, count in counts.items():
                self.free[pool] = self.free.get(pool, 0) - count * offers[pool].devices

    def make(self) -> None:
        for holding in self.holdings.values():
            self._below_highest(holding)
        self._shed()
        for holding in self.holdings.values():
            self._retire(holding)
            self._release(holding)
        self._reach_lowest()
        self._add()
        self._succeed()
        self._exchange()

    def allocation(self) -> Allocation:
        counts = {name: dict(holding.counts) for name, holding in self.holdings.items()}
        return Allocation(counts, tuple(self.moves), self.refused)

    # --- steps ---

    def _change(self, holding: _Holding, pool: str, by: int) -> None:
        offer = holding.offers[pool]
        holding.counts[pool] += by
        holding.total += by
        holding.capacity += by * offer.speed
        holding.version += 1
        self.free[pool] -= by * offer.devices
        for (of_pool, above_lowest), queue in self.donors.items():
            self._offer_donor(queue, of_pool, above_lowest, holding)

    def _worth(self, holding: _Holding, pool: str, by: int) -> float:
        """Late requests a second that so many replicas more avoid (soon), or fewer cost (later)."""
        capacity = holding.capacity + by * holding.offers[pool].speed
        curve = holding.request.soon if by > 0 else holding.request.later
        return abs(cost(curve, holding.capacity) - cost(curve, max(capacity, 0.0)))

    def _cheapest_loss(self, holding: _Holding, keep: float = -math.inf) -> tuple[float, str] | None:
        """The pool in which one replica less is missed least for what it costs, of those where so much stays
        without it."""
        found = [
            (self._worth(holding, pool, -1) / max(holding.offers[pool].price, 1e-9), pool)
            for pool, count in holding.counts.items()
            if count > 0
            and holding.capacity - holding.offers[pool].speed >= keep - 1e-9
            and self._may_go(holding, pool)
        ]
        return min(found, default=None)

    def _may_go(self, holding: _Holding, pool: str) -> bool:
        """Whether one replica less would be one less in this pool."""
        if not holding.request.planned:
            return True
        there = [(holding.offers[one].price, one) for one, count in holding.counts.items() if count > 0]
        return pool == max(there)[1]

    def _below_highest(self, holding: _Holding) -> None:
        while holding.total > holding.request.highest:
            loss = self._cheapest_loss(holding)
            if loss is None:
                return
            pool = loss[1]
            self.moves.append(Move("Shed", holding.request.name, pool, 1, self._worth(holding, pool, -1)))
            self._change(holding, pool, -1)

    def _shed(self) -> None:
        """A pool that shrank below what runs in it: what is missed least ends."""
        for pool in sorted(self.free):
            while self.free[pool] < 0:
                donor = self._donor(pool, exclude="", above_lowest=True) or self._donor(
                    pool, exclude="", above_lowest=False
                )
                if donor is None:
                    break
                loss, holding = donor
                self.moves.append(Move("Shed", holding.request.name, pool, 1, loss))
                self._change(holding, pool, -1)

    def _retire(self, holding: _Holding) -> None:
        """End what has successors, unless the load has grown so that it earns its price again."""
        request, pool = holding.request, holding.request.leaving
        if holding.counts.get(pool, 0) <= 0 or holding.total <= request.lowest:
            return
        loss = self._worth(holding, pool, -1)
        offer = holding.offers[pool]
        spare = holding.capacity - offer.speed >= request.keep - 1e-9
        if spare and loss * self.settings.late_price < offer.price:
            self.moves.append(Move("Retire", request.name, pool, 1, loss))
            self._change(holding, pool, -1)
            holding.gave = True

    def _release(self, holding: _Holding) -> None:
        """Give back what does not earn its price."""
        request = holding.request
        while holding.total > request.lowest:
            loss = self._cheapest_loss(holding, request.keep)
            if loss is None or loss[0] * self.settings.late_price >= self.settings.keep_share:
                return
            self.moves.append(Move("Release", request.name, loss[1], 1, self._worth(holding, loss[1], -1)))
            self._change(holding, loss[1], -1)
            holding.gave = True

    def _reach_lowest(self) -> None:
        """Minimum replicas come before anybody's gain; the cheapest pool with room takes them."""
        for holding in self.holdings.values():
            while holding.total < holding.request.lowest:
                best = sorted(holding.offers.values(), key=lambda one: self._rank(holding, one))
                offer = next((one for one in best if self._fits(holding, one)), None)
                offer = offer or self._first_with_room_made(holding, best)
                if offer is None:
                    break
                self.moves.append(
                    Move("Add", holding.request.name, offer.pool, 1, self._worth(holding, offer.pool, 1))
                )
                self._change(holding, offer.pool, 1)

    def _first_with_room_made(self, holding: _Holding, offers: Sequence[Offer]) -> Offer | None:
        """For its minimum. Where there is none, it is refused in each of them."""
        hindrances: dict[str, str] = {}
        for offer in offers:
            hindrances[offer.pool] = self._make_room(holding, offer)
            if not hindrances[offer.pool]:
                return offer
        for pool, why in hindrances.items():
            self._refuse(holding, pool, why)
        return None

    def _rank(self, holding: _Holding, offer: Offer) -> tuple[float, float, str]:
        """The most late requests avoided for the price come first; if none are, the cheapest work."""
        price = max(offer.price, 1e-9)
        return -self._worth(holding, offer.pool, 1) / price, price / offer.speed, offer.pool

    def _fits(self, holding: _Holding, offer: Offer) -> bool:
        return offer.devices <= self.free.get(offer.pool, 0) and self._allowed(holding, offer)

    def _allowed(self, holding: _Holding, offer: Offer, more: int = 1) -> bool:
        if self.fits is None:
            return True
        have = holding.counts[offer.pool] + more
        return self.fits(holding.request.name, offer.pool, have, have * offer.devices)

    def _add(self) -> None:
        """The best worth for its price first, until nothing is worth its price, or nothing fits."""
        queue: list[tuple[float, str, str, int]] = []
        for name, holding in self.holdings.items():
            if not holding.gave:
                for offer in holding.offers.values():
                    self._push(queue, name, holding, offer)
        while queue:
            _, name, pool, version = heapq.heappop(queue)
            holding = self.holdings[name]
            offer = holding.offers[pool]
            if holding.gave:
                continue
            if version != holding.version:
                self._push(queue, name, holding, offer)
                continue
            worth = self._worth(holding, pool, 1)
            if not self._fits(holding, offer) and (why := self._make_room(holding, offer, worth)):
                self._refuse(holding, pool, why)
                continue
            self.moves.append(Move("Add", name, pool, 1, worth))
            self._change(holding, pool, 1)
            holding.took = True
            self._push(queue, name, holding, offer)

    def _succeed(self) -> None:
        """Start successors, in pools with room, of replicas that cost more than they are worth where they
        run.

        Make before break: what runs stays until they serve, so that both hold devices meanwhile.
        """
        found = sorted(
            (-saved, name, into, out, count)
            for name, holding in self.holdings.items()
            if holding.request.settled and not holding.gave and not holding.took
            for saved, into, out, count in self._successions(holding)
        )
        for _, name, into, out, count in found:
            holding = self.holdings[name]
            offer = holding.offers[into]
            have = holding.counts[into] + count
            if holding.succeeds or offer.devices * count > self.free.get(into, 0):
                continue
            if self.fits is not None and not self.fits(name, into, have, have * offer.devices):
                continue
            self.moves.append(Move("Succeed", name, into, count, self._worth(holding, into, count), out))
            self._change(holding, into, count)
            holding.took = holding.succeeds = True

    def _successions(self, holding: _Holding) -> Iterator[tuple[float, str, str, int]]:
        """What a model saves a second by so many replicas in one pool in the place of one in another."""
        request, settings = holding.request, self.settings
        now = cost(request.later, holding.capacity)
        for out, into in permutations(holding.offers.values(), 2):
            if holding.counts[out.pool] <= 0:
                continue
            most = min(math.ceil(out.speed / into.speed), request.highest - holding.total)
            for count in range(1, most + 1):
                capacity = holding.capacity - out.speed + count * into.speed
                if capacity < min(request.keep, holding.capacity) - 1e-9:
                    continue
                starting = count * into.price * request.start_seconds / settings.payback_seconds
                saved = settings.late_price * (now - cost(request.later, capacity))
                saved += out.price - count * into.price - starting
                if saved > settings.replace_least * out.price:
                    yield saved, into.pool, out.pool, count

    def _exchange(self) -> None:
        """Models trade places in two pools, or one hands its place to another, while that avoids late
        requests.

        Only replicas that are not started yet take part, for those cost nothing to move, and of those the
        ones of one device. Pools differ in speed, so that two or three may go for one. No pool at all counts
        as a pool that always has room.
        """
        queues: dict[_Trade, list[tuple[float, str, int]]] = {}
        for name in self.holdings:
            self._offer_trades(queues, name)
        for _ in range(self.settings.exchanges):
            best, chosen = 1e-6, None
            for trade in queues:
                there = self._top_trade(queues[trade])
                room = not trade.into or self.free.get(trade.into, 0) >= trade.gained
                back = 0.0 if room else self._top_trade(queues.get(trade.turned(), []))
                if there + back > best:
                    best, chosen = there + back, (trade, room)
            if chosen is None:
                return
            trade, room = chosen
            traders = [(queues[trade][0][1], trade)]
            if not room:
                traders.append((queues[trade.turned()][0][1], trade.turned()))
                if traders[0][0] == traders[1][0]:
                    return
            for name, one in traders:
                if one.out:
                    self._change(self.holdings[name], one.out, -one.given)
                if one.into:
                    self._change(self.holdings[name], one.into, one.gained)
                self.moves.append(Move("Trade", name, one.into, max(one.gained, one.given), best, one.out))
            for name, _ in traders:
                self._offer_trades(queues, name)

    def _offer_trades(self, queues: dict[_Trade, list[tuple[float, str, int]]], name: str) -> None:
        """What the model would gain by replicas in another pool, by one more and by one fewer."""
        holding = self.holdings[name]
        if holding.gave or holding.succeeds:
            return
        started, request = holding.request.current, holding.request
        curve, price = request.soon, self.settings.late_price
        now = cost(curve, holding.capacity)
        own = {pool: count - max(started.get(pool, 0), 0) for pool, count in holding.counts.items()}
        free = [pool for pool, count in own.items() if count > 0]
        sources = [*free, ""] if holding.total < request.highest else free
        for out in sources:
            one = holding.offers.get(out)
            if one is not None and one.devices != 1:
                continue
            for into in (*holding.offers, ""):
                other = holding.offers.get(into)
                if request.planned and one is not None and other is not None:
                    continue
                if into == out or (other is None and holding.total <= request.lowest):
                    continue
                if other is not None and other.devices != 1:
                    continue
                for given, gained in _RATIOS if one and other else _ONE:
                    after = holding.total - given + gained
                    if given > own.get(out, given):
                        continue
                    if given != gained and not request.lowest <= after <= request.highest:
                        continue
                    if other is not None and not self._allowed(holding, other, gained):
                        continue
                    lost = given * one.speed if one else 0.0
                    won = gained * other.speed if other else 0.0
                    gain = price * (now - cost(curve, holding.capacity - lost + won))
                    gain += (given * one.price if one else 0.0) - (gained * other.price if other else 0.0)
                    trade = _Trade(out, into, given, gained)
                    heapq.heappush(queues.setdefault(trade, []), (-gain, name, holding.version))

    def _top_trade(self, queue: list[tuple[float, str, int]]) -> float:
        """The best gain that still holds; far below zero when there is none."""
        while queue and queue[0][2] != self.holdings[queue[0][1]].version:
            heapq.heappop(queue)
        return -queue[0][0] if queue else -1e18

    def _push(
        self, queue: list[tuple[float, str, str, int]], name: str, holding: _Holding, offer: Offer
    ) -> None:
        if holding.total >= holding.request.highest:
            return
        score = self._worth(holding, offer.pool, 1) * self.settings.late_price / max(offer.price, 1e-9)
        if score > 1.0:
            heapq.heappush(queue, (-score, name, offer.pool, holding.version))

    def _donor(self, pool: str, exclude: str, *, above_lowest: bool) -> tuple[float, _Holding] | None:
        """The model in that pool that misses a replica least, for each device."""
        if (pool, above_lowest) not in self.donors:
            queue = self.donors.setdefault((pool, above_lowest), [])
            for holding in self.holdings.values():
                self._offer_donor(queue, pool, above_lowest, holding)
        queue = self.donors[pool, above_lowest]
        aside, found = None, None
        while queue and found is None:
            _, name, version = queue[0]
            holding = self.holdings[name]
            if version != holding.version or holding.took:
                heapq.heappop(queue)
            elif name == exclude:
                aside = heapq.heappop(queue)
            else:
                found = (self._loss(holding, pool), holding)
        if aside is not None:
            heapq.heappush(queue, aside)
        return found

    def _offer_donor(
        self, queue: list[tuple[float, str, int]], pool: str, above_lowest: bool, holding: _Holding
    ) -> None:
        if holding.took or holding.counts.get(pool, 0) <= 0:
            return
        if above_lowest and holding.total <= holding.request.lowest:
            return
        if not self._may_go(holding, pool):
            return
        # Rounded, so that the same loss by two ways of adding is a tie, which goes by name.
        heapq.heappush(queue, (round(self._loss(holding, pool), 12), holding.request.name, holding.version))

    def _loss(self, holding: _Holding, pool: str) -> float:
        more = self.settings.scarce_turn_share * self.scarcity.get(pool, 0.0)
        lost = self._worth(holding, pool, -1) / max(holding.offers[pool].devices, 1)
        return lost * (1.0 + more) if holding.request.grew_last else lost

    def _make_room(self, holding: _Holding, offer: Offer, gain: float = math.inf) -> str:
        """By taking from those who miss it least, when the gain is well above the loss, as an infinite one
        always is; else what hinders it."""
        if not self._allowed(holding, offer):
            return "NotAllowed"
        needed = offer.devices - self.free.get(offer.pool, 0)
        taken: list[tuple[_Holding, float]] = []
        lost = 0.0
        while needed > 0:
            donor = self._donor(offer.pool, holding.request.name, above_lowest=True)
            if donor is None:
                break
            loss, giver = donor
            lost += loss * giver.offers[offer.pool].devices
            self._change(giver, offer.pool, -1)
            taken.append((giver, loss))
            needed -= giver.offers[offer.pool].devices
        least = max(self._move_share(holding, offer.pool) * gain, self._least_gain(holding.request))
        if needed > 0 or gain - lost < least:
            for giver, _ in taken:
                self._change(giver, offer.pool, 1)
            return "NoDevice" if needed > 0 else "NeededMore"
        for giver, loss in taken:
            giver.gave = True
            self.moves.append(Move("Give", giver.request.name, offer.pool, 1, loss, holding.request.name))
        return ""

    def _move_share(self, holding: _Holding, pool: str) -> float:
        settings = self.settings
        if holding.request.starving:
            return settings.starving_move_share
        more = settings.scarce_move_share - settings.move_share
        if not holding.request.grew_last:
            more += settings.scarce_again_share * holding.request.turns
        return settings.move_share + more * self.scarcity.get(pool, 0.0)

    def _least_gain(self, request: Request) -> float:
        """Late requests a second that a replica must avoid to be taken from another model."""
        least = self.settings.move_least * request.soon[0]
        if len(request.soon) <= self.settings.move_replicas:
            return least
        borne = LITTLE * request.soon[0]
        needed = next((count for count, late in enumerate(request.soon) if late <= borne), len(request.soon))
        return least * min(1.0, self.settings.move_replicas / max(needed, 1))

    def _refuse(self, holding: _Holding, pool: str, why: str) -> None:
        self.refused.setdefault(holding.request.name, {})[pool] = why
