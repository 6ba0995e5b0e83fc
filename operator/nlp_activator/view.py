"""What the EndpointSlices of models' Services say: at which port each model is asked for, which sleep it is
in, and where its ready pods are.

Two kinds of slices come in. Those that the operator writes are the activator's own doors: their ports are
this process's, a pair a model. All others are of Kubernetes, and name the ready pods.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, annotations_of, dig, labels, listed, name, namespace, number, text

log = logging.getLogger(__name__)

PROTOCOLS = ("http", "grpc")
"""The names of a Service's ports that lead here; metrics do not."""


class Model(NamedTuple):
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Called(NamedTuple):
    """Who is meant by a port."""

    model: Model
    protocol: str


class Address(NamedTuple):
    host: str
    port: int


@dataclass(frozen=True)
class _Part:
    """What one slice says."""

    ports: Mapping[int, Called] = field(default_factory=dict)
    asleep: str = ""
    pods: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
    """By protocol."""


def read_slice(slice_: Obj) -> tuple[Model, _Part]:
    model = Model(namespace(slice_), labels(slice_).get(names.LABEL_SERVICE, ""))
    ports = {
        text(one, "name"): number(one, "port")
        for one in listed(slice_, "ports")
        if text(one, "name") in PROTOCOLS and number(one, "port")
    }
    if labels(slice_).get(names.LABEL_SLICE_OF) == names.MANAGED_BY:
        doors = {port: Called(model, protocol) for protocol, port in ports.items()}
        return model, _Part(doors, annotations_of(slice_).get(names.ANNOTATION_ASLEEP, ""))
    hosts = [
        listed_host
        for one in listed(slice_, "endpoints")
        if dig(one, "conditions", "ready") in (True, None)
        for listed_host in (one.get("addresses") or ())[:1]
    ]
    return model, _Part(
        pods={protocol: tuple(Address(host, port) for host in hosts) for protocol, port in ports.items()}
    )


class View:
    """Fed by the store of an informer, on the loop. `doors`: the ports that the operator gives."""

    def __init__(self, doors: range = names.ACTIVATOR_PORTS) -> None:
        self._doors = doors
        self.changed = asyncio.Event()
        """Set, and replaced by a new one, at each change."""
        self._parts: dict[Model, dict[str, _Part]] = {}
        """By model and name of the slice."""

    def see(self, old: Obj | None, new: Obj | None) -> None:
        """A listener of the store."""
        if old is not None:
            model, _ = read_slice(old)
            parts = self._parts.get(model, {})
            parts.pop(name(old), None)
            if not parts:
                self._parts.pop(model, None)
        if new is not None:
            model, part = read_slice(new)
            self._parts.setdefault(model, {})[name(new)] = part
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def ports(self) -> dict[int, Called]:
        """Who is meant by each port. The operator gives each pair once, but others can write slices: a port
        that two claim is nobody's until the operator has mended it, for the wrong model must not answer."""
        claims: dict[int, set[Called]] = {}
        for parts in self._parts.values():
            for part in parts.values():
                for port, called in part.ports.items():
                    if port in self._doors:
                        claims.setdefault(port, set()).add(called)
        for port, called_by in claims.items():
            if len(called_by) > 1:
                models = ", ".join(sorted(str(one.model) for one in called_by))
                log.error("Several models have one port.", extra={"port": port, "models": models})
        return {port: called for port, (called, *others) in claims.items() if not others}

    def is_known(self, model: Model) -> bool:
        """Whether it may sleep."""
        return any(part.ports for part in self._parts.get(model, {}).values())

    def asleep(self, model: Model) -> str:
        """Which sleep it is in, by its name; empty while it is awake."""
        return next((part.asleep for part in self._parts.get(model, {}).values() if part.asleep), "")

    def sleeping(self) -> int:
        """How many models are in a sleep, or wake from one."""
        return sum(any(part.asleep for part in parts.values()) for parts in self._parts.values())

    def pods(self, called: Called) -> tuple[Address, ...]:
        """Where its ready pods are asked."""
        parts = self._parts.get(called.model, {})
        return tuple(one for key in sorted(parts) for one in parts[key].pods.get(called.protocol, ()))
