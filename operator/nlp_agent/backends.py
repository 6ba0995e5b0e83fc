"""The processes of Triton's Python backend, read from /proc.

Triton 2.51 never notices that one of them died: the model stays READY and each request to it fails after a
second (measured; newer versions see it when asked for the model's readiness). So the agent remembers which
processes belong to a model once it is proven, and looks whether they still live.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from nlp_agent.memory import PROC

DEAD = ("Z", "X")
TICKS = os.sysconf("SC_CLK_TCK")
"""In which the kernel counts the time of processes, a second."""


def parse_stat(text: str) -> tuple[str, int]:
    """State and parent's pid from `/proc/<pid>/stat`; the command in it may hold blanks and parentheses."""
    after = text[text.rindex(")") + 2 :].split()
    return after[0], int(after[1])


def parse_used(text: str) -> float:
    """Core-seconds from `/proc/<pid>/stat`: of all threads, in the kernel and outside."""
    after = text[text.rindex(")") + 2 :].split()
    return (int(after[11]) + int(after[12])) / TICKS


def cores_used(pids: Iterable[int]) -> dict[int, float]:
    """Core-seconds of each process since its start; one that has ended meanwhile is left out."""
    used = {}
    for pid in pids:
        try:
            used[pid] = parse_used((PROC / str(pid) / "stat").read_text(errors="replace"))
        except (OSError, ValueError, IndexError):
            continue
    return used


def list_children(parent: int) -> dict[int, str]:
    """State of every child, by pid."""
    found: dict[int, str] = {}
    for folder in PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            state, ppid = parse_stat((folder / "stat").read_text(errors="replace"))
        except (OSError, ValueError):
            continue  # it ended while we looked
        if ppid == parent:
            found[int(folder.name)] = state
    return found


def find_stubs(triton: int, repository: Path) -> dict[str, frozenset[int]]:
    """Pids of the living stubs, by the name of the model's folder in the repository."""
    belongs = re.compile(re.escape(str(repository)) + r"/([^/]+)/")
    found: dict[str, set[int]] = {}
    for pid, state in list_children(triton).items():
        if state in DEAD:
            continue
        try:
            arguments = (PROC / str(pid) / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        for argument in arguments[1:]:
            match = belongs.match(argument)
            if match:
                found.setdefault(match[1], set()).add(pid)
                break
    return {name: frozenset(pids) for name, pids in found.items()}


def find_dead(triton: int, stubs: Mapping[str, frozenset[int]]) -> dict[str, frozenset[int]]:
    """Of the remembered stubs, those that live no more, by model."""
    alive = {pid for pid, state in list_children(triton).items() if state not in DEAD}
    return {name: gone for name, pids in stubs.items() if (gone := pids - alive)}


def is_alive(pid: int) -> bool:
    """False also for one whose end nobody has been told of yet."""
    try:
        state, _ = parse_stat((PROC / str(pid) / "stat").read_text(errors="replace"))
    except (OSError, ValueError):
        return False
    return state not in DEAD


def all_pids() -> frozenset[int]:
    return frozenset(int(folder.name) for folder in PROC.iterdir() if folder.name.isdigit())
