"""Processor time of the programs of a server, and of everybody else."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(leaders: tuple[int, ...]) -> Mapping[str, float]:
    """User and system time of all processes of these sessions, by the name of the program.

    Kernels count it in hundredths of a second.
    """
    found: defaultdict[str, float] = defaultdict(float)
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            text = (folder / "stat").read_text(errors="replace")
            program = (folder / "exe").readlink().name
        except OSError:
            continue
        fields = text[text.rindex(")") + 2 :].split()
        if int(fields[3]) in leaders:
            found[program] += (int(fields[11]) + int(fields[12])) / TICKS
    return found


def machine_cpu_seconds() -> float:
    """Time all cores were busy since the machine was started."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]]
    user, nice, system, _, _, irq, softirq = fields
    return (user + nice + system + irq + softirq) / TICKS
