"""What must hold at every moment, of the versions that the API server stored, in their order.

* **Memory**: no `server.json` lists more than its slot holds, by what the models declare.
* **Budget**: no pool has more pods of ours, those that are ending left aside, than its limit; nor more of a
  namespace than that one's limit there.
* **Led astray**: no Service of a model that is Ready leads to a shared server whose `server.json` does not
  list it.
* **Ready in vain**: no model turns Ready while its Service selects no ready pod.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nlp_operator.planning.pods import is_ready
from tests.faults.plain_api import Obj
from tests.faults.recorder import Version

MODEL_LABEL = "nlp-operator.io/model"
SERVER_LABEL = "nlp-operator.io/server"
POOL_LABEL = "nlp-operator.io/pool"

Name = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True)
class Rules:
    declared: Mapping[Name, int]
    """Mebibytes of each model, those of its server included where it is Dedicated."""
    slots: Mapping[str, int]
    """Mebibytes of a slot, by pool, for models of a shared server."""
    limits: Mapping[str, int]
    """Devices of each pool: the most that were allowed while it was recorded."""
    of_namespaces: Mapping[Name, int]
    """Devices by pool and namespace; a pod of a namespace that is not there is wrong."""


@dataclass
class Seen:
    """The cluster as it was at one version."""

    rules: Rules
    services: dict[Name, Mapping[str, str]] = field(default_factory=dict)
    """Selectors."""
    listed: dict[Name, frozenset[str]] = field(default_factory=dict)
    """Models by the ConfigMap of their server."""
    pods: dict[Name, Obj] = field(default_factory=dict)
    """Those that are not ending."""
    ready: set[Name] = field(default_factory=set)
    held: Counter[str] = field(default_factory=Counter)
    """Pods by pool."""
    held_by: Counter[Name] = field(default_factory=Counter)
    """By pool and namespace."""
    wrongs: list[str] = field(default_factory=list)
    left_ready: dict[Name, int] = field(default_factory=dict)
    """How often each model that was Ready was not any more."""

    def take(self, version: Version) -> None:
        where = (version.namespace, version.name)
        match version.kind:
            case "Pod":
                self._take_pod(version, where)
            case "ConfigMap":
                self._take_config(version, where)
            case "Service":
                self._take_service(version, where)
            case "NLPModel":
                self._take_model(version, where)

    def _take_pod(self, version: Version, where: Name) -> None:
        before = self.pods.pop(where, None)
        if before is not None:
            self.held[pool_of(before)] -= 1
            self.held_by[pool_of(before), where[0]] -= 1
        pool = pool_of(version.object)
        ending = version.deleted or "deletionTimestamp" in version.object["metadata"]
        if not pool or ending or version.object.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return
        self.pods[where] = version.object
        self.held[pool] += 1
        self.held_by[pool, where[0]] += 1
        if before is not None:
            return
        most, its_most = self.rules.limits[pool], self.rules.of_namespaces.get((pool, where[0]), 0)
        if self.held[pool] > most:
            self.wrongs.append(f"{version}: {self.held[pool]} pods in pool {pool} of {most}.")
        if (its := self.held_by[pool, where[0]]) > its_most:
            self.wrongs.append(f"{version}: {its} pods of {where[0]} in pool {pool} of {its_most}.")

    def _take_config(self, version: Version, where: Name) -> None:
        text = (version.object.get("data") or {}).get("server.json")
        if text is None:
            return
        told = json.loads(text)
        names = [str(one["name"]) for one in told["models"]]
        self.listed[where] = frozenset() if version.deleted else frozenset(names)
        if MODEL_LABEL not in version.object["metadata"].get("labels", {}):
            used = sum(self.rules.declared[version.namespace, one] for one in names)
            if used > self.rules.slots[told["pool"]]:
                self.wrongs.append(f"{version}: its models declare {used} MiB, too much for {told['pool']}.")
            for one in self.services:
                self._led_astray(version, one)

    def _take_service(self, version: Version, where: Name) -> None:
        if MODEL_LABEL not in version.object["metadata"].get("labels", {}):
            return
        if version.deleted:
            self.services.pop(where, None)
        else:
            self.services[where] = version.object["spec"]["selector"]
            self._led_astray(version, where)

    def _led_astray(self, version: Version, model: Name) -> None:
        server = (model[0], self.services[model].get(SERVER_LABEL, ""))
        if model in self.ready and server in self.listed and model[1] not in self.listed[server]:
            self.wrongs.append(f"{version}: {model[1]} is led to {server[1]}, which does not list it.")

    def _take_model(self, version: Version, where: Name) -> None:
        going = version.deleted or "deletionTimestamp" in version.object["metadata"]
        ready = not going and (version.condition("Ready") or {}).get("status") == "True"
        if ready and where not in self.ready and version.event != "LISTED" and not self._served(where):
            self.wrongs.append(f"{version} turned Ready while no ready pod was behind its Service.")
        if where in self.ready and not ready and not going:
            self.left_ready[where] = self.left_ready.get(where, 0) + 1
        (self.ready.add if ready else self.ready.discard)(where)

    def _served(self, model: Name) -> bool:
        selector = self.services.get(model)
        return selector is not None and any(
            where[0] == model[0] and selector.items() <= pod["metadata"]["labels"].items() and is_ready(pod)
            for where, pod in self.pods.items()
        )


def watched(versions: Sequence[Version], rules: Rules) -> Seen:
    """What was listed at the start is one moment: its order says nothing, so the models come last."""
    seen = Seen(rules)
    kinds = ("Pod", "ConfigMap", "Service", "NLPModel")
    listed = [one for one in versions if one.event == "LISTED" and one.kind in kinds]
    for version in sorted(listed, key=lambda one: kinds.index(one.kind)):
        seen.take(version)
    for version in sorted((one for one in versions if one.event != "LISTED"), key=lambda one: one.number):
        seen.take(version)
    return seen


def pool_of(pod: Obj) -> str:
    return str(pod["metadata"].get("labels", {}).get(POOL_LABEL, ""))
