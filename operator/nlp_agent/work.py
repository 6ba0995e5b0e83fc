"""How many cores a model takes while it works, and how many of its instances do, measured. Pure.

All of the server's processes count, for all of them take of the cores of its slot: with one more instance of
the model Envoy and Triton have more to do, too. At little load they idle for longer than the model works, so
the number is too large then, never too small.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

WINDOW_SECONDS = 600.0
LEAST_BUSY_SECONDS = 2.0
"""Of executions in the window; with less nothing is known."""
COMPUTE = ("input", "infer", "output")
_LINE = re.compile(r'^nv_inference_(\w+)\{[^}]*\bmodel="([^"]*)"[^}]*\} ([0-9.e+]+)$')
_COMPUTE = tuple(f"compute_{part}_duration_us" for part in COMPUTE)
_READ = (*_COMPUTE, "exec_count", "request_success")


def busy_seconds(page: str) -> dict[str, float]:
    """By model, since Triton's start: how long its executions took together. Triton adds the time of one to
    each request in it, so a request's mean time stands for each."""
    numbers: dict[str, dict[str, float]] = {}
    for line in page.splitlines():
        found = _LINE.match(line) if line.startswith("nv_inference_") else None
        if found is not None and found[1] in _READ:
            of_model = numbers.setdefault(found[2], {})
            of_model[found[1]] = of_model.get(found[1], 0.0) + float(found[3])
    return {model: _busy(of_model) for model, of_model in numbers.items()}


def _busy(numbers: Mapping[str, float]) -> float:
    answered = numbers.get("request_success", 0.0)
    if not answered > 0:
        return 0.0
    micros = sum(numbers.get(name, 0.0) for name in _COMPUTE)
    return micros / 1e6 * numbers.get("exec_count", 0.0) / answered


@dataclass(frozen=True)
class _Reading:
    at: float
    cores: float
    """Core-seconds that were used, as far as they were seen."""
    busy: float
    """Seconds of executions, of all models."""


@dataclass
class Work:
    """Of one server. Moments are seconds of one monotonic clock."""

    _used: dict[int, float] = field(default_factory=dict)
    """Core-seconds by pid, at the last reading."""
    _worked: dict[str, float] = field(default_factory=dict)
    """Likewise busy seconds by model."""
    _readings: deque[_Reading] = field(default_factory=deque)

    def note(self, now: float, used: Mapping[int, float], worked: Mapping[str, float]) -> None:
        """`used`: core-seconds of each process of the server since its start; `worked`: as `busy_seconds`."""
        last = self._readings[-1] if self._readings else _Reading(now, 0.0, 0.0)
        cores = sum(_rises(self._used, used))
        busy = sum(_rises(self._worked, worked))
        self._used, self._worked = dict(used), dict(worked)
        self._readings.append(_Reading(now, last.cores + cores, last.busy + busy))
        while now - self._readings[0].at > WINDOW_SECONDS:
            self._readings.popleft()

    @property
    def cores_each(self) -> float | None:
        """Cores in use for each execution at a time; `None` where nothing is known."""
        if not self._readings:
            return None
        first, last = self._readings[0], self._readings[-1]
        busy = last.busy - first.busy
        return (last.cores - first.cores) / busy if busy >= LEAST_BUSY_SECONDS else None


OVERLAP_SECONDS = 10.0
"""In which executions are looked for that ran side by side."""
EXECUTIONS = 5
"""So many of one instance, at least: of fewer those that had begun before are too large a part."""
NO_INSTANCE = 0.25
"""What is above a whole number by less is none: of executions some took longer than the mean."""


@dataclass(frozen=True)
class Executed:
    """Of one model since it was loaded."""

    asked: float
    """When Triton was asked for it, and when the answer was there."""
    told: float
    count: int
    seconds: float


@dataclass
class Overlap:
    """How many executions of one model ran side by side. An instance does one at a time, so as many work at
    least: what `n` of them ended within a while took `n` times that long at most, and what each had begun
    before."""

    _readings: deque[Executed] = field(default_factory=deque)

    def note(self, reading: Executed) -> None:
        if self._readings and reading.count < self._readings[-1].count:
            self._readings.clear()
        self._readings.append(reading)
        while len(self._readings) > 2 and reading.told - self._readings[1].asked > OVERLAP_SECONDS:
            self._readings.popleft()

    @property
    def at_least(self) -> int:
        """0 where nothing is known."""
        if not self._readings:
            return 0
        first, last = self._readings[0], self._readings[-1]
        count, seconds, took = last.count - first.count, last.seconds - first.seconds, last.told - first.asked
        if not count or took < EXECUTIONS * seconds / count:
            return 0
        return max(math.ceil(seconds / (took + seconds / count) - NO_INSTANCE), 0)


Key = TypeVar("Key", int, str)


def _rises(before: Mapping[Key, float], now: Mapping[Key, float]) -> Iterable[float]:
    """What was there at the last reading, too: of what is new nobody knows since when."""
    return (max(value - before[key], 0.0) for key, value in now.items() if key in before)
