"""How many connections a process may have."""

from __future__ import annotations

import resource


def allow_many_connections() -> None:
    """Every agent of the operator, and every client of the activator, has a connection kept open; the soft
    limit of a container may be as low as 1,024. Programs in Go raise it at their start, too."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
