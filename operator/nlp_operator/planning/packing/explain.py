"""Why a model is where it is, why each other pool is not taken, and what would change that: as data, and in
one sentence each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nlp_operator.api.names import shared_name
from nlp_operator.planning.packing.bounds import (
    CHECKS,
    NEW_CHECKS,
    Refusal,
    counted,
    more_on_spot,
    too_few_for_spot,
    too_little_memory,
    too_little_on_its_nodes,
)
from nlp_operator.planning.packing.keep import keep
from nlp_operator.planning.packing.ledger import Ledger, SharedServer, group_of
from nlp_operator.planning.packing.problem import Model, Plan, Pool, Problem
from nlp_operator.planning.packing.unmoved import NEXT_LOOK, Moment, Unmoved


@dataclass(frozen=True)
class Explanation:
    model: str
    replicas: Mapping[str, int]
    """By pool."""
    missing: int
    why: str
    """One sentence."""
    refusals: tuple[Refusal, ...]
    """One for each pool that holds nothing of it, the cheapest pool first."""
    change: str
    """One sentence: what would give it the missing replicas; of a model that misses none, a cheaper place."""


MICROS = 1_000_000

_EASIEST = (
    "TooBusy",
    "NoRoom",
    "NamespaceFull",
    "NotNamed",
    "SpotShare",
    "Spread",
    "Split",
    "PriorityTooHigh",
    "TooLittleMemory",
    "NodesTooSmall",
    "MemoryUnknown",
    "BackedOff",
    "NoDevices",
    "NotDelivered",
    "NamespaceNotAdmitted",
    "CoresOnly",
)
"""What is nearest to being changed first."""


HAS_ROOM = frozenset({"NotCheaper", "NothingRuns", "NotWorthMoving", "WorthMoving"})
"""Reasons of a pool that would hold a replica more."""

ANY_MOMENT = Moment()


def goes_on(pools: Iterable[str]) -> str:
    """Of a model that runs there and finds no place as its spec is now, such as one that is to share."""
    listed = sorted(pools)
    where = f"pool{'' if len(listed) == 1 else 's'} {' and '.join(listed)}"
    return f"Until it has one, it goes on where it runs, on {where}, and what it takes there stays taken."


def explain(problem: Problem, plan: Plan, key: str, moment: Moment = ANY_MOMENT) -> Explanation:
    """Of a plan for this very problem."""
    return Explainer(problem, plan, moment).explain(key)


class Explainer:
    """For many models of one plan: what they have in common is counted once."""

    def __init__(self, problem: Problem, plan: Plan, moment: Moment = ANY_MOMENT) -> None:
        """`moment`: what moves that only the operator wants depend on."""
        self.problem, self.plan, self.moment = problem, plan, moment
        self.ledger: Ledger = keep(problem, plan)

    def explain(self, key: str, verb: str = "runs") -> Explanation:
        """`verb`: what the model does where the plan has it, if not that yet."""
        model = self.problem.model[key]
        replicas = self.plan.replicas(key)
        against = {pool.name: self._against(model, pool) for pool in self.problem.by_price}
        unmoved = Unmoved(self.problem, self.plan, self.moment, model)
        refusals = tuple(
            self._refusal(unmoved, pool, against[pool.name])
            for pool in self.problem.by_price
            if pool.name not in replicas
        )
        missing = self.plan.missing.get(key, 0)
        change = self._nearest(model, against) if missing else self._cheaper(unmoved, replicas, against)
        return Explanation(key, replicas, missing, self.why(model, replicas, missing, verb), refusals, change)

    # --- each pool ---

    def _against(self, model: Model, pool: Pool) -> list[Refusal]:
        """Everything that speaks against one replica more there, the price apart."""
        # What its nodes say is less than the pool does: a model that fits the former fits both.
        less = too_little_on_its_nodes(self.problem, model, pool) is not None
        checks = (one for one in (*CHECKS, *NEW_CHECKS) if not (less and one is too_little_memory))
        found = [one for check in checks if (one := check(self.problem, model, pool)) is not None]
        return found + self._own_rules(model, pool) + self._no_room(model, pool) + _closed(pool)

    def _own_rules(self, model: Model, pool: Pool) -> list[Refusal]:
        """What the model's replicas in other pools say about this one."""
        if model.shared:
            return []
        counts = self.ledger.dedicated.get(model.key, {})
        here = counts.get(pool.name, 0)
        found = []
        if model.spread > 1 and here >= max(model.most_in_a_pool, 1):
            fewest = max((model.replicas - 1) // here, 1)
            found.append(
                Refusal(
                    pool.name,
                    "Spread",
                    f"Pool {pool.name}: it holds {here} of the {model.replicas} replicas, and no pool may "
                    f"hold more than {model.most_in_a_pool}.",
                    f"spec.placement.minPools were {'' if fewest == 1 else 'at most '}{fewest}",
                    here + 1,
                    model.most_in_a_pool,
                    "replicas",
                )
            )
        on_spot = sum(count for name, count in counts.items() if self.problem.pool[name].spot)
        if (none := too_few_for_spot(model, pool)) is not None:
            found.append(none)
        elif pool.spot and model.spot_millis and on_spot >= model.spot_replicas:
            found.append(
                Refusal(
                    pool.name,
                    "SpotShare",
                    f"Pool {pool.name}: its nodes can be taken away; at most {model.spot_replicas} of the "
                    f"{model.replicas} replicas may be on such, and {on_spot} are.",
                    more_on_spot(model, on_spot + 1),
                    on_spot + 1,
                    model.spot_replicas,
                    "replicas",
                )
            )
        if model.split and here >= model.split.get(pool.name, 0):
            found.append(
                Refusal(
                    pool.name,
                    "Split",
                    f"Pool {pool.name}: scaling asked for {model.split.get(pool.name, 0)} replicas there.",
                    "scaling asked for more there",
                    here + 1,
                    model.split.get(pool.name, 0),
                    "replicas",
                )
            )
        return found

    def _no_room(self, model: Model, pool: Pool) -> list[Refusal]:
        """Of a shared model: for a server of its own there, when no server there has room for it either; or
        for the replicas that its server lacks."""
        if model.shared and not self.ledger.missing(model) and self._can_join(model, pool):
            return []
        replicas = self._replicas_there(model, pool)
        needed = replicas * model.devices
        takes = (
            f"one replica takes {needed}"
            if replicas == 1
            else f"all its replicas move together, and {replicas} more there take {needed}"
        )
        held, used_by = self.ledger.used[pool.name], self.ledger.used_by.get((pool.name, model.namespace), 0)
        limit = pool.namespaces.get(model.namespace)
        found = []
        free = pool.max_devices - held
        if free < needed and (busy := self._too_busy(model, pool, replicas)) is not None:
            found.append(busy)
        elif free < needed:
            are = "is" if held == 1 else "are"
            found.append(
                Refusal(
                    pool.name,
                    "NoRoom",
                    f"Pool {pool.name}: it has {counted(pool.max_devices, 'device')}, of which {held} {are} "
                    f"taken; {takes}.",
                    f"{counted(needed - free, 'device')} more were free there",
                    needed,
                    free,
                    "devices",
                )
            )
        if limit is not None and limit.max_devices is not None and limit.max_devices - used_by < needed:
            free = limit.max_devices - used_by
            found.append(
                Refusal(
                    pool.name,
                    "NamespaceFull",
                    f"Pool {pool.name}: namespace {model.namespace} may have "
                    f"{counted(limit.max_devices, 'device')} there and has {used_by}; {takes}.",
                    f"the namespace were allowed {counted(needed - free, 'device')} more there",
                    needed,
                    free,
                    "devices",
                )
            )
        return found

    def _replicas_there(self, model: Model, pool: Pool) -> int:
        """How many more have to be there for one more of the model's. One that has a server elsewhere moves
        with all that it has: to a server of its own, or into one that grows by what it has too few."""
        home = self.ledger.home.get(model.key)
        if home is None or home.pool is pool:
            return 1
        wanted = self.ledger.granted(model) + (1 if self.ledger.missing(model) else 0)
        joined = (
            max(wanted - one.replicas, 0)
            for one in self._with_memory_for(model, pool)
            if not one.over_with(max(wanted, one.replicas), model)
        )
        return min([wanted, *joined])

    def _can_join(self, model: Model, pool: Pool) -> bool:
        there = self._with_memory_for(model, pool)
        return any(not one.over_with(one.replicas, model) for one in there)

    def _with_memory_for(self, model: Model, pool: Pool) -> list[SharedServer]:
        if not model.shared:
            return []
        size, servers = self.ledger.mebibytes(model, pool.name), self.ledger.in_group.get(group_of(model), {})
        return [
            one
            for one in servers.values()
            if one.pool is pool and model.key not in one.members and one.left_mebibytes >= size
        ]

    def _too_busy(self, model: Model, pool: Pool, slots: int) -> Refusal | None:
        """Of a pool without so many free slots: there is memory in a server, and no time."""
        there = [one for one in self._with_memory_for(model, pool) if one.over_with(one.replicas, model)]
        if not there:
            return None
        best = min(there, key=lambda one: (one.busy_with(one.replicas, model), one.name))
        slot = "slot" if slots == 1 else "slots"
        with_it, may, whole = best.busy_with(best.replicas, model), best.capacity_millis, self._whole(best)
        return Refusal(
            pool.name,
            "TooBusy",
            f"Pool {pool.name}: it has {'no' if slots == 1 else f'not {slots}'} free {slot}, and server "
            f"{shared_name(best.name)} has memory for it, but would be {percent(with_it, whole)} busy with "
            f"it; neighbours may keep a slot {percent(may, whole)} busy.",
            f"{'a' if slots == 1 else slots} {slot} were free there, or server {shared_name(best.name)} had "
            "time for it",
            with_it,
            may,
            "millis",
        )

    def _whole(self, server: SharedServer) -> int:
        """A slot, in thousandths of a device."""
        return 1000 * server.group[2]

    def _refusal(self, unmoved: Unmoved, pool: Pool, against: list[Refusal]) -> Refusal:
        """The first that speaks against it; else its price."""
        if against:
            return against[0]
        model = unmoved.model
        held, here = self._price_held(model), money(self._slot(pool.name, model))
        has_room = f"Pool {pool.name}: a slot costs {here} an hour, and it has room now"
        if held is None:
            change = "another look were taken" if model.replicas else "replicas were asked for"
            return Refusal(pool.name, "NothingRuns", f"{has_room}.", change)
        if self._slot(pool.name, model) < held:
            return unmoved.against(pool, has_room)
        return Refusal(
            pool.name,
            "NotCheaper",
            f"Pool {pool.name}: a slot costs {here} an hour, and {money(held)} where it runs.",
            "it cost less",
        )

    def _price_held(self, model: Model) -> int | None:
        """Of the dearest slot it has."""
        held = self.plan.replicas(model.key)
        return max((self.problem.pool[pool].price_micros * model.devices for pool in held), default=None)

    # --- the model ---

    def why(self, model: Model, replicas: Mapping[str, int], missing: int, verb: str = "runs") -> str:
        """Of a dedicated model in words that depend on nothing but itself and the pools."""
        if not model.replicas:
            return "It asks for no replicas, so it has no server."
        if not replicas:
            what = "its replica" if model.replicas == 1 else f"any of its {model.replicas} replicas"
            which = "no pool that admits it has room" if self._admitting(model) else "no pool admits it"
            return f"There is no place for {what}: {which}."
        some = (
            f"{model.replicas - missing} of {model.replicas} replicas found a place: it " if missing else ""
        )
        verb = verb if some else verb.capitalize()
        if model.shared:
            return some + self._why_shared(model, verb)
        places = " and ".join(
            f"{pool} ({counted(count, 'replica')} at {money(self._slot(pool, model))} an hour)"
            for pool, count in sorted(replicas.items())
        )
        word = "pool" if len(replicas) == 1 else "pools"
        return f"{some}{verb} on {word} {places}, {self._choice(model, replicas)}"

    def why_shared(self, model: Model, pool: str, server: str) -> str:
        """Of a shared model in words that depend on nothing but itself and the pools."""
        memory, size = model.need(pool).memory, self.ledger.mebibytes(model, pool)
        margin = f" and {size - memory.mebibytes:,} of margin" if size > memory.mebibytes else ""
        slot = self.problem.slot_mebibytes(self.problem.pool[pool], model.devices)
        return (
            f"Runs in server {server}, which it shares, on pool {pool}, where a slot costs "
            f"{money(self._slot(pool, model))} an hour: it takes {memory.mebibytes:,} MiB ({memory.source})"
            f"{margin} of its {slot:,} MiB; {self._choice(model, {pool: 1})}"
        )

    def cheaper(self, model: Model, replicas: Mapping[str, int]) -> Pool | None:
        """The cheapest pool that admits it, holds nothing of it, and costs less than one that does."""
        dearest = max((self._slot(pool, model) for pool in replicas), default=0)
        others = (pool for pool in self._admitting(model) if pool.name not in replicas)
        return min(
            (pool for pool in others if self._slot(pool.name, model) < dearest),
            key=lambda pool: (pool.price_micros, pool.name),
            default=None,
        )

    def _choice(self, model: Model, replicas: Mapping[str, int]) -> str:
        """Why it was not placed elsewhere is known of that moment only: room comes and goes with others."""
        admitting = len({pool.name for pool in self._admitting(model)} | replicas.keys())
        if admitting == 1:
            return "the only pool that admits it."
        cheaper = self.cheaper(model, replicas)
        if cheaper is not None:
            return (
                f"where it found a place. Pool {cheaper.name} ({money(self._slot(cheaper.name, model))} an "
                "hour) admits it and costs less."
            )
        if len(replicas) == admitting:
            return "all that admit it."
        return f"the cheapest of the {admitting} pools that admit it."

    def _admitting(self, model: Model) -> list[Pool]:
        """As many replicas as it asks for; the cheapest first."""
        return [pool for pool in self.ledger.options(model) if too_few_for_spot(model, pool) is None]

    def _slot(self, pool: str, model: Model) -> int:
        return self.problem.pool[pool].price_micros * model.devices

    def _why_shared(self, model: Model, verb: str) -> str:
        home = self.ledger.home[model.key]
        memory = model.need(home.pool.name).memory
        size = self.ledger.mebibytes(model, home.pool.name)
        others = len(home.members) - 1
        company = f"with {counted(others, 'other model')}" if others else "alone so far"
        margin = size - memory.mebibytes
        with_margin = f" and {margin:,} of margin" if margin else ""
        return (
            f"{verb} in server {shared_name(home.name)} on pool {home.pool.name} {company}, in "
            f"{counted(home.replicas, 'replica')} at {money(self._slot(home.pool.name, model))} an hour: it "
            f"takes {memory.mebibytes:,} MiB ({memory.source}){with_margin} of a slot's "
            f"{home.capacity_mebibytes:,} MiB, of which {home.free_mebibytes:,} are left."
            f"{self._head_room(model, home)}"
        )

    def _head_room(self, model: Model, home: SharedServer) -> str:
        """Where anything is known of it."""
        whole, may = self._whole(home), home.capacity_millis
        if not home.busy_millis:
            return ""
        who = "their busiest its models keep" if len(home.members) > 1 else "its busiest it keeps"
        kept = f" At {who} a slot {percent(home.busy_millis, whole)} busy"
        if home.busy_millis <= may:
            return f"{kept}, where neighbours may {percent(may, whole)}."
        return f"{kept}, where neighbours may {percent(may, whole)}: {self._crowded(model, home)}."

    def _crowded(self, model: Model, home: SharedServer) -> str:
        if (
            len(home.members) > 1
            and model.need(home.pool.name).load_millis
            and not self._time_elsewhere(model)
        ):
            return "there is memory for it, and no other place with time for it"
        return "who adds to that moves in only where there is no other place"

    def _time_elsewhere(self, model: Model) -> bool:
        """Whether a model that is in a server would find a place with time for it outside."""
        return any(
            self.ledger.room_for(model, pool) or self._can_join(model, pool)
            for pool in self.ledger.options(model)
        )

    # --- what would change it ---

    def _nearest(self, model: Model, against: Mapping[str, list[Refusal]]) -> str:
        """The pool in which least speaks against it."""

        def distance(pool: Pool) -> tuple[int, int, int, int, str]:
            found = against[pool.name]
            hardest = max((_EASIEST.index(one.reason) for one in found), default=-1)
            amount = sum(abs(one.needed - one.available) for one in found if one.reason == _EASIEST[hardest])
            return (len(found), hardest, amount, pool.price_micros, pool.name)

        unknown = [pool for pool in model.pool_names if pool not in self.problem.pool]
        nearest = min(self.problem.pools, key=distance, default=None)
        if nearest is None:
            return "There is no pool at all; one has to be made first."
        reasons = [one.change for one in against[nearest.name]] or ["another look were taken"]
        also = f" (there is no pool {' or '.join(unknown)})" if unknown else ""
        return f"Nearest: pool {nearest.name} would take a replica more if {' and '.join(reasons)}{also}."

    def _cheaper(
        self, unmoved: Unmoved, replicas: Mapping[str, int], against: Mapping[str, list[Refusal]]
    ) -> str:
        model = unmoved.model
        held = self._price_held(model)
        if held is None:
            return "Replicas have to be asked for first."
        for pool in self.problem.by_price:
            if pool.name not in replicas and self._slot(pool.name, model) < held:
                named = f"Pool {pool.name}, at {money(self._slot(pool.name, model))} an hour"
                found = against[pool.name] or [self._refusal(unmoved, pool, [])]
                if found[0].reason == "WorthMoving":
                    return f"{named}, is taken by the operator {NEXT_LOOK}."
                return f"{named}, would be taken if {' and '.join(one.change for one in found)}."
        return "No pool is cheaper."


def _closed(pool: Pool) -> list[Refusal]:
    if pool.backed_off:
        return [
            Refusal(
                pool.name,
                "BackedOff",
                f"Pool {pool.name}: it did not deliver the devices it was asked for, and only what has no "
                "other place is placed there for now.",
                "the pool delivered again",
            )
        ]
    if pool.no_devices:
        return [
            Refusal(
                pool.name,
                "NoDevices",
                f"Pool {pool.name}: no node has any of its devices now, and only what has no other place is "
                "placed there (kubectl describe devicepool says why).",
                "a node had its devices",
            )
        ]
    return []


def percent(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.0f} %"


def money(micros: int) -> str:
    """`420000` is 0.42. No currency: pools name none."""
    whole, part = divmod(micros, MICROS)
    return f"{whole}.{part:06d}".rstrip("0").rstrip(".") if part else str(whole)
