"""The control group under which all pods of the node live, in version 1 and 2.

Everything of ours is below one name, so that what is left after the room has ended can be found and removed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

NAME = "nlp-operator"

_MOUNTS = Path("/proc/self/mounts")


def parse_mounts(text: str) -> list[tuple[Path, str]]:
    """Where control groups are mounted, and whether each is `cgroup` (version 1) or `cgroup2`."""
    fields = [line.split() for line in text.splitlines()]
    return [(Path(words[1]), words[2]) for words in fields if words[2] in ("cgroup", "cgroup2")]


def version(mounts: Sequence[tuple[Path, str]]) -> int:
    """1 where any controller hangs on a version 1 hierarchy (also `hybrid`), else 2; 0 without any."""
    kinds = {kind for _, kind in mounts}
    return 1 if "cgroup" in kinds else 2 if "cgroup2" in kinds else 0


def current_version() -> int:
    return version(parse_mounts(_MOUNTS.read_text()))


def make() -> None:
    """Make our group in every hierarchy; the kubelet insists on finding it."""
    mounts = parse_mounts(_MOUNTS.read_text())
    for root, kind in mounts:
        if version(mounts) == 1 and kind == "cgroup2":
            continue  # the second hierarchy of `hybrid` carries no controller a pod needs
        folder = root / NAME
        folder.mkdir(exist_ok=True)
        # A new cpuset of version 1 has no processors at all, and nothing can be put in it.
        for name in ("cpuset.cpus", "cpuset.mems"):
            if version(mounts) == 1 and (folder / name).exists():
                (folder / name).write_text((root / name).read_text())
        if version(mounts) == 2:
            _delegate(root, folder)


def _delegate(root: Path, folder: Path) -> None:
    """Version 2: give our group the controllers that the root gives to its children."""
    # Only what is already enabled at the root: enabling more there would be a change that stays.
    given = (root / "cgroup.subtree_control").read_text().split()
    if given:
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in given))


def leftovers() -> list[Path]:
    """Our groups that exist, deepest first."""
    found: list[Path] = []
    for root, _ in parse_mounts(_MOUNTS.read_text()):
        top = root / NAME
        if top.is_dir():
            found += [*sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True), top]
    return sorted(found, key=lambda path: len(path.parts), reverse=True)


def remove(seconds: float = 10.0) -> None:
    """Remove our groups. The kernel lets go of one a moment after its last process; raises OSError when it
    does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while groups := leftovers():
        try:
            for group in groups:
                group.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
