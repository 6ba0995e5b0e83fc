"""A network namespace of the benchmark's own, so that fake pod addresses exist nowhere else.

The process starts itself again under `unshare --net`: everything it starts (API server, kwok, operator,
agents) then shares one private loopback device. Two benchmarks side by side cannot meet, the machine's
routes are never touched, and when the last process ends the kernel takes the namespace away. Without root a
user namespace gives the same.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

INSIDE = "NLP_BENCHMARK_NETWORK"
"""Set in the environment of the process that runs inside the namespace."""

POD_CIDR = "10.244.0.0/16"
"""Where kwok's pods get their addresses; only ever routed inside the namespace."""


class NetworkUnavailableError(Exception):
    """The machine does not allow a network namespace, or lacks the tools for it."""


def in_own_namespace(module: str, arguments: Sequence[str]) -> bool:
    """True inside; else False, and why is on standard error."""
    try:
        enter_own_namespace(module, arguments)
    except NetworkUnavailableError as error:
        print(f"This benchmark needs a network namespace of its own. {error}", file=sys.stderr)
        return False
    return True


def enter_own_namespace(module: str, arguments: Sequence[str]) -> None:
    """Replace this process by itself inside a new network namespace, unless it already is inside.

    Returns only inside, with the loopback device up and POD_CIDR routed to it.
    """
    if os.environ.get(INSIDE) != "1":
        for tool in ("unshare", "ip"):
            if shutil.which(tool) is None:
                raise NetworkUnavailableError(
                    f"The program {tool!r} is missing; it comes with the Debian package "
                    f"{'util-linux' if tool == 'unshare' else 'iproute2'}."
                )
        as_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        command = ["unshare", *as_user, "--net", "--", sys.executable, "-m", module, *arguments]
        os.execvpe("unshare", command, {**os.environ, INSIDE: "1"})
    for command in (
        ["ip", "link", "set", "lo", "up"],
        ["ip", "route", "replace", "local", POD_CIDR, "dev", "lo"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NetworkUnavailableError(f"{' '.join(command)} failed: {done.stderr.strip()}")
