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
    """`$XDG_STATE_HOME/nlp-operator`, or `~/.local/state/nlp-operator`, for root too.

    Not /run: a cluster's data is gigabytes, and /run is memory. Records of processes carry the boot they
    belong to, so nothing in here is mistaken for alive after a reboot.
    """
    return _base("XDG_STATE_HOME", ".local/state") / "nlp-operator"


def _base(variable: str, default: str) -> Path:
    # The XDG specification: a relative path in these variables is invalid and is ignored.
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / default
