"""The readings of all models' pods, and the totals of each model.

Readings come in on the event loop; samples are taken in the autoscaler's thread. Values are replaced, never
changed, and each dictionary is written from one side only, so neither waits for the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from nlp_operator.planning.readings.counters import Reading
from nlp_operator.planning.readings.totals import Believed, Newest, Pod, Totals, newest, read_again
from nlp_operator.planning.scaling.signals import Sample


class Model(NamedTuple):
    namespace: str
    name: str


class Measured:
    def __init__(self, fresh_seconds: float) -> None:
        """`fresh_seconds`: how old the reading of a pod may be that counts as seen."""
        self.trouble = ""
        """Why nothing can be read of any model, in a sentence; empty when something can."""
        self.latencies: Mapping[Model, Mapping[float, float]] | None = None
        """Seconds by quantile, where whoever reads knows better than the histograms do."""
        self.on_newest: Callable[[Model, Newest], None] = lambda model, found: None
        """Called with each new reading of a pod, of what it and those of the other pods tell."""
        self._fresh_seconds = fresh_seconds
        self._pods: dict[Model, dict[str, Pod]] = {}
        self._totals: dict[Model, Totals] = {}

    # -- of whoever reads pods ------------------------------------------------------------------------------

    def put(
        self,
        model: Model,
        pod: str,
        ready: bool,
        reading: Reading,
        born: float | None = None,
        now: float = math.inf,
    ) -> None:
        """`pod` is its uid; `born` and `now` as in `read_again`."""
        pods = self._pods.setdefault(model, {})
        before = pods.get(pod)
        pods[pod] = after = read_again(before, ready, reading, born, now)
        if before is not None and after.latest is not before.latest:
            found = newest(pods.values(), after.latest.at - self._fresh_seconds)
            if found is not None:
                self.on_newest(model, found)

    def drop(self, model: Model, pod: str) -> None:
        """It is gone, or not measured any more."""
        pods = self._pods.get(model)
        if pods is not None and pods.pop(pod, None) is not None and not pods:
            del self._pods[model]
            self._totals.pop(model, None)

    # -- of the autoscaler ----------------------------------------------------------------------------------

    def sample(self, model: Model, target_seconds: float, now: float) -> Sample | None:
        pods = self._pods.get(model)
        if pods is None:
            return None
        # What begins now is not compared with what the model had before it was forgotten.
        totals = self._totals.setdefault(model, Totals(begun=now))
        sample = totals.look(dict(pods), target_seconds, now, self._fresh_seconds)
        if model not in self._pods:
            self._totals.pop(model, None)  # The last pod went while this looked.
        return sample

    def believed(self, model: Model) -> Believed | None:
        totals = self._totals.get(model)
        believed = totals.believed() if totals is not None else None
        if believed is None or self.latencies is None:
            return believed
        return replace(believed, told=self.latencies.get(model, {}))
