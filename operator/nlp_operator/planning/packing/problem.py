"""The question and the answer as plain values: pools, models, what runs; servers wanted, and what is left
over.

Integers only, with the unit in the name, so that nothing accumulates: mebibytes, thousandths of a device
(`_millis`), millionths of the currency an hour (`_micros`). A *slot* is the requested devices of one pod; a
*server* is so many pods that each take one slot and hold the same models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from nlp_operator.planning.back_offs import BackOff

MemorySource = Literal["measured", "declared", "estimated", "its pod's"]
"""`its pod's`: spec.serving.pod.resources say so much."""


@dataclass(frozen=True)
class Memory:
    """What a model takes in one slot, with all its instances there."""

    process_mebibytes: int
    """Of its processes, whatever they load: interpreter and CUDA context of each Python stub. Another kind of
    pool has another."""
    model_mebibytes: int
    """Weights and what a batch needs. About the same on every pool."""
    source: MemorySource
    most_mebibytes: int = 0
    """Not more than this, by what was measured of it with a larger batch, and so without the margin of a
    guess; 0: nothing was."""

    @property
    def mebibytes(self) -> int:
        return self.process_mebibytes + self.model_mebibytes


@dataclass(frozen=True)
class Need:
    """What a model takes on one pool."""

    memory: Memory
    load_millis: int = 0
    """Devices that its requests keep busy at their busiest, all replicas together, in thousandths: who lies
    with it has to leave it so much."""


@dataclass(frozen=True)
class NamespaceLimit:
    """What a pool says of one namespace. `None`: no limit but the pool's own."""

    max_devices: int | None = None
    highest_priority: int | None = None


@dataclass(frozen=True)
class Pool:
    name: str
    memory_mebibytes: int
    """Of one device."""
    price_micros: int
    """Of one device, an hour."""
    max_devices: int
    server_mebibytes: int = 0
    """What a server takes in each slot before any model is in it."""
    cores: bool = False
    """Its devices are cores."""
    spot: bool = False
    """Its nodes may be taken away at short notice. A pool of which some may counts as one."""
    patience_seconds: int = 900
    """For how long a pod waits there for a node before its model is planned elsewhere."""
    backed_off: bool = False
    """It did not deliver: what it has stays, and only what has no other place is placed there."""
    no_devices: bool = False
    """No node has any of its devices now, and none is made on demand: as above."""
    found_mebibytes: int = 0
    """Of one device, where its nodes say less than `memory_mebibytes`: what counts for what is placed there
    from now on; 0: they do not."""
    most_on_node: int = 0
    """Devices of the node that has most, and so of a pod that is placed there from now on; 0: not known."""
    namespaces: Mapping[str, NamespaceLimit] = field(default_factory=dict)
    """Who may use it. Empty: everybody."""
    taken: Mapping[str, int] = field(default_factory=dict)
    """Devices that nobody plans about, by namespace: of models that are gone or cannot be read."""

    @property
    def closed(self) -> bool:
        """Whether only what has no other place is placed there."""
        return self.backed_off or self.no_devices

    @property
    def new_mebibytes(self) -> int:
        """Of one device, for what is placed there from now on."""
        return min(self.memory_mebibytes, self.found_mebibytes or self.memory_mebibytes)


