"""Between scaling and packing: what scaling may ask for, and what it then asked.

    plan ─> room_for ─> allocate(requests with room.offers, room.devices, room.fits) ─> asked ─> plan

`agree` goes round until nothing changes.

The allocator counts devices of dedicated models itself, by pool. A replica of a shared model takes no device
of its own: it is offered under the name of its server, at no device and the price of its share, and `fits`
says how far that server can grow. Where the server is scaled as one (`scaling/company.py`), the allocator
counts its devices, too, and `server_fits` says the same of it. What a plan refuses is refused by the `fits`
made from that plan, so the two soon agree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from nlp_operator.planning.packing.bounds import gets_nothing_new
from nlp_operator.planning.packing.keep import keep
from nlp_operator.planning.packing.ledger import Ledger, SharedServer
from nlp_operator.planning.packing.planner import plan
from nlp_operator.planning.packing.problem import Model, Plan, Pool, Problem
from nlp_operator.planning.scaling.allocator import Offer


@dataclass(frozen=True)
class Room:
    """What there is for scaling, as one plan left it."""

    ledger: Ledger
    devices: Mapping[str, int]
    """By pool: those that scaled dedicated models have or may get."""
    cheapest_micros: int
    """Of a device: the unit of an offer's price."""

    def fits(self, name: str, place: str, replicas: int, devices: int) -> bool:
        """Whether the planner could give the model so many replicas there, as everything else is. It is the
        `Fits` of the allocator, which also keeps to `devices`."""
        model = self.ledger.problem.model[name]
        if model.shared:
            home = self.ledger.home.get(name)
            if home is None or place not in (home.name, home.pool.name):
                return False
            return replicas <= self._most_in(home, model)
        pool = self.ledger.problem.pool.get(place)
        if pool is None or pool not in self.ledger.options(model):
            return False
        here = self.ledger.dedicated.get(name, {}).get(place, 0)
        return replicas <= here or self._may_grow(model, pool, here, replicas)

    def server_fits(self, name: str, replicas: int) -> bool:
        """The same of a shared server that the allocator counts by its devices, as it does a dedicated
        model."""
        server = self.ledger.shared.get(name)
        if server is None:
            return False
        more = replicas - server.replicas
        if more <= 0:
            return True
        if any(gets_nothing_new(self.ledger.problem, one, server.pool) for one in server.members.values()):
            return False
        return self._within_limit(server.pool, server.group[0], more * server.group[2])

    def offers(self, name: str, speeds: Mapping[str, float]) -> list[Offer]:
        """Where one replica more may be asked for. `speeds`: of a replica by pool, 1.0 where none is
        given."""
        model = self.ledger.problem.model[name]
        if not model.shared:
            return [
                Offer(
                    one.name,
                    model.devices,
                    speeds.get(one.name, 1.0),
                    model.devices * self._relative(one.price_micros),
                )
                for one in self.ledger.options(model)
            ]
        home = self.ledger.home.get(name)
        if home is None:
            return []
        size = self.ledger.mebibytes(model, home.pool.name)
        share = size / max(home.capacity_mebibytes, 1) * model.devices
        price = self._relative(home.pool.price_micros) * max(share, 0.001)
        return [Offer(home.name, 0, speeds.get(home.pool.name, 1.0), price)]

    def current(self, name: str) -> dict[str, int]:
        """Replicas it has, as the allocator counts them."""
        model = self.ledger.problem.model[name]
        if not model.shared:
            return dict(self.ledger.dedicated.get(name, {}))
        home = self.ledger.home.get(name)
        return {home.name: self.ledger.granted(model)} if home is not None else {}

    def _most_in(self, home: SharedServer, model: Model) -> int:
        if gets_nothing_new(self.ledger.problem, model, home.pool):
            return home.replicas
        return home.replicas + self.ledger.room_again(home.pool, home.group[0], home.group[2])

    def _may_grow(self, model: Model, pool: Pool, here: int, replicas: int) -> bool:
        if gets_nothing_new(self.ledger.problem, model, pool):
            return False
        if pool.closed and self._has_room_elsewhere(model):
            return False
        counts = self.ledger.dedicated.get(model.key, {})
        if not lies_as_it_may(self.ledger.problem, model, {**counts, pool.name: replicas}):
            return False
        if not self._within_limit(pool, model.namespace, (replicas - here) * model.devices):
            return False
        return replicas * model.devices <= self.devices[pool.name]

    def _has_room_elsewhere(self, model: Model) -> bool:
        """In a pool that is not closed."""
        return any(self.ledger.room_of(model, pool) for pool in self.ledger.options(model))

    def _within_limit(self, pool: Pool, namespace: str, more: int) -> bool:
        """Whether the namespace may have so many devices more."""
        limit = pool.namespaces.get(namespace)
        if limit is None or limit.max_devices is None:
            return True
        return self.ledger.used_by.get((pool.name, namespace), 0) + more <= limit.max_devices

    def _relative(self, micros: int) -> float:
        """Pools without a price cost all the same."""
        return max(micros, 1) / self.cheapest_micros if self.cheapest_micros > 1 else 1.0


