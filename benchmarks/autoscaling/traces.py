"""Traces: how many requests each model gets, minute by minute or one by one. Formats: those of
shared/traces."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
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
            f"{path.name}: the columns are {','.join(head[:6])}; day,minute,<model>,... are wanted: add one "
            "a model."
        )
    twice = [name for name in head if head.count(name) > 1]
    if twice:
        raise TraceError(f"{path.name} has two columns {twice[0]!r}; give each model one column.")
    if not rows:
        raise TraceError(f"{path.name} has columns but no rows; a row a minute is wanted.")
    table = np.array([_numbers(path, line, row, head) for line, row in rows])
    days = {}
    for day in np.unique(table[:, 0]).astype(int):
        own = table[table[:, 0] == day]
        own = own[np.argsort(own[:, 1])]
        wrong = np.flatnonzero(own[:, 1] != np.arange(len(own)))
        if len(wrong):
            found, wanted = int(own[wrong[0], 1]), int(wrong[0])
            what = f"has no minute {wanted}" if found > wanted else f"has minute {found} twice"
            raise TraceError(
                f"{path.name}: day {day} {what}; each of its minutes from 0 to the last is wanted once. "
                "Write 0 where nobody asked."
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
    readers = {"TIMESTAMP": _azure_seconds, "timestamp_ms": _mooncake_seconds}
    if head[0] not in readers and head[:3] != ["model", "t_s", "rate_rps"]:
        raise TraceError(
            f"{path.name}: the columns are {','.join(head[:6])}; known are {KNOWN}. Name them so, in the "
            "first line."
        )
    if day is not None:
        raise TraceError(f"{path.name} has no days; leave the day out.")
    if not rows:
        raise TraceError(f"{path.name} has columns but no rows.")
    if head[0] not in readers:
        return _servegen(path, rows)
    reader = readers[head[0]]
    seconds = np.sort(np.array([_second(path, line, row, reader) for line, row in rows]))
    times = seconds - seconds[0]
    if times[-1] > LONGEST_SECONDS:
        raise TraceError(
            f"{path.name} goes over {times[-1] / 86400:,.0f} days, from its first time to its last; at most "
            f"{LONGEST_SECONDS / 86400:.0f} are simulated. Cut it, or mend a wrong time."
        )
    return _of_times([_spread(times) if reader is _mooncake_seconds else times], (path.stem,))


LONGEST_SECONDS = 31 * 86400.0


def _rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The head, and the rows that are not empty with the number of their line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, row) for row in reader if row]
    except UnicodeDecodeError as error:
        raise TraceError(f"{path.name} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    except csv.Error as error:
        raise TraceError(f"{path.name} is not CSV: {error}. Save it as text with commas.") from error
    if not rows:
        raise TraceError(f"{path.name} is empty; known are {KNOWN}.")
    return [name.strip() for name in rows[0][1]], rows[1:]


def _numbers(path: Path, line: int, row: Sequence[str], head: Sequence[str]) -> list[float]:
    if len(row) != len(head):
        raise TraceError(
            f"{path.name}: line {line} has {len(row)} columns; the head has {len(head)}. Mend the line."
        )
    values = []
    for name, text in zip(head, row, strict=True):
        whole = name in ("day", "minute")
        value = _number(text)
        if not 0 <= value < 1e9 or (whole and value != int(value)):
            what = "a whole number" if whole else "a number of requests"
            raise TraceError(
                f"{path.name}: line {line} has {text!r} in column {name}; {what} from 0 on is wanted."
            )
        values.append(value)
    return values


def _number(text: str) -> float:
    """-1 for what is none."""
    try:
        return float(text)
    except ValueError:
        return -1.0


def _second(path: Path, line: int, row: Sequence[str], reader: Callable[[str], float]) -> float:
    try:
        seconds = reader(row[0])
    except (ValueError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds):
        wanted = "2023-11-16 18:15:46.680" if reader is _azure_seconds else "a number of milliseconds"
        raise TraceError(f"{path.name}: line {line} begins with {row[0]!r}; a time as {wanted} is wanted.")
    return seconds


def _azure_seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp[:26]).timestamp()


def _mooncake_seconds(milliseconds: str) -> float:
    return float(milliseconds) / 1000.0


def _of_times(times: Sequence[Floats], names: tuple[str, ...]) -> Trace:
    minutes = int(max(one[-1] for one in times) // 60) + 1
    counts = np.stack([np.bincount((one // 60).astype(int), minlength=minutes) for one in times], axis=1)
    return Trace(names, 60.0, counts.astype(float), tuple(times))


def _spread(stamps: Floats) -> Floats:
    """The source gives arrivals in steps of three seconds; they are spread evenly over their step."""
    values, numbers = np.unique(stamps, return_counts=True)
    starts = np.cumsum(numbers) - numbers
    place = np.arange(len(stamps)) - np.repeat(starts, numbers)
    return np.asarray(np.repeat(values, numbers) + 3.0 * (place + 0.5) / np.repeat(numbers, numbers))


def _servegen(path: Path, rows: Sequence[tuple[int, Sequence[str]]]) -> Trace:
    """As long as the shortest of its models; a window of rate 0 is one in which nobody asked."""
    names = tuple(sorted({row[0] for _, row in rows}))
    bins = min(sum(1 for _, row in rows if row[0] == one) for one in names)
    counts = np.zeros((bins, len(names)))
    for line, row in rows:
        seconds, rate = (_number(text) for text in (*row, "", "", "")[1:3])
        if not 0 <= seconds <= LONGEST_SECONDS or not 0 <= rate < 1e6:
            raise TraceError(
                f"{path.name}: line {line} has {','.join(row[:3])!r}; a model, the second of its window and "
                "requests a second, from 0 on, are wanted."
            )
        at = int(seconds // 600)
        if at < bins:
            counts[at, names.index(row[0])] = rate * 600
    return Trace(names, 600.0, counts)


def choose(trace: Trace, columns: Sequence[int]) -> Trace:
    """Some of its models, in this order."""
    return Trace(
        tuple(trace.names[column] for column in columns),
        trace.bin_seconds,
        trace.counts[:, list(columns)],
        tuple(trace.times[column] for column in columns) if trace.times else (),
    )
