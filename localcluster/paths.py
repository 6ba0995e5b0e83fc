"""Where things are kept.

The cache holds what is expensive and harmless (programs, packages, images); the state holds what belongs
to a running cluster and goes with it; the runtime folder holds the locks of this machine.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from localcluster.errors import NotPossible


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/nlp-operator`, or `~/.cache/nlp-operator`."""
    return _base("XDG_CACHE_HOME", ".cache") / "nlp-operator"


def state_dir() -> Path:
    """`$XDG_STATE_HOME/nlp-operator`, or `~/.local/state/nlp-operator`, for root too.

    Not /run: a cluster's data is gigabytes, and /run is memory. Records of processes carry the boot they
    belong to, so nothing in here is mistaken for alive after a reboot.
    """
    return _base("XDG_STATE_HOME", ".local/state") / "nlp-operator"


def runtime_dir() -> Path:
    """What all our processes on this machine agree on, whatever their state folder.

    /run/nlp-operator for root, `$XDG_RUNTIME_DIR/nlp-operator` for others, and `scratch_dir()` for those who
    have none, or still have the one of the user they were before `su`. Raises NotPossible when it is not ours
    alone.
    """
    if os.geteuid() == 0:
        return own_dir(Path("/run/nlp-operator"))
    value = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = value.startswith("/") and os.access(value, os.W_OK)
    return own_dir(Path(value) / "nlp-operator") if usable else scratch_dir()


def scratch_dir() -> Path:
    """For large things that go when their process ends. Raises NotPossible when it is not ours alone."""
    return own_dir(Path(tempfile.gettempdir()) / f"nlp-operator-{os.geteuid()}")


def own_dir(path: Path) -> Path:
    """Make a folder that nobody else can write to or look into, or find that it is one.

    Its name is known to everybody, and where everybody may make files somebody else may have come first, with
    a link to a file of ours that we would then overwrite. Raises NotPossible when that is so.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise NotPossible(f"The folder {path} cannot be made: {error.strerror}.") from error
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        wrong = "is a link"
    elif not stat.S_ISDIR(found.st_mode):
        wrong = "is no folder"
    elif found.st_uid != os.geteuid():
        wrong = f"belongs to user {found.st_uid}"
    elif stat.S_IMODE(found.st_mode) & 0o777 != 0o700:
        wrong = f"has the mode {stat.S_IMODE(found.st_mode):04o}"
    else:
        return path
    raise NotPossible(
        f"{path} {wrong}; it must be a folder of user {os.geteuid()} with the mode 0700. Somebody else may "
        "have put it there: look at it, and remove it."
    )


def _base(variable: str, default: str) -> Path:
    # The XDG specification: a relative path in these variables is invalid and is ignored.
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / default
