"""Who holds what while a plan is made: devices by pool and namespace, memory and load by server.

The one place that counts, and the only mutable one. Whatever is put in here is within memory, budgets and
limits, or an assertion fails.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from nlp_operator.planning.packing.bounds import admits, gets_nothing_new
from nlp_operator.planning.packing.problem import Model, Plan, Pool, Problem, Server

Group = tuple[str, str, int]
"""Namespace, shape, devices of a pod: what shared models have to have in common."""


def group_of(model: Model) -> Group:
    return (model.namespace, model.shape, model.devices)


@dataclass
class SharedServer:
    """One server of several models, while the plan is made."""

    name: str
    pool: Pool
    group: Group
    replicas: int
    capacity_mebibytes: int
    capacity_millis: int
    members: dict[str, Model] = field(default_factory=dict)
    used_mebibytes: int = 0
    busy_millis: int = 0
    """Of one slot."""

    @property
    def free_mebibytes(self) -> int:
        return self.capacity_mebibytes - self.used_mebibytes

    @property
    def left_mebibytes(self) -> int:
        """For others: nodes may say less than the pool does."""
        free = self.capacity_mebibytes - self.used_mebibytes
        if not self.pool.found_mebibytes:  # each insert asks it of every server
            return free
        return free - (self.pool.memory_mebibytes - self.pool.new_mebibytes) * self.group[2]

    @property
    def wanted(self) -> int:
        """The most replicas that one of them wants."""
        return max((one.replicas for one in self.members.values()), default=0)

    @property
    def priority(self) -> int:
        """Of its last replica: what is lost with it."""
        return max(
            (one.priority for one in self.members.values() if one.replicas >= self.replicas), default=0
        )

    def busy_with(self, replicas: int, model: Model | None = None) -> int:
        """How busy each slot would be with so many replicas, and one model more."""
        pool = self.pool.name
        if replicas == self.replicas:
            busy = self.busy_millis
        else:
            busy = sum(-(-one.need(pool).load_millis // replicas) for one in self.members.values())
        return busy + (-(-model.need(pool).load_millis // replicas) if model is not None else 0)

    def over_with(self, replicas: int, model: Model) -> int:
        """By how much each slot would then be busier than neighbours may keep it. None by a model that adds
        no time: it takes none from anybody, however busy they are."""
        if not model.need(self.pool.name).load_millis:
            return 0
        return max(0, self.busy_with(replicas, model) - self.capacity_millis)


class Ledger:
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.used: dict[str, int] = {one.name: sum(one.taken.values()) for one in problem.pools}
        self.used_by: dict[tuple[str, str], int] = {
            (one.name, namespace): count for one in problem.pools for namespace, count in one.taken.items()
        }
        self.shared: dict[str, SharedServer] = {}
        self.in_group: dict[Group, dict[str, SharedServer]] = {}
        self.home: dict[str, SharedServer] = {}
        """Of shared models."""
        self.dedicated: dict[str, dict[str, int]] = {}
        """Replicas by pool, of the others; none is 0."""
        self.leaving: dict[str, dict[str, Server]] = {}
        """By model and pool: what stays of a dedicated model until it runs elsewhere. Nobody counts it as
        granted."""
        self.vacated: dict[str, Server] = {}
        """By name: shared servers of which no member is planned there any more, and that stay until all of
        them run elsewhere. They hold their devices; nobody joins them."""
        self.names: set[str] = set()
        """Of shared servers, also of earlier ones: none is given twice, for both may run while models
        move."""
        self.closed_too = False
        """Whether room in closed pools counts: for what has no other place."""
        self._options: dict[str, tuple[Pool, ...]] = {}
        self._sizes: dict[tuple[str, str], int] = {}

    def copy(self) -> Ledger:
        other = Ledger(self.problem)
        other._options, other._sizes = self._options, self._sizes  # the same for every ledger of a problem
        other.closed_too = self.closed_too
        other.names = set(self.names)
        other.used, other.used_by = dict(self.used), dict(self.used_by)
        other.dedicated = {model: dict(counts) for model, counts in self.dedicated.items()}
        other.leaving = {model: dict(servers) for model, servers in self.leaving.items()}
        other.vacated = dict(self.vacated)
        for server in self.shared.values():
            twin = SharedServer(
                server.name,
                server.pool,
                server.group,
                server.replicas,
                server.capacity_mebibytes,
                server.capacity_millis,
                dict(server.members),
                server.used_mebibytes,
                server.busy_millis,
            )
            other._adopt(twin)
            other.home.update(dict.fromkeys(twin.members, twin))
        return other

    # --- what is known of a model ---

    def options(self, model: Model) -> tuple[Pool, ...]:
        """The pools that admit it, the cheapest first."""
        found = self._options.get(model.key)
        if found is None:
            problem = self.problem
            found = tuple(pool for pool in problem.by_price if admits(problem, model, pool))
            self._options[model.key] = found
        return found

    def admitted(self, model: Model, pool: Pool) -> bool:
        known = self._options.get(model.key)
        return pool in known if known is not None else admits(self.problem, model, pool)

    def mebibytes(self, model: Model, pool: str) -> int:
        size = self._sizes.get((model.key, pool))
        if size is None:
            size = self._sizes[model.key, pool] = self.problem.mebibytes(model, pool)
        return size

    def granted(self, model: Model) -> int:
        """Replicas it has, at most as many as it asks for."""
        if model.shared:
            home = self.home.get(model.key)
            return min(home.replicas, model.replicas) if home is not None else 0
        return sum(self.dedicated.get(model.key, {}).values())

    def missing(self, model: Model) -> int:
        return model.replicas - self.granted(model)

    # --- devices ---

    def room(self, pool: Pool, namespace: str, devices: int) -> int:
        """Pods of so many devices that may still be started there."""
        if pool.closed and not self.closed_too:
            return 0
        return self.room_again(pool, namespace, devices)

    def room_again(self, pool: Pool, namespace: str, devices: int) -> int:
        """The same for pods that were there before."""
        return max(0, self.free(pool, namespace) // devices)

    def room_for(self, model: Model, pool: Pool) -> int:
        """Replicas of a model that it may get there."""
        if gets_nothing_new(self.problem, model, pool):
            return 0
        return self.room(pool, model.namespace, model.devices)

    def room_of(self, model: Model, pool: Pool) -> int:
        """Of a dedicated model: what it is to leave there is its own again when it gets anything there."""
        if (pool.closed and not self.closed_too) or gets_nothing_new(self.problem, model, pool):
            return 0
        left = self.leaving.get(model.key, {}).get(pool.name)
        own = left.replicas * left.devices if left is not None else 0
        return max(0, (self.free(pool, model.namespace) + own) // model.devices)

    def free(self, pool: Pool, namespace: str) -> int:
        """Devices that nobody holds; below zero: more are held than may be."""
        free = pool.max_devices - self.used[pool.name]
        limit = pool.namespaces.get(namespace)
        if limit is not None and limit.max_devices is not None:
            free = min(free, limit.max_devices - self.used_by.get((pool.name, namespace), 0))
        return free

    def _hold(self, pool: str, namespace: str, devices: int) -> None:
        self.used[pool] += devices
        where = (pool, namespace)
        self.used_by[where] = self.used_by.get(where, 0) + devices

    # --- dedicated models ---

    def add_dedicated(self, model: Model, pool: str, replicas: int) -> None:
        """Fewer, when below zero. A pool that it was to leave is its own again: there are no two servers of a
        model in a pool, so what has to leave there becomes what stays."""
        left = self.leaving.get(model.key, {}).get(pool)
        if left is not None and replicas > 0:
            self.go_now(model.key, pool, left.replicas)
        counts = self.dedicated.setdefault(model.key, {})
        counts[pool] = counts.get(pool, 0) + replicas
        assert counts[pool] >= 0, "no more is taken than there is"
        if not counts[pool]:
            del counts[pool]
        if not counts:
            del self.dedicated[model.key]
        self._hold(pool, model.namespace, replicas * model.devices)

    def stay_for_now(self, model: str, server: Server) -> None:
        """What has to leave holds its devices until the model runs elsewhere."""
        self.leaving.setdefault(model, {})[server.pool] = server
        if server.pool in self.used:
            self._hold(server.pool, server.namespace, server.replicas * server.devices)

    def go_now(self, model: str, pool: str, replicas: int) -> None:
        """So many replicas of what leaves do not stay any longer."""
        server = self.leaving[model].pop(pool)
        self._hold(pool, server.namespace, -server.replicas * server.devices)
        if server.replicas > replicas:
            self.stay_for_now(model, dataclasses.replace(server, replicas=server.replicas - replicas))
        elif not self.leaving[model]:
            del self.leaving[model]

    # --- shared servers ---

    def vacate(self, server: Server) -> None:
        """Its models have to leave, and it stays until they run elsewhere."""
        self.vacated[server.name] = server
        self.names.add(server.name)
        if server.pool in self.used:
            self._hold(server.pool, server.namespace, server.replicas * server.devices)

    def evict(self, name: str) -> None:
        """It does not stay any longer."""
        server = self.vacated.pop(name)
        if server.pool in self.used:
            self._hold(server.pool, server.namespace, -server.replicas * server.devices)

    def open(self, group: Group, pool: Pool, replicas: int, name: str = "") -> SharedServer:
        """An empty server; with a name, the one of old."""
        devices = group[2]
        server = SharedServer(
            name or self._new_name(group),
            pool,
            group,
            replicas,
            self.problem.slot_mebibytes(pool, devices),
            self.problem.settings.busy_millis * devices,
        )
        self._adopt(server)
        self._hold(pool.name, group[0], replicas * devices)
        return server

    def _adopt(self, server: SharedServer) -> None:
        self.shared[server.name] = server
        self.names.add(server.name)
        self.in_group.setdefault(server.group, {})[server.name] = server

    def _new_name(self, group: Group) -> str:
        namespace, shape, devices = group
        stem = (
            f"{namespace}/shared" + (f"-{shape}" if shape else "") + (f"-x{devices}" if devices > 1 else "")
        )
        return first_free(stem, self.names)

    def join(self, server: SharedServer, model: Model) -> None:
        server.members[model.key] = model
        server.used_mebibytes += self.mebibytes(model, server.pool.name)
        server.busy_millis += -(-model.need(server.pool.name).load_millis // max(server.replicas, 1))
        self.home[model.key] = server

    def leave(self, model: Model) -> None:
        """The last one closes the server; what only this one wanted of replicas is given back."""
        server = self.home.pop(model.key)
        del server.members[model.key]
        server.used_mebibytes -= self.mebibytes(model, server.pool.name)
        server.busy_millis -= -(-model.need(server.pool.name).load_millis // server.replicas)
        if server.replicas > server.wanted:
            self.resize(server, server.wanted)

    def resize(self, server: SharedServer, replicas: int) -> None:
        self._hold(server.pool.name, server.group[0], (replicas - server.replicas) * server.group[2])
        if replicas:
            server.busy_millis = server.busy_with(replicas)
            server.replicas = replicas
            return
        server.replicas = 0
        for model in server.members:
            del self.home[model]
        del self.shared[server.name]
        del self.in_group[server.group][server.name]

    def remove(self, model: Model) -> None:
        """Whatever it has."""
        for vacated in [one for one in self.vacated.values() if model.key in one.models]:
            left = tuple(one for one in vacated.models if one != model.key)
            self.evict(vacated.name)
            if left:
                self.vacate(dataclasses.replace(vacated, models=left))
        if model.key in self.home:
            self.leave(model)
        for pool, count in list(self.dedicated.get(model.key, {}).items()):
            self.add_dedicated(model, pool, -count)
        for pool, server in list(self.leaving.get(model.key, {}).items()):
            if pool in self.used:
                self.go_now(model.key, pool, server.replicas)

    # --- the answer ---

    def price_micros(self) -> int:
        return sum(count * self.problem.pool[pool].price_micros for pool, count in self.used.items())

    def plan(self) -> Plan:
        servers = [
            Server(
                one.name, one.pool.name, one.group[0], one.group[2], one.replicas, True,
                tuple(sorted(one.members)),
            )
            for one in self.shared.values()
        ]  # fmt: skip
        for key, counts in self.dedicated.items():
            model = self.problem.model[key]
            servers += [
                Server(dedicated_name(key, pool), pool, model.namespace, model.devices, count, False, (key,))
                for pool, count in counts.items()
            ]
        missing: Mapping[str, int] = {
            one.key: count
            for one in sorted(self.problem.models, key=lambda one: one.key)
            if (count := self.missing(one))
        }
        leaving = sorted(
            [one for by_pool in self.leaving.values() for one in by_pool.values()]
            + list(self.vacated.values())
        )
        return Plan(tuple(sorted(servers)), missing, tuple(leaving))


def first_free(stem: str, taken: Container[str]) -> str:
    """The stem with the lowest number that is free."""
    return next(name for number in itertools.count() if (name := f"{stem}-{number}") not in taken)


def dedicated_name(model: str, pool: str) -> str:
    return f"{model}@{pool}"
