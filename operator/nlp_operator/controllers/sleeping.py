"""What is known of models that may sleep, besides their own objects: that nobody asks for them, where the
activator is, which port each has there, and which sleeps a request has ended."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, dig, labels, listed, name, namespace, text, uid
from nlp_operator.cluster import kinds
from nlp_operator.cluster.caches import ACTIVATORS, WAKES
from nlp_operator.controllers.keys import Key, key_of_label, key_of_object, model_key
from nlp_operator.engine.clock import Clock
from nlp_operator.engine.queue import KeyedQueue, Priority
from nlp_operator.engine.store import ObjectKey, Store
from nlp_operator.planning.scaling.brain import Decision, Memory, ModelInput, ModelMemory
from nlp_operator.planning.scaling.idle import Idle, bring_back, looked, pods_of, set_aside
from nlp_operator.planning.snapshot import Activator
from nlp_operator.resources.slices import FIRST_PORT, LAST_PORT, Family, port_in, slice_name

Woken = Mapping[Key, str]


class Sleeping:
    """`idle_seconds`: for how long nobody must have asked."""

    def __init__(
        self, stores: Mapping[str, Store], queue: KeyedQueue[Key], clock: Clock, idle_seconds: float
    ) -> None:
        self._stores = stores
        self._queue = queue
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._ports: dict[str, int] = {}
        """By uid of the model: those that were given by this process."""
        self._addresses: tuple[str, ...] = ()
        self._family: Family = "IPv4"
        self._woken: dict[Key, str] = {}
        self._woken_at: dict[Key, float] = {}
        """Monotonic; what was proven before does not count."""
        self._idle: Mapping[Key, Idle] = {}
        """Replaced by the autoscaler's thread, never changed."""
        self._told: frozenset[Key] = frozenset()
        self._aside: dict[str, ModelMemory] = {}
        """Of the autoscaler's thread."""
        stores[ACTIVATORS].listen(self._on_activator)
        stores[WAKES].listen(self._on_wakes)

    # --- of passes over models ---

    def of(self, model: Obj) -> Activator | None:
        """`None`: it may not sleep, and nothing is left of a time when it might."""
        present = self._stores[kinds.SLICE.name].get(ObjectKey(namespace(model), slice_name(name(model))))
        if present is None and dig(model, "spec", "scaling", "minReplicas") != 0:
            self._ports.pop(uid(model), None)
            return None
        key = key_of_object(model)
        return Activator(
            self._addresses,
            self._family,
            self._port_of(uid(model), present),
            self._is_idle(key),
            self._woken.get(key, ""),
        )

    def forget(self, of_uid: str, key: Key) -> None:
        """The model is gone."""
        self._ports.pop(of_uid, None)
        self._woken_at.pop(key, None)

    def _port_of(self, of_uid: str, present: Obj | None) -> int | None:
        """The one that this process knows it by, else the one of its slice, else the first that nobody has.
        Never one for two: nothing comes in between. Slices can be written by others, so what one says counts
        only after a restart, and only if it is a port that can be given and nobody was given it before."""
        if of_uid in self._ports:
            return self._ports[of_uid]
        given, possible = set(self._ports.values()), range(FIRST_PORT, LAST_PORT, 2)
        port: int | None = port_in(present)
        if port not in possible or port in given:
            taken = {port_in(one) for one in self._stores[kinds.SLICE.name]} | given
            port = next((one for one in possible if one not in taken), None)
        if port is not None:
            self._ports[of_uid] = port
        return port

    def _is_idle(self, key: Key) -> bool:
        proven = self._idle.get(key)
        return (
            proven is not None
            and proven.holds(self._idle_seconds, self._clock.monotonic())
            and proven.since >= self._woken_at.get(key, -math.inf)
        )

    # --- of the caches ---

    def _on_activator(self, old: Obj | None, new: Obj | None) -> None:
        slices = list(self._stores[ACTIVATORS])
        family: Family = "IPv4" if any(text(one, "addressType") == "IPv4" for one in slices) else "IPv6"
        found = tuple(
            sorted(
                {
                    address
                    for one in slices
                    if text(one, "addressType") == family
                    for endpoint in listed(one, "endpoints")
                    if dig(endpoint, "conditions", "ready") in (True, None)
                    for address in (endpoint.get("addresses") or ())[:1]
                }
            )
        )
        if (found, family) != (self._addresses, self._family):
            self._addresses, self._family = found, family
            for one in self._stores[kinds.MODEL.name]:
                if dig(one, "spec", "scaling", "minReplicas") == 0:
                    self._queue.add(key_of_object(one), Priority.EDIT)

    def _on_wakes(self, old: Obj | None, new: Obj | None) -> None:
        woken = {
            model_key(*where.split(".", 1)): sleep
            for where, sleep in (dig(new, "data", default={})).items()
            if "." in where and isinstance(sleep, str)
        }
        before, self._woken = self._woken, woken
        for key in woken.keys() | before.keys():
            if woken.get(key) != before.get(key):
                self._woken_at[key] = self._clock.monotonic()
                self._queue.add(key, Priority.EDIT)  # somebody waits

    # --- of the autoscaler ---

    def before_deciding(self, models: Sequence[Obj], given: Mapping[Key, ModelInput], memory: Memory) -> None:
        """In its thread."""
        every = {f"{namespace(one)}/{name(one)}" for one in models}
        awake = {one.name for one in given.values()}
        for gone in self._aside.keys() - every:
            del self._aside[gone]
        asleep = {
            f"{namespace(one)}/{name(one)}"
            for one in models
            if dig(one, "spec", "scaling", "minReplicas") == 0 and key_of_object(one) not in given
        }
        set_aside(memory, self._aside, asleep)
        bring_back(memory, self._aside, awake, self._clock.monotonic())

    def looked(
        self,
        models: Sequence[Obj],
        pods: Iterable[Obj],
        given: Mapping[Key, ModelInput],
        decisions: Mapping[Key, Decision],
        now: float,
    ) -> None:
        """In its thread: after a look over all models."""
        may = {key_of_object(one) for one in models if dig(one, "spec", "scaling", "minReplicas") == 0}
        own: dict[Key, list[Obj]] = {}
        for pod in pods:
            if (key := key_of_label(pod)) in may and names.LABEL_SERVER in labels(pod):
                own.setdefault(key, []).append(pod)
        self._idle = {
            key: looked(self._idle.get(key), given[key], decisions[key], pods_of(own.get(key, ())), now)
            for key in sorted(may & given.keys() & decisions.keys())
        }

    def wake_passes(self) -> None:
        """On the loop, after that: whoever turned idle, or is so no more, is planned again."""
        idle = frozenset(key for key in self._idle if self._is_idle(key))
        for key in idle ^ self._told:
            self._queue.add(key, Priority.SIGNAL)
        self._told = idle
