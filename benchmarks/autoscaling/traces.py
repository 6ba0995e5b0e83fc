"""Traces: how many requests each model gets, minute by minute or one by one. Formats: those of
shared/traces."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Trace:
    """Requests of several models over one stretch of time."""

    names: tuple[str, ...]
    bin_seconds: float
    counts: Floats
    """Shape (bins, models): expected requests in each bin; not whole numbers where a rate was given."""
    times: tuple[Floats, ...] = ()
    """Arrival times of each model, when the trace has them; the counts then say the same in bins."""

    @property
    def seconds(self) -> float:
        return float(self.counts.shape[0] * self.bin_seconds)

    @property
    def rates(self) -> Floats:
        return self.counts / self.bin_seconds

    def arrivals(self, seed: int) -> tuple[Floats, ...]:
        """One array of sorted times a model: Poisson within each bin, or as given."""
        if self.times:
            return self.times
        drawn = []
        for column in range(len(self.names)):
            random = np.random.default_rng((seed, column))
            numbers = random.poisson(self.counts[:, column])
            starts = np.repeat(np.arange(len(numbers)) * self.bin_seconds, numbers)
            drawn.append(np.sort(starts + random.random(len(starts)) * self.bin_seconds))
        return tuple(drawn)

    def between(self, first_bin: int, bins: int) -> Trace:
        counts = self.counts[first_bin : first_bin + bins]
        start = first_bin * self.bin_seconds
        end = start + len(counts) * self.bin_seconds
        times = tuple(one[(one >= start) & (one < end)] - start for one in self.times)
        return Trace(self.names, self.bin_seconds, counts, times)

    def scaled(self, factor: float) -> Trace:
        """So many times the requests; only where they are counted, for given times cannot be multiplied."""
        if self.times:
            raise ValueError("A trace of given times cannot be scaled.")
        return Trace(self.names, self.bin_seconds, self.counts * factor)


class TraceError(ValueError):
    """The file is not in a format that is known; the message says what was found and what is."""


KNOWN = "day,minute,<model>,...; TIMESTAMP,...; timestamp_ms,...; and model,t_s,rate_rps,..."


def read_days(path: Path) -> dict[int, Trace]:
    """A trace of counts a minute: `day,minute,<model>,...`. One trace a day."""
    head, rows = _rows(path)
    if head[:2] != ["day", "minute"] or len(head) < 3:
        raise TraceError(
            f"{path.name}: the columns are {','.join(head[:6])}; day,minute,<model>,... are wanted."
        )
    table = np.array([_numbers(path, line, row, len(head)) for line, row in enumerate(rows, 2)])
    if not len(table):
        raise TraceError(f"{path.name} has columns but no rows.")
    days = {}
    for day in np.unique(table[:, 0]).astype(int):
        own = table[table[:, 0] == day]
        own = own[np.argsort(own[:, 1])]
        if not np.array_equal(own[:, 1], np.arange(len(own))):
            raise TraceError(
                f"{path.name}: day {day} has {len(own)} rows; they must be its minutes 0 to {len(own) - 1}."
            )
        days[int(day)] = Trace(tuple(head[2:]), 60.0, own[:, 2:])
    return days


def read(path: Path, day: int | None = None) -> Trace:
    """Any trace of `shared/traces`, by its columns. `day`: of a trace that has several; the last when not
    given. Raises TraceError with what is wrong and where."""
    head, rows = _rows(path)
    if head[:2] == ["day", "minute"]:
        days = read_days(path)
        chosen = max(days) if day is None else day
        if chosen not in days:
            raise TraceError(f"{path.name} has no day {chosen}; it has {min(days)} to {max(days)}.")
        return days[chosen]
    readers = {"TIMESTAMP": _azure_times, "timestamp_ms": _mooncake_times}
    reader = readers.get(head[0])
    try:
        if reader is not None:
            return _of_times([reader([row[0] for row in rows])], (path.stem,))
        if head[:3] == ["model", "t_s", "rate_rps"]:
            return _servegen(rows)
    except (ValueError, IndexError) as error:
        raise TraceError(f"{path.name} has a row that cannot be read: {error}.") from error
    raise TraceError(f"{path.name}: the columns are {','.join(head[:6])}; known are {KNOWN}.")


def _rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """The head and the rows that are not empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except UnicodeDecodeError as error:
        raise TraceError(f"{path.name} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    if not rows:
        raise TraceError(f"{path.name} is empty; known are {KNOWN}.")
    return [name.strip() for name in rows[0]], rows[1:]


def _numbers(path: Path, line: int, row: Sequence[str], width: int) -> list[float]:
    if len(row) != width:
        raise TraceError(f"{path.name}: line {line} has {len(row)} columns; the head has {width}.")
    values = []
    for text in row:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e9:
            raise TraceError(f"{path.name}: line {line} has {text!r}; a number of requests is wanted.")
        values.append(value)
    return values


def _of_times(times: Sequence[Floats], names: tuple[str, ...]) -> Trace:
    minutes = int(max(one[-1] for one in times) // 60) + 1
    counts = np.stack([np.bincount((one // 60).astype(int), minlength=minutes) for one in times], axis=1)
    return Trace(names, 60.0, counts.astype(float), tuple(times))


def _azure_times(stamps: Sequence[str]) -> Floats:
    seconds = np.sort(np.array([datetime.fromisoformat(stamp[:26]).timestamp() for stamp in stamps]))
    return np.asarray(seconds - seconds[0])


def _mooncake_times(milliseconds: Sequence[str]) -> Floats:
    """The source gives arrivals in steps of three seconds; they are spread evenly over their step."""
    stamps = np.sort(np.array([float(text) for text in milliseconds]) / 1000.0)
    values, starts, numbers = np.unique(stamps, return_index=True, return_counts=True)
    place = np.arange(len(stamps)) - np.repeat(starts, numbers)
    return np.asarray(np.repeat(values, numbers) + 3.0 * (place + 0.5) / np.repeat(numbers, numbers))


def _servegen(rows: Sequence[Sequence[str]]) -> Trace:
    """As long as the shortest of its models; a window of rate 0 is one in which nobody asked."""
    names = tuple(sorted({row[0] for row in rows}))
    bins = min(sum(1 for row in rows if row[0] == one) for one in names)
    counts = np.zeros((bins, len(names)))
    for model, seconds, rate, *_ in rows:
        at = int(float(seconds) // 600)
        if at < bins:
            counts[at, names.index(model)] = float(rate) * 600
    return Trace(names, 600.0, counts)


def choose(trace: Trace, columns: Sequence[int]) -> Trace:
    """Some of its models, in this order."""
    return Trace(
        tuple(trace.names[column] for column in columns),
        trace.bin_seconds,
        trace.counts[:, list(columns)],
        tuple(trace.times[column] for column in columns) if trace.times else (),
    )
