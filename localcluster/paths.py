"""Where things are kept.

The cache holds what is expensive and harmless (programs, packages, images); the state holds what belongs
to a running cluster and goes with it.
"""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/nlp-operator`, or `~/.cache/nlp-operator`."""
    return _base("XDG_CACHE_HOME", ".cache") / "nlp-operator"


def state_dir() -> Path:
    """`/run/nlp-operator` for root, where a reboot clears it; else `$XDG_STATE_HOME` or `~/.local/state`.

    `XDG_STATE_HOME`, when it is set, holds for root too.
    """
    if os.geteuid() == 0 and not os.environ.get("XDG_STATE_HOME"):
        return Path("/run/nlp-operator")
    return _base("XDG_STATE_HOME", ".local/state") / "nlp-operator"


def _base(variable: str, default: str) -> Path:
    # The XDG specification: a relative path in these variables is invalid and is ignored.
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / default
