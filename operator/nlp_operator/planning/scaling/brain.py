"""From what was measured to how many replicas each model gets, with the reasons: the four layers in order.

    signals ─> capacity (how fast), demand (how much, soon and later)
            ─> guard (what may change) ─> allocator (who gets the devices) ─> decisions

The caller keeps the `Memory` between two looks and passes the clock. The same inputs, memory and clock give
the same decisions. A decision holds what each layer said, as data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from nlp_operator.planning.scaling import allocator, capacity, company, demand, guard, instances, signals
from nlp_operator.planning.scaling.allocator import AllocatorSettings, Fits, Move, Offer
from nlp_operator.planning.scaling.capacity import CapacityEstimate, Executions, ServiceCurve
from nlp_operator.planning.scaling.company import Company, Part
from nlp_operator.planning.scaling.demand import DemandSettings, DemandState, Forecast
from nlp_operator.planning.scaling.guard import Bounds, GuardSettings, GuardState, Seen
from nlp_operator.planning.scaling.instances import Instances, InstancesState, Load
from nlp_operator.planning.scaling.signals import Counted, Sample, Unknown, Window

MOST_REPLICAS = 10_000
"""The API allows a thousand."""
MOST_INSTANCES, MOST_DEVICES = 1_000, 64
BEYOND = 1.1
"""A request that takes so much longer than its target, executed by itself, is late whatever is done; until it
takes less than the target."""
BEYOND_ALLOWS = 2.0
"""Then replicas are counted for a target of so many times what it takes: nobody waits for long."""
OVERLOADED, OVERLOADED_AGAIN = 0.9, 1.1
"""From this share of what its replicas bear on, who is late is so for want of more; once they bore it, from
the second."""
ASKED_SECONDS = 900.0
"""For so long after its last request it is still said of a model that more replicas do not help."""
CLOCK_SECONDS = 300.0
"""A clock that is further back than this was set anew."""


@dataclass(frozen=True)
class Settings:
    """One configuration for every model; the numbers were tuned on days 1 to 10 of the Faro trace."""

    demand: DemandSettings = field(default_factory=DemandSettings)
    allocator: AllocatorSettings = field(default_factory=AllocatorSettings)
    guard: GuardSettings = field(default_factory=GuardSettings)
    oldest_sample_seconds: float = 45.0
    """Two scrapes of 15 s and the slack between them."""
    evenness: float = 1.0
    """How much more a late request counts in a model that has had more than its share of late ones: 0 not
    at all."""
    uneven_seconds: float = 3600.0
    """Half-life of what is remembered of that. Where devices are scarce a short one makes models take turns,
    and each turn costs a cold start."""
    starving_share: float = 0.7
    """A model starves when so many of its newest requests were late. Then only these count: who was well for
    an hour would else starve for another before it counts as much as those who never were."""
    starving_seconds: float = 200.0
    """Half-life of what is remembered of the newest."""
    scarce_least: float = 0.04
    scarce_full: float = 0.08
    """Devices of a pool are scarce, from not at all to fully, when so many of the requests of all models that
    may run there were late in the last hour (half-life `uneven_seconds`)."""
    scarce_young_seconds: float = 900.0
    """Who was watched for less has been late by so much less: at its first start everything is."""
    usual_quantile: float = 0.95
    """A latency target of this quantile values a late request at `late_price`; a stricter one values it
    higher."""


@dataclass(frozen=True)
class ModelInput:
    """One model as it is now."""

    name: str
    sample: Sample | None
    current: Mapping[str, int]
    """Replicas wanted so far, by pool."""
    ready: int
    starting: int
    pending: int
    """Pods that wait for a device."""
    lowest: int
    highest: int
    target_seconds: float
    quantile: float
    """Of the latency target."""
    priority: int
    prior: ServiceCurve
    """What is believed of its speed before it was measured, on the reference pool."""
    offers: Sequence[Offer]
    """The pools it may run in."""
    cold_start_seconds: float
    """From the wish for a replica until it serves: the 90 % quantile, as measured."""
    rolling_out: bool = False
    speeds_known: bool = True
    """The speeds of the offers were measured; else no running replica is replaced by those of another
    pool."""
    planned: bool = False
    """See `allocator.Request`."""
    instances: Instances = field(default_factory=Instances)
    company: Company | None = None
    """The server that it shares with others: scaled as one. Then there is one offer."""


@dataclass
class Lately:
    """Late and all requests, of which those long ago count less and less."""

    late: float = 0.0
    offered: float = 0.0
    seconds: float = 0.0

    def add(self, window: Window, half_life_seconds: float) -> None:
        fade = 0.5 ** (window.seconds / half_life_seconds)
        self.late = self.late * fade + window.late
        self.offered = self.offered * fade + window.offered
        self.seconds = self.seconds * fade + window.seconds

    @property
    def share(self) -> float:
        return self.late / self.offered if self.offered > 0 else 0.0


@dataclass
class ModelMemory:
    guard: GuardState
    capacity: CapacityEstimate
    demand: DemandState
    counted: Counted | None = None
    waited_at: float = -math.inf
    """When the newest sample was taken of which it is known how many requests waited."""
    leaving: str = ""
    """The pool of a replica that goes once its successors in another pool serve."""
    leaving_since: float = -math.inf
    lately: Lately = field(default_factory=Lately)
    newest: Lately = field(default_factory=Lately)
    instances: InstancesState = field(default_factory=InstancesState)
    beyond: bool = False
    """A request takes longer than its target by itself."""
    own_seconds: float | None = None
    """What a request took by itself when nothing could stretch it."""
    alone_seconds: float | None = None
    """What it takes by itself, as far as is known; `None`: not at all."""
    borne: bool = False
    """Its ready replicas bear its load."""
    asked_at: float = -math.inf
    """When the last window ended in which a request came."""


@dataclass
class Memory:
    """What the brain remembers between two looks."""

    models: dict[str, ModelMemory] = field(default_factory=dict)
    looked: float | None = None
    """When it looked last."""
    servers: dict[str, GuardState] = field(default_factory=dict)
    """Of those that models share: what was worth keeping."""


@dataclass(frozen=True)
class Decision:
    name: str
    replicas: Mapping[str, int]
    """By pool."""
    wish: int
    """Replicas on the reference pool it would take if nothing limited it; -1 when that is not known."""
    reason: str
    """One or two sentences for the log; those of the status are made by `readings/advice.py`."""
    signal: Window | Unknown
    curve: ServiceCurve
    forecast: Forecast | None
    bounds: Bounds
    moves: tuple[Move, ...]
    refusals: Mapping[str, str]
    """By pool: why it had no room for what was wanted; empty when all was given. See `Allocation.refused`."""
    given: ModelInput
    """What was known, without the sample; its target is the one that replicas were counted for."""
    request: allocator.Request
    """What it asked the allocator for."""
    late_share: float
    """Of its requests of the last while: who was worse off counts more."""
    scarcity: Mapping[str, float] = field(default_factory=dict)
    """Of the pools it may run in, from 0 to 1: the scarcer, the less devices move."""
    instances: int = 1
    """In each replica."""
    counted: int = 1
    """Of these, as many as are at work or soon will be."""
    second: str = ""
    """What else tells, while its load is not known, that it lacks replicas; a clause."""
    futile: str = ""
    """Why requests are late whatever the number of replicas; empty: more may help, or none is."""

    @property
    def at_a_time(self) -> int:
        """Executions in a replica."""
        return self.given.instances.at_a_time(self.counted)

    @property
    def total(self) -> int:
        return sum(self.replicas.values())

    @property
    def kept(self) -> guard.Clip | None:
        """Why it keeps more than it wishes for."""
        return _clip(self.bounds, self.total, self.wish) if self.total > self.wish >= 0 else None

    @property
    def refused(self) -> str:
        """The pools that had no room."""
        return ", ".join(sorted(self.refusals))

    def explain(self) -> dict[str, Any]:
        """The whole way to the decision, as plain data."""
        return {
            "model": self.name,
            "given": asdict(self.given) | {"offers": [asdict(offer) for offer in self.given.offers]},
            "replicas": dict(self.replicas),
            "instances": self.instances,
            "counted": self.counted,
            "wish": self.wish,
            "reason": self.reason,
            "signal": asdict(self.signal),
            "capacity": asdict(self.curve),
            "demand": asdict(self.forecast) | {"rates": list(self.forecast.rates)} if self.forecast else None,
            "guard": [asdict(clip) for clip in self.bounds.clips],
            "bounds": [self.bounds.lowest, self.bounds.highest],
            "late_share": self.late_share,
            "asked": _plain(self.request),
            "allocator": [asdict(move) for move in self.moves],
            "futile": self.futile,
            "second": self.second,
            "refused": dict(self.refusals),
            "scarcity": dict(self.scarcity),
        }


GIVEN = ("name", "offers", "current")
"""Fields of a request that are those of the input."""


@dataclass(frozen=True)
class _Judged:
    """One model after signals, capacity, demand and guard."""

    given: ModelInput
    signal: Window | Unknown
    curve: ServiceCurve
    forecast: Forecast | None
    bounds: Bounds
    request: allocator.Request
    wish: int
    late_share: float
    instances: int
    counted: int
    futile: str
    second: str = ""


def decide(
    memory: Memory,
    inputs: Sequence[ModelInput],
    devices: Mapping[str, int],
    now: float,
    settings: Settings,
    fits: Fits | None = None,
) -> tuple[Decision, ...]:
    """How many replicas each model is to have now, in the order of the inputs.

    `devices`: how many each pool has for these models. Updates the memory; models that are gone are
    forgotten.
    """
    if not math.isfinite(now):
        now = memory.looked or 0.0
    if memory.looked is not None and now < memory.looked:
        if memory.looked - now > CLOCK_SECONDS:
            # One of the two moments was wrong. By what was remembered every sample would be stale until the
            # clock is there again; without it the brain is young: it holds still, and learns.
            memory.models.clear()
        else:
            now = memory.looked  # a clock that goes backwards teaches nothing
    memory.looked = now
    inputs = [_sound(given) for given in inputs]
    wanted = {given.name for given in inputs}
    for name in [name for name in memory.models if name not in wanted]:
        del memory.models[name]
    servers = {given.company.server for given in inputs if given.company is not None}
    memory.servers = {server: state for server, state in memory.servers.items() if server in servers}
    judged = [_judge(memory, given, now, settings) for given in inputs]
    scarcity = _scarcity(memory, inputs, settings)
    alone, shared = _by_server(judged)
    requests = [one.request for one in alone]
    requests += [_of_server(memory, members, now, settings) for members in shared.values()]
    plan = allocator.allocate(requests, devices, settings.allocator, fits, scarcity)
    moves: dict[str, list[Move]] = {}
    for move in plan.moves:
        moves.setdefault(move.model, []).append(move)
        if move.kind == "Succeed":
            memory.models[move.model].leaving = move.other
            memory.models[move.model].leaving_since = now
        elif move.kind == "Retire":
            memory.models[move.model].leaving = ""
    parts = {
        one.given.name: Part(plan.counts[one.given.name], tuple(moves.get(one.given.name, ())))
        for one in alone
    }
    for members in shared.values():
        parts |= company.apart([one.request for one in members], _company(members), plan, settings.allocator)
    return tuple(
        _decision(one, parts[one.given.name], _refused(one, parts, plan), scarcity) for one in judged
    )


def _by_server(judged: Sequence[_Judged]) -> tuple[list[_Judged], dict[str, list[_Judged]]]:
    """Those that have servers of their own, and those that share by server."""
    alone: list[_Judged] = []
    shared: dict[str, list[_Judged]] = {}
    for one in judged:
        if one.given.company is None:
            alone.append(one)
        else:
            shared.setdefault(one.given.company.server, []).append(one)
    return alone, shared


def _company(members: Sequence[_Judged]) -> Company:
    found = members[0].given.company
    assert found is not None, "they share a server"
    return found


def _of_server(
    memory: Memory, members: Sequence[_Judged], now: float, settings: Settings
) -> allocator.Request:
    there = _company(members)
    request = company.as_one([one.request for one in members], there)
    worthy = _worthy(request.later, replace(members[0].given, current=request.current), settings, "")
    state = memory.servers.setdefault(there.server, GuardState(started=now))
    known = all(guard.is_known(memory.models[one.given.name].guard, now, settings.guard) for one in members)
    return replace(request, keep=guard.keep(state, worthy, now, settings.guard, known=known))


def _refused(one: _Judged, parts: Mapping[str, Part], plan: allocator.Allocation) -> Mapping[str, str]:
    """Where it lacks what it wishes: a pool that is full is no news of a model that got its replicas
    elsewhere."""
    there, counts = one.given.company, parts[one.given.name].counts
    refused = plan.refused.get(one.given.name if there is None else there.server, {})
    if there is None and len(one.given.offers) < 2:
        return refused
    speeds = {offer.pool: offer.speed for offer in one.given.offers}
    lacks = sum(count * speeds.get(pool, 1.0) for pool, count in counts.items()) < one.wish
    return refused if lacks else {}


def _scarcity(memory: Memory, inputs: Sequence[ModelInput], settings: Settings) -> dict[str, float]:
    """Of each pool, from 0 to 1. Who has as many replicas as its spec allows lacks no device."""
    late: dict[str, float] = {}
    offered: dict[str, float] = {}
    for given in inputs:
        if sum(given.current.values()) >= given.highest:
            continue
        lately = memory.models[given.name].lately
        known = min(lately.seconds / settings.scarce_young_seconds, 1.0)
        for offer in given.offers:
            late[offer.pool] = late.get(offer.pool, 0.0) + lately.late * known
            offered[offer.pool] = offered.get(offer.pool, 0.0) + lately.offered
    width = settings.scarce_full - settings.scarce_least
    return {
        pool: min(max((late[pool] / max(all_of_them, 1.0) - settings.scarce_least) / width, 0.0), 1.0)
        for pool, all_of_them in offered.items()
    }


def _sound(given: ModelInput) -> ModelInput:
    """What no spec and no measurement could be counts as the nearest that could. The API bounds all of it;
    this is for who calls with what came another way, for no exception may take the other models along."""
    return replace(
        given,
        current={pool: _within(count, 0, MOST_REPLICAS) for pool, count in given.current.items()},
        lowest=_within(given.lowest, 0, MOST_REPLICAS),
        highest=_within(given.highest, 0, MOST_REPLICAS),
        target_seconds=_real(given.target_seconds, 1e-3, 86400.0, 1.0),
        quantile=_real(given.quantile, 0.0, 0.99999, 0.95),
        priority=_within(given.priority, 0, 1_000_000),
        prior=_sound_curve(given.prior),
        offers=[_sound_offer(one) for one in given.offers],
        cold_start_seconds=_real(given.cold_start_seconds, 0.0, 86400.0, 60.0),
        instances=_sound_instances(given.instances),
    )


def _sound_instances(given: Instances) -> Instances:
    least = _within(given.least, 1, MOST_INSTANCES)
    return replace(
        given,
        now=_within(given.now, 1, MOST_INSTANCES),
        least=least,
        most=_within(given.most, least, MOST_INSTANCES),
        devices=_within(given.devices, 1, MOST_DEVICES),
        at_work=_within(given.at_work, 0, MOST_INSTANCES),
    )


def _sound_offer(offer: Offer) -> Offer:
    """A speed or a price that is none counts as that of the reference pool."""
    speed = offer.speed if offer.speed > 0 else math.nan
    price = offer.price if offer.price >= 0 else math.nan
    return Offer(offer.pool, max(offer.devices, 0), _real(speed, 1e-2, 1e2, 1.0), _real(price, 0.0, 1e9, 1.0))


def _sound_curve(curve: ServiceCurve) -> ServiceCurve:
    base, item = _real(curve.base_seconds, 0.0, 3600.0, 0.1), _real(curve.item_seconds, 0.0, 3600.0, 0.0)
    if base + item < capacity.SHORTEST_SECONDS:
        base = capacity.SHORTEST_SECONDS
    variation = _real(curve.variation, 0.0, 10.0, 0.3)
    return ServiceCurve(base, item, _within(curve.max_batch, 1, 1_000_000), variation)


def _real(value: float, least: float, most: float, otherwise: float) -> float:
    return min(max(value, least), most) if math.isfinite(value) else otherwise


def _within(count: int, least: int, most: int) -> int:
    return min(max(count, least), most)


def recall(
    memory: Memory,
    given: ModelInput,
    now: float,
    settings: Settings,
    step_seconds: float,
    counts: Sequence[float],
    learn: bool = True,
) -> None:
    """Teach what was offered of a model before `now`: one count a step, oldest first, NaN where it is not
    known. `learn`: see `demand.recall`."""
    kept = _memory_of(memory, given, now, settings)
    demand.recall(kept.demand, now - step_seconds * len(counts), step_seconds, counts, learn)


def _memory_of(memory: Memory, given: ModelInput, now: float, settings: Settings) -> ModelMemory:
    kept = memory.models.get(given.name)
    if kept is None:
        kept = memory.models[given.name] = ModelMemory(
            GuardState(started=now),
            CapacityEstimate(given.prior),
            DemandState(settings.demand, given.cold_start_seconds),
        )
    kept.demand.horizon_seconds = given.cold_start_seconds
    if kept.capacity.prior != given.prior:  # a profile came, or callers send other requests
        kept.capacity = replace(kept.capacity, prior=given.prior)
    return kept


def _judge(memory: Memory, given: ModelInput, now: float, settings: Settings) -> _Judged:
    kept = _memory_of(memory, given, now, settings)
    signal = _look(kept, given, now, settings)
    waiting = _waiting(kept, given, signal, now, settings)
    if isinstance(signal, Window):
        _learn(kept, given, signal, settings)
    curve, wanted_seconds = kept.capacity.curve, given.target_seconds
    given = replace(given, target_seconds=_counted_for(kept, given))
    current = sum(given.current.values())
    had = given.instances.at_a_time(given.instances.working)
    backlog = _backlog(given, curve, waiting, had)
    forecast = _forecast(kept, signal, backlog, now)
    bears = given.ready * had * curve.throughput(given.target_seconds)
    load = _load_share(signal, given.ready, bears)
    if now - kept.leaving_since > 3.0 * given.cold_start_seconds + 60.0:
        kept.leaving = ""  # its successors did not come, or it is needed after all
    bounds = guard.bounds(
        kept.guard,
        Seen(
            given.lowest,
            given.highest,
            current,
            given.ready,
            given.starting,
            given.pending,
            given.rolling_out,
            signal,
            load,
            max(now - kept.demand.last_seen, 0.0),
            bool(kept.leaving),
            _keeps(kept, given, curve, forecast, had, settings),
            given.quantile,
            backlog > 0,
        ),
        now,
        settings.guard,
    )
    lost = kept.guard.lost if isinstance(signal, Unknown) and not signal.repeated else 0
    second = _second(signal, waiting if backlog > 0 else 0.0, lost)
    known = guard.is_known(kept.guard, now, settings.guard)
    count = _instances(kept, given, curve, forecast, signal, now, settings, known=known)
    counted = instances.counted(kept.instances, given.instances, count, now)
    at_a_time = given.instances.at_a_time(counted)
    futile = _futile(kept, wanted_seconds, forecast, bears, bounds, now)
    weight = _weight(kept, given, settings)
    if forecast is None:
        # Nothing is known of the load: it keeps what it has, whatever others need.
        held = min(max(current, bounds.lowest), bounds.highest)
        bounds = replace(bounds, lowest=held, highest=held)
        request = allocator.Request(given.name, [0.0], [0.0], given.offers, given.current, held, held)
        late_share = kept.lately.share
        return _Judged(given, signal, curve, None, bounds, request, -1, late_share, count, counted, futile)
    most = _most(given, curve, forecast, current, at_a_time)
    soon = _without(lost, _costs(curve, forecast.rates, given.target_seconds, most, weight, at_a_time))
    # A replica that is given away is missed at once: by the load of this moment, and by that of the next
    # minutes.
    present = _costs(curve, (forecast.recent,), given.target_seconds, most, weight, at_a_time)
    present = _without(lost, present)
    late = [max(a, b) for a, b in zip(present, soon, strict=True)]
    worthy = _worthy(late, given, settings, kept.leaving)
    settled = given.starting == 0 and given.pending == 0 and given.ready >= current
    calm = settled and given.speeds_known and not given.rolling_out and isinstance(signal, Window)
    request = allocator.Request(
        given.name,
        soon,
        late,
        given.offers,
        given.current,
        bounds.lowest,
        bounds.highest,
        guard.keep(kept.guard, worthy, now, settings.guard, known=known),
        given.cold_start_seconds,
        calm and not kept.leaving,
        kept.leaving if calm else "",
        kept.newest.share >= settings.starving_share,
        bool(kept.guard.grew_last),
        guard.turns(kept.guard, now, settings.guard),
        given.planned,
    )
    wish = _wish(soon, given, settings)
    late_share = kept.lately.share
    return _Judged(
        given, signal, curve, forecast, bounds, request, wish, late_share, count, counted, futile, second
    )


def _waiting(
    kept: ModelMemory, given: ModelInput, signal: Window | Unknown, now: float, settings: Settings
) -> float:
    """Requests in its pods at this moment; of an old sample nobody knows any more."""
    if isinstance(signal, Window):
        kept.waited_at = signal.end
        return signal.waiting
    found = signals.waiting_in(given.sample, now, kept.waited_at, settings.oldest_sample_seconds)
    if found is None or given.sample is None or kept.guard.seen == -math.inf:
        return 0.0  # as for all else, nothing is begun before its load was known once
    kept.waited_at = signals.number(given.sample.at) or now
    return found


def _backlog(given: ModelInput, curve: ServiceCurve, waiting: float, at_a_time: int) -> float:
    """The few that wait for the batch in execution, and those in it, are none."""
    return waiting - 2.0 * max(given.ready, 1) * at_a_time * curve.usable_batch(given.target_seconds)


def _second(signal: Window | Unknown, waiting: float, lost: int) -> str:
    if isinstance(signal, Window) or signal.repeated:
        return ""
    said = [f"{waiting:,.0f} requests wait in its pods"] if waiting > 0 else []
    said += ["1 replica is not ready any more"] if lost == 1 else []
    said += [f"{lost} replicas are not ready any more"] if lost > 1 else []
    return " and ".join(said)


def _without(lost: int, costs: list[float]) -> list[float]:
    """What so many replicas cost of which some do nothing."""
    return costs[:1] * lost + costs


def _instances(
    kept: ModelMemory,
    given: ModelInput,
    curve: ServiceCurve,
    forecast: Forecast | None,
    signal: Window | Unknown,
    now: float,
    settings: Settings,
    *,
    known: bool,
) -> int:
    load = None
    if forecast is not None and isinstance(signal, Window):
        present = max(forecast.recent, instances.surely(signal.offered, signal.seconds))
        load = Load(curve, forecast.rates, present, given.target_seconds, given.quantile, given.lowest)
    since = max(kept.guard.started, kept.guard.again)
    settled = now - since >= settings.guard.settle_seconds and not given.rolling_out
    return instances.decide(
        kept.instances,
        given.instances,
        load,
        now,
        settings.guard.hold_seconds,
        known=known,
        may_shrink=settled and isinstance(signal, Window) and signal.complete,
    )


def _look(kept: ModelMemory, given: ModelInput, now: float, settings: Settings) -> Window | Unknown:
    counted = signals.read(given.sample, now, given.ready, settings.oldest_sample_seconds)
    if isinstance(counted, Unknown):
        few = given.sample is not None and signals.number(given.sample.pods_up)
        if counted.reason == "Partial" and few:
            # The few that were seen are in the counters, and the others as of now. A window across would tell
            # of all pods, and have what these few were asked.
            kept.counted = None
        return counted
    before, kept.counted = kept.counted, counted
    if before is not None and counted.at <= before.at:
        kept.counted = before  # an old or repeated sample must not count twice
    return signals.between(before, counted, given.ready)


def _learn(kept: ModelMemory, given: ModelInput, window: Window, settings: Settings) -> None:
    kept.capacity = capacity.observe(
        kept.capacity, Executions(window.batches, window.items, window.busy_seconds), window.seconds
    )
    demand.observe(kept.demand, window.start, window.end, window.offered)
    kept.alone_seconds = _alone_seconds(kept, given)
    before, kept.beyond = kept.beyond, _is_beyond(kept, given)
    if kept.beyond:  # that all are late says nothing of what it lacks, nor did it before that was known
        window = replace(window, late=0.0)
        kept.lately, kept.newest = (kept.lately, kept.newest) if before else (Lately(), Lately())
    if window.offered > 0:
        kept.asked_at = window.end
    kept.lately.add(window, settings.uneven_seconds)
    kept.newest.add(window, settings.starving_seconds)


def _is_beyond(kept: ModelMemory, given: ModelInput) -> bool:
    """Whether a request takes longer than its target by itself, in the fastest pool that it may run in."""
    alone = kept.alone_seconds
    if alone is None:
        return kept.beyond
    fastest = max((offer.speed for offer in given.offers), default=1.0)
    return alone / fastest > given.target_seconds * (1.0 if kept.beyond else BEYOND)


def _alone_seconds(kept: ModelMemory, given: ModelInput) -> float | None:
    """What a request takes by itself, where that was measured. Beside neighbours in its server and beside
    other instances of its own an execution is stretched, which more replicas would mend. Updates `kept`."""
    measured = kept.capacity.alone_seconds
    if measured is None:
        return None
    if given.company is None and given.instances.working <= 1:
        kept.own_seconds = measured
    return None if kept.own_seconds is None else min(measured, kept.own_seconds)


def _counted_for(kept: ModelMemory, given: ModelInput) -> float:
    """The target that replicas are counted for."""
    if not kept.beyond or kept.alone_seconds is None:
        return given.target_seconds
    return max(given.target_seconds, BEYOND_ALLOWS * kept.alone_seconds)


def _keeps(
    kept: ModelMemory,
    given: ModelInput,
    curve: ServiceCurve,
    forecast: Forecast | None,
    at_a_time: int,
    settings: Settings,
) -> bool:
    """Whether its ready replicas should keep its target; asked of a model that was late lately."""
    late = 1.0 - given.quantile
    if forecast is None or kept.newest.share <= late + settings.guard.late_margin:
        return False
    load = forecast.recent / curve.throughput(given.target_seconds)
    count = int(min(given.ready * at_a_time, 1.3 * load + 8.0, 2 * MOST_REPLICAS))  # more could not matter
    return capacity.late_shares(curve, forecast.recent, given.target_seconds, max(count, 0))[-1] <= late


def _futile(
    kept: ModelMemory,
    wanted_seconds: float,
    forecast: Forecast | None,
    bears: float,
    bounds: Bounds,
    now: float,
) -> str:
    """Why more replicas do not help, of a model that somebody asked lately; or nothing. `bears`: requests a
    second, of its ready replicas."""
    if forecast is not None and bears > 0:
        kept.borne = forecast.recent / bears < (OVERLOADED_AGAIN if kept.borne else OVERLOADED)
    asked = now - kept.asked_at <= ASKED_SECONDS
    if kept.beyond and kept.alone_seconds is not None and kept.borne and asked:
        took, wanted = 1000 * kept.alone_seconds, 1000 * wanted_seconds
        return f"A request takes {took:,.0f} ms by itself, where {wanted:,.0f} are wanted."
    return bounds.useless


def _forecast(kept: ModelMemory, signal: Window | Unknown, backlog: float, now: float) -> Forecast | None:
    last = kept.demand.last_seen
    if isinstance(signal, Unknown):
        return demand.forecast(kept.demand, now, backlog, max(now - last, 0.0))
    return demand.forecast(kept.demand, last, backlog)


def _load_share(signal: Window | Unknown, ready: int, bears: float) -> float:
    if isinstance(signal, Unknown) or ready <= 0:
        return float("nan")
    return signal.offered / signal.seconds / bears


def _weight(kept: ModelMemory, given: ModelInput, settings: Settings) -> float:
    strictness = (1.0 - settings.usual_quantile) / max(1.0 - given.quantile, 1e-4)
    share = kept.lately.share
    if kept.newest.share >= settings.starving_share:
        share = max(share, kept.newest.share)
    uneven = settings.evenness * share / max(1.0 - given.quantile, 1e-4)
    return max(given.priority, 1) / 100.0 * strictness * (1.0 + uneven)


def _most(given: ModelInput, curve: ServiceCurve, forecast: Forecast, current: int, at_a_time: int) -> int:
    """So many reference replicas that more could not matter."""
    load = forecast.rates[-1] / (at_a_time * curve.throughput(given.target_seconds))
    fastest = max((offer.speed for offer in given.offers), default=1.0)
    most = min(max(1.3 * load + 8.0, current * fastest + 2), given.highest * max(fastest, 1.0) + 1)
    return int(min(most, 2 * MOST_REPLICAS)) + 1


def _costs(
    curve: ServiceCurve,
    rates: Sequence[float],
    target_seconds: float,
    most: int,
    weight: float,
    at_a_time: int,
) -> list[float]:
    """Late requests a second with 0 ... `most` replicas, on average over equally likely rates. Each replica
    executes so many batches at a time: to the queue it is as many servers."""
    totals = [0.0] * (most + 1)
    for rate in rates:
        factor = rate * weight / len(rates)
        shares = capacity.relieved_shares(curve, rate, target_seconds, most * at_a_time)
        for count, share in enumerate(shares[::at_a_time]):
            totals[count] += factor * share
    return totals


def _worthy(late: Sequence[float], given: ModelInput, settings: Settings, leaving: str) -> float:
    """How much of what it has, in reference replicas, is still worth keeping at the price of the cheapest
    pool. A replica of the pool that is `leaving` is not counted."""
    offer = min(given.offers, key=lambda one: (one.price / one.speed, one.pool), default=None)
    if offer is None:
        return 0.0
    least = offer.price * settings.allocator.keep_share / settings.allocator.late_price
    counts = {one.pool: given.current.get(one.pool, 0) for one in given.offers}
    have = sum(max(counts[one.pool] - (one.pool == leaving), 0) * one.speed for one in given.offers)
    count = math.ceil(have / offer.speed - 1e-9)
    curve = allocator.convex(late)
    while count > 0:
        there, fewer = (allocator.cost(curve, n * offer.speed) for n in (count, count - 1))
        if fewer - there >= least:
            break
        count -= 1
    return min(count * offer.speed, have)


def _wish(soon: Sequence[float], given: ModelInput, settings: Settings) -> int:
    price = min((offer.price / offer.speed for offer in given.offers), default=1.0)
    for count in range(len(soon) - 1, 0, -1):
        if (soon[count - 1] - soon[count]) * settings.allocator.late_price >= price:
            return min(max(count, given.lowest), given.highest)
    return given.lowest


def _decision(
    one: _Judged, part: Part, refused: Mapping[str, str], scarcity: Mapping[str, float]
) -> Decision:
    return Decision(
        one.given.name,
        dict(part.counts),
        one.wish,
        _reason(one, sum(part.counts.values()), part.moves, refused),
        one.signal,
        one.curve,
        one.forecast,
        one.bounds,
        part.moves,
        refused,
        replace(one.given, sample=None),
        one.request,
        one.late_share,
        {offer.pool: scarcity.get(offer.pool, 0.0) for offer in one.given.offers},
        one.instances,
        one.counted,
        second=one.second,
        futile=one.futile,
    )


def _reason(one: _Judged, total: int, moves: tuple[Move, ...], refused: Mapping[str, str]) -> str:
    had = sum(one.given.current.values())
    shed = sorted({move.pool for move in moves if move.kind == "Shed"})
    if shed and total < had:
        why = "no more are allowed"
        if total < one.given.highest:
            why = f"there is no room in {', '.join(sorted(refused) or shed)}"
        return f"{total} of the {had} replicas that ran: {why}."
    if isinstance(one.signal, Unknown):
        why = f" But {one.second}." if one.second else ""
        return f"{total} replicas{'' if total > had else ' stay'}: {one.signal.message}{why}"
    if one.forecast is None:
        return f"{total} replicas stay: nothing is known of the load yet."
    load = f"{one.forecast.expected:.3g} requests/s are expected, {one.forecast.recent:.3g} were seen"
    gave = next((move for move in moves if move.kind == "Give"), None)
    if gave is not None:
        return f"{total} replicas: {load}; one went to {gave.other}, which needs it more."
    heir = next((move for move in moves if move.kind == "Succeed"), None)
    if heir is not None:
        return f"{total} replicas: {load}; {heir.replicas} in {heir.pool} are to replace one in {heir.other}."
    if any(move.kind == "Lead" for move in moves):
        return f"{total} replicas: {load}; the models of its server are worth them together."
    if refused:
        pools = ", ".join(sorted(refused))
        why = f"there is no room in {pools}"
        if set(refused.values()) == {"NeededMore"}:
            why = f"others in {pools} need theirs as much"
        return f"{total} of {one.wish} replicas: {load}; {why}."
    clip = _clip(one.bounds, total, one.wish)
    if clip is not None:
        wished = f"{total} of {one.wish} replicas" if total < one.wish else f"{total} replicas for {one.wish}"
        return f"{wished}: {load}. {clip.why}"
    return f"{total} replicas: {load}."


def _clip(bounds: Bounds, total: int, wish: int) -> guard.Clip | None:
    """What kept the total from being what is wished for."""
    bound, value = ("lowest", bounds.lowest) if total > wish else ("highest", bounds.highest)
    if total == wish or total != value:
        return None
    return next((clip for clip in reversed(bounds.clips) if clip.bound == bound), None)


def _plain(request: allocator.Request) -> dict[str, Any]:
    """What is not in the input already; costs with four digits."""
    asked = {name: value for name, value in asdict(request).items() if name not in GIVEN}
    return asked | {"soon": _short(request.soon), "later": _short(request.later)}


def _short(numbers: Sequence[float]) -> list[float]:
    return [float(f"{number:.4g}") for number in numbers]