def room_for(problem: Problem, made: Plan, scaled: Collection[str], servers: Collection[str] = ()) -> Room:
    """`scaled`: the models that scaling decides about; the others keep what they have. `servers`: shared ones
    whose devices the allocator counts as well."""
    ledger = keep(problem, made)
    devices = {}
    for pool in problem.pools:
        free = pool.max_devices - ledger.used[pool.name]
        held = sum(
            counts.get(pool.name, 0) * problem.model[key].devices
            for key, counts in ledger.dedicated.items()
            if key in scaled
        )
        held += sum(
            one.replicas * one.group[2]
            for one in ledger.shared.values()
            if one.name in servers and one.pool is pool
        )
        devices[pool.name] = held + max(free, 0)
    cheapest = min((one.price_micros for one in problem.pools if one.price_micros > 0), default=1)
    return Room(ledger, devices, cheapest)


TURNS = 6
"""Of scaling and placement, on paper: more than all but very few random problems take."""


def agree(
    problem: Problem,
    running: Plan,
    allocate: Callable[[Room], Mapping[str, Mapping[str, int]]],
    lowest: Mapping[str, int],
) -> Problem:
    """What scaling asks for once placement has answered: both in turn, on paper, until nothing changes.

    One turn may ask for too much together, for `fits` knows each model alone beside the last plan; what was
    refused is refused by the next `fits`, and what others gave up is free. Nothing is started or stopped
    meanwhile. `allocate`: replicas by model and place, for this room. `lowest`: of the models that are
    scaled.
    """
    for _ in range(TURNS):
        wanted = asked(problem, allocate(room_for(problem, running, lowest)), lowest, running)
        made = replace(plan(wanted, running), leaving=())
        if (wanted, made) == (problem, running):
            break
        problem, running = wanted, made
    return problem


def asked(
    problem: Problem, counts: Mapping[str, Mapping[str, int]], lowest: Mapping[str, int], running: Plan
) -> Problem:
    """The problem with the replicas that the allocator gave, by model and place. A model that was given fewer
    than its lowest count asks for that all the same, anywhere: the planner alone knows who has to make room.

    Where to give back a replica would leave the others lying as the model's own rules forbid (the spread over
    pools, the share of spot), it asks for what it has: the planner would take away more than scaling meant
    to, and scaling would ask for it again.
    """

    def with_counts(model: Model) -> Model:
        given = counts.get(model.key)
        if given is None:
            return model
        if not model.shared and not lies_as_it_may(problem, model, given):
            given = running.replicas(model.key)
        total, least = sum(given.values()), lowest.get(model.key, 0)
        if model.shared or total < least:
            return replace(model, replicas=max(total, least), split={})
        split = {pool: count for pool, count in sorted(given.items()) if count}
        return replace(model, replicas=total, split=split)

    return replace(problem, models=tuple(with_counts(one) for one in problem.models))


def lies_as_it_may(problem: Problem, model: Model, counts: Mapping[str, int]) -> bool:
    """Whether so many replicas by pool, and no others, are within the model's own rules."""
    total = sum(counts.values())
    if any(count > -(-total // max(model.spread, 1)) for count in counts.values()):
        return False
    on_spot = sum(count for pool, count in counts.items() if pool in problem.pool and problem.pool[pool].spot)
    return on_spot <= total * model.spot_millis // 1000
