"""Memory of processes in bytes, read from /proc.

A page that several processes share is divided among them (the kernel's PSS), so the sum over all processes of
a server counts every page once. Private pages are told apart: they are what comes back when a process ends,
whoever else runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
FIELD = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class Held:
    """What some processes hold together."""

    total: int = 0
    """Shared pages divided among those that share them (PSS)."""
    private: int = 0
    """Of these, the pages that no other process has."""
    processes: int = 0

    def __add__(self, other: Held) -> Held:
        return Held(self.total + other.total, self.private + other.private, self.processes + other.processes)


def held_by(pids: Iterable[int]) -> Held:
    """A process that has ended meanwhile holds nothing."""
    held = Held()
    for pid in pids:
        try:
            held += parse_rollup((PROC / str(pid) / "smaps_rollup").read_text())
        except OSError:
            continue
    return held


def parse_rollup(text: str) -> Held:
    """From `/proc/<pid>/smaps_rollup`; empty text, of a process about to end, is nothing."""
    kibibytes = {name: int(number) for name, number in FIELD.findall(text)}
    if "Pss" not in kibibytes:
        return Held()
    private = sum(kibibytes.get(f"Private_{kind}", 0) for kind in ("Clean", "Dirty", "Hugetlb"))
    return Held(kibibytes["Pss"] * 1024, private * 1024, 1)


def maps_library(pid: int, name: str) -> bool:
    """Whether the process has loaded a library whose file name begins so."""
    try:
        maps = (PROC / str(pid) / "maps").read_text(errors="replace")
    except OSError:
        return False
    return re.search(rf"/{re.escape(name)}[^/\n]*$", maps, re.MULTILINE) is not None