@dataclass(frozen=True)
class Model:
    namespace: str
    name: str
    replicas: int
    believed: Need
    """Where nothing better is known of a pool."""
    needs: Mapping[str, Need] = field(default_factory=dict)
    """By pool."""
    shared: bool = False
    """Lives in one server, with others of its namespace and `shape` that are shared too. The replicas of that
    server are its replicas. Otherwise it has a server of its own on every pool it uses."""
    shape: str = ""
    """What its pods must look like beyond the models in them. Shared models of different shapes stay
    apart."""
    devices: int = 1
    """Of one replica."""
    priority: int = 100
    pool_names: tuple[str, ...] = ()
    """Empty: any."""
    split: Mapping[str, int] = field(default_factory=dict)
    """Most replicas by pool, as scaling divided them (pools differ in speed). Empty: as is cheapest. Of a
    model that is not shared."""
    spread: int = 1
    """No pool holds more than its replicas divided by this, rounded up. Not of a shared model, which has one
    server and so one pool."""
    spot_millis: int = 1000
    """Most of its replicas that may be on spot pools, in thousandths; a shared model is on one with all or
    none."""
    lasting_millis: int = 0
    """Of a shared model whose server is too busy: devices that its requests have kept busy for a good while,
    all replicas together; never more than `load_millis`. For this, and not for that, a member is moved. 0: no
    reason to."""
    undelivered: Mapping[str, BackOff] = field(default_factory=dict)
    """Pools where pods of it waited in vain: what it has there stays, and it gets nothing new there."""
    cores_only: bool = False
    """It computes on nothing else, so that a server on other devices refuses it."""

    @cached_property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    def need(self, pool: str) -> Need:
        return self.needs.get(pool, self.believed)

    @property
    def spot_replicas(self) -> int:
        return self.replicas * self.spot_millis // 1000

    @property
    def most_in_a_pool(self) -> int:
        return -(-self.replicas // max(self.spread, 1))


@dataclass(frozen=True)
class Settings:
    margin_millis: Mapping[MemorySource, int] = field(
        default_factory=lambda: {"measured": 50, "declared": 100, "estimated": 250, "its pod's": 100}
    )
    """Memory kept free beyond a shared model's need, by how well that is known, in thousandths of it. It
    protects the neighbours; a model alone in its slots has none, and gets no margin."""
    busy_millis: int = 700
    """How busy neighbours together may keep a device. A model alone is not held to it: that is scaling's.
    Beyond it moves in who has no other place (`insert`), and who is in stays (`relief`)."""
    move_millis: int = 100
    """What moves must save: this share of what the slots cost from which something moves."""


@dataclass(frozen=True)
class Problem:
    pools: tuple[Pool, ...]
    models: tuple[Model, ...]
    settings: Settings = field(default_factory=Settings)

    @cached_property
    def pool(self) -> Mapping[str, Pool]:
        return {one.name: one for one in sorted(self.pools, key=lambda one: one.name)}

    @cached_property
    def model(self) -> Mapping[str, Model]:
        return {one.key: one for one in self.models}

    @cached_property
    def by_price(self) -> Sequence[Pool]:
        return sorted(self.pools, key=lambda one: (one.price_micros, one.name))

    def mebibytes(self, model: Model, pool: str) -> int:
        """Of a slot, with the margin that its neighbours are owed."""
        memory = model.need(pool).memory
        if not model.shared:
            return memory.mebibytes
        needed = self._with_margin(memory.mebibytes, memory.source)
        if memory.most_mebibytes:
            return min(needed, self._with_margin(memory.most_mebibytes, "measured"))
        return needed

    def _with_margin(self, mebibytes: int, source: MemorySource) -> int:
        return -(-mebibytes * (1000 + self.settings.margin_millis[source]) // 1000)

    def slot_mebibytes(self, pool: Pool, devices: int) -> int:
        """For models, once the server itself has its part."""
        return pool.memory_mebibytes * devices - pool.server_mebibytes

    def new_slot_mebibytes(self, pool: Pool, devices: int) -> int:
        """The same for what is placed there from now on."""
        return pool.new_mebibytes * devices - pool.server_mebibytes


@dataclass(frozen=True, order=True)
class Server:
    name: str
    """Of a dedicated model's: its key and the pool. Of a shared one: stays while the server does."""
    pool: str
    namespace: str
    devices: int
    """Of one pod."""
    replicas: int
    shared: bool
    models: tuple[str, ...]
    """Their keys, sorted."""


@dataclass(frozen=True)
class Plan:
    """What is to run. Also what runs, as the input of the next plan: there only what serves or is still
    expected to."""

    servers: tuple[Server, ...] = ()
    """Sorted by name."""
    missing: Mapping[str, int] = field(default_factory=dict)
    """Replicas that found no place, by model; only of those that miss some."""
    leaving: tuple[Server, ...] = ()
    """What runs in pools, or in shared servers, that are no longer its models', and may stay until they run
    elsewhere. It holds its devices until then. Sorted by name."""
    names: tuple[str, ...] = ()
    """As the input of the next plan: names of shared servers that nobody plans with any more and that are
    still there. None of them is given to another."""

    @cached_property
    def of_model(self) -> Mapping[str, tuple[Server, ...]]:
        found: dict[str, list[Server]] = {}
        for server in self.servers:
            for model in server.models:
                found.setdefault(model, []).append(server)
        return {model: tuple(servers) for model, servers in found.items()}

    def leaving_of(self, model: str) -> tuple[Server, ...]:
        return tuple(one for one in self.leaving if model in one.models)

    def replicas(self, model: str) -> Mapping[str, int]:
        """By pool."""
        counts: dict[str, int] = {}
        for server in self.of_model.get(model, ()):
            counts[server.pool] = counts.get(server.pool, 0) + server.replicas
        return counts

    def devices(self) -> Mapping[tuple[str, str], int]:
        """Held, by pool and namespace."""
        held: dict[tuple[str, str], int] = {}
        for one in (*self.servers, *self.leaving):
            where = (one.pool, one.namespace)
            held[where] = held.get(where, 0) + one.devices * one.replicas
        return held


def price_micros(problem: Problem, plan: Plan) -> int:
    """Of an hour. A server whose pool is gone costs nothing: it cannot stay."""
    return sum(
        problem.pool[one.pool].price_micros * one.devices * one.replicas
        for one in plan.servers
        if one.pool in problem.pool
    )


def moved_by_model(before: Plan, after: Plan) -> dict[str, int]:
    """Replicas that are no longer where they were, of as many as there are still; what only grew or shrank
    did not move."""
    moved = {}
    for model, servers in before.of_model.items():
        were = {one.name: one.replicas for one in servers}
        are = {one.name: one.replicas for one in after.of_model.get(model, ())}
        stayed = sum(min(count, are.get(server, 0)) for server, count in were.items())
        count = min(sum(were.values()), sum(are.values())) - stayed
        if count > 0:
            moved[model] = count
    return moved
