"""Programs from Debian's packages, of the mirrors that apt is configured for, without installing anything.

Packages are downloaded and unpacked into the cache, so no service starts, nothing under /etc changes, and a
containerd or docker of this machine is left alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster import paths
from localcluster.errors import CommandFailed, NotPossible
from localcluster.locks import locked
from localcluster.processes import run_whole
from localcluster.progress import Progress


@dataclass(frozen=True)
class Unpacked:
    """A folder with packages unpacked as if it were the root of a system."""

    root: Path

    def environment(self) -> dict[str, str]:
        """PATH and LD_LIBRARY_PATH by which programs of the packages find each other and their libraries."""
        programs = [str(self.root / folder) for folder in _BIN]
        libraries = self.library_folders()
        here = os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        found = {"PATH": ":".join([*programs, here])}
        return {**found, "LD_LIBRARY_PATH": ":".join(libraries)} if libraries else found

    def library_folders(self) -> list[str]:
        return sorted({str(path.parent) for path in self.root.rglob("*.so*") if path.is_file()})

    def find(self, program: str) -> Path | None:
        """A program of the packages, or of the system where the package is installed."""
        for folder in (*(self.root / path for path in _BIN), *(Path("/") / path for path in _BIN)):
            if os.access(folder / program, os.X_OK):
                return folder / program
        return None


_BIN = ("usr/sbin", "usr/bin", "sbin", "bin", "usr/lib/cni")


def available() -> bool:
    """Whether this machine has apt and dpkg."""
    return all(shutil.which(tool) for tool in ("apt-get", "dpkg-deb"))


def unpacked(packages: Sequence[str], programs: Sequence[str]) -> Unpacked | None:
    """What `unpack` made earlier, when it still has all `programs`. Changes nothing."""
    found = Unpacked(_folder(packages))
    return found if all(found.find(program) for program in programs) else None


def unpack(packages: Sequence[str], programs: Sequence[str], progress: Progress | None = None) -> Unpacked:
    """Packages and what they need beyond what is installed, in the cache.

    `programs` are what must be found afterwards. Raises NotPossible without apt, CommandFailed when a
    package cannot be had.
    """
    progress = progress or Progress(quiet=True)
    found = unpacked(packages, programs)
    if found is not None:
        return found
    if not available():
        raise NotPossible(f"{', '.join(packages)} come as Debian packages, and this machine has no apt.")
    folder = _folder(packages)
    with locked(folder, progress), progress.step(f"unpack {', '.join(packages)} into the cache"):
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".unpacking-"))
        try:
            archives = scratch / "archives"
            (archives / "partial").mkdir(parents=True)
            # One at a time: with apt's own locks off, two would write the same lists.
            with locked(folder.parent / "lists", progress):
                _download(packages, archives, folder.parent / "lists")
            for archive in sorted(archives.glob("*.deb")):
                _run(["dpkg-deb", "--extract", str(archive), str(scratch / "root")])
            shutil.rmtree(folder, ignore_errors=True)
            (scratch / "root").mkdir(exist_ok=True)
            (scratch / "root").rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    found = unpacked(packages, programs)
    if found is None:
        missing = [program for program in programs if not Unpacked(folder).find(program)]
        raise NotPossible(f"The packages {', '.join(packages)} hold no {', '.join(missing)}.")
    return found


def _download(packages: Sequence[str], archives: Path, lists: Path) -> None:
    options = [f"Dir::Cache::archives={archives}", "Debug::NoLocking=1", "APT::Sandbox::User=root"]
    arguments = ["install", "--download-only", "-y", "--no-install-recommends", *packages]
    try:
        _apt(arguments, options)
    except CommandFailed:
        # Lists that are missing, or older than the mirror's packages. Ours are kept in the cache: the
        # machine's own stay as they are.
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        own = [*options, f"Dir::State::lists={lists}"]
        _apt(["update"], own)
        _apt(arguments, own)


def _apt(arguments: Sequence[str], options: Sequence[str] = ()) -> None:
    settings = [word for option in options for word in ("-o", option)]
    _run(["apt-get", "-q", *settings, *arguments], {"DEBIAN_FRONTEND": "noninteractive"})


def _run(argv: Sequence[str], more: dict[str, str] | None = None) -> None:
    done = run_whole(argv, env={**os.environ, **(more or {}), "LC_ALL": "C"})
    if done.returncode != 0:
        raise CommandFailed(argv, done.returncode, (done.stderr or done.stdout)[-1500:])


def _folder(packages: Sequence[str]) -> Path:
    release = Path("/etc/os-release")
    text = "\n".join([*sorted(packages), release.read_text() if release.exists() else ""])
    return paths.cache_dir() / "debian" / hashlib.sha256(text.encode()).hexdigest()[:16]
