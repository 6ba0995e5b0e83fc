"""Which shared servers scaling decides about, and for whom: from the plan over all models to the brain."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from nlp_operator.api.names import is_shared_name
from nlp_operator.api.objects import Obj, listed, name, namespace, text
from nlp_operator.planning import together
from nlp_operator.planning.packing.feasible import room_for
from nlp_operator.planning.scaling.allocator import Fits
from nlp_operator.planning.scaling.brain import ModelInput
from nlp_operator.planning.scaling.company import Company
from nlp_operator.planning.scaling.headroom import Seat
from nlp_operator.planning.scaling.observed import Home


def server_of(namespace: str, name: str) -> str:
    """A shared server, by the name of its objects, as the brain calls it: as no model is called."""
    return f"server {namespace}/{name}"


def homes_of(placed: together.Decision) -> dict[str, Home]:
    """By model: of those that have their place in a shared server. None of them is decided about yet."""
    found = {}
    for key, share in placed.shares.items():
        namespace = key.partition("/")[0]
        server = placed.shared.get((namespace, share.server))
        if server is not None:
            there = Company(server_of(namespace, share.server), server.replicas)
            found[key] = Home(there, server.pool, share.of_shared)
    return found


def seat_of(home: Home, given: ModelInput) -> Seat:
    """Of a model that is asked how busy it keeps its server."""
    each = given.instances
    return Seat(
        home.server.server,
        home.server.replicas,
        given.ready,
        home.replicas,
        max((offer.devices for offer in given.offers), default=1),
        each.at_a_time(each.working),
    )


def settled(homes: Mapping[str, Home], models: Iterable[Obj]) -> frozenset[str]:
    """The shared servers that hold just those who have their place there, by what the statuses say. While
    others are on their way, in or out, nobody knows whose executions take how long."""
    servers = {home.server.server for home in homes.values()}
    for model in models:
        home = homes.get(f"{namespace(model)}/{name(model)}")
        where = [text(one, "name") for one in listed(model, "status", "servers")]
        there = {server_of(namespace(model), one) for one in where if is_shared_name(one)}
        planned = set() if home is None else {home.server.server}
        if there != planned or (home is not None and len(where) > 1):
            servers -= there | planned
    return frozenset(servers)


def decided_for(
    placed: together.Decision, homes: Mapping[str, Home], models: Collection[str]
) -> dict[str, Home]:
    """The homes of these models, each with what others want of the server."""
    least: dict[str, int] = {}
    for key, home in homes.items():
        if key not in models:
            server = home.server.server
            least[server] = max(least.get(server, 0), placed.problem.model[key].replicas)
    return {
        key: replace(home, server=replace(home.server, least=least.get(home.server.server, 0)))
        for key, home in homes.items()
        if key in models
    }


def fits_in(placed: together.Decision, models: Collection[str], servers: Collection[str]) -> Fits:
    """What the planner could give these models and shared servers, as the last plan left it: memory,
    namespaces and their limits, pools that do not deliver."""
    asked = placed.problem.model
    of_plan = {server_of(*where): one.name for where, one in placed.shared.items()}
    counted = [of_plan[one] for one in servers if one in of_plan]
    room = room_for(placed.problem, placed.plan, asked.keys() & set(models), counted)

    def fits(name: str, pool: str, replicas: int, devices: int) -> bool:
        if name in of_plan:
            return room.server_fits(of_plan[name], replicas)
        return name not in asked or room.fits(name, pool, replicas, devices)

    return fits
