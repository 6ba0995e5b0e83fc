"""Programs of Kubernetes that nobody has to compile: in a folder the user names, or official release files.

    KUBEBUILDER_ASSETS=DIR         etcd, kube-apiserver, kubectl ... as setup-envtest puts them
    NLP_KUBERNETES_RELEASES=URL    a host laid out as Kubernetes' own download host; only when set

Both are the user's word, so neither is looked for anywhere else. A program of another minor version than the
one this checkout is made for is refused: what it proves would be true of another Kubernetes.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import ipaddress
import os
import platform
import re
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from localcluster.errors import BuildFailed, NotPossible

ASSETS = "KUBEBUILDER_ASSETS"
RELEASES = "NLP_KUBERNETES_RELEASES"

VERSION_WORDS: Mapping[str, tuple[str, ...]] = {
    "etcd": ("--version",),
    "kube-apiserver": ("--version",),
    "kube-controller-manager": ("--version",),
    "kube-scheduler": ("--version",),
    "kubelet": ("--version",),
    "kube-proxy": ("--version",),
    "kubectl": ("version", "--client"),
}
"""How to ask each program that may come from elsewhere for its version. All but etcd are Kubernetes' own."""

ETCD_OLDEST = (3, 5)
"""What the API server still works with."""

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

CONNECT_SECONDS = 5
"""A host that is not there must not hold up what can be compiled."""


def assets(programs: Iterable[str], kubernetes: str, folder: str | None = None) -> dict[str, Path]:
    """Those of `programs` that lie in $KUBEBUILDER_ASSETS; none when it is not set.

    `kubernetes` is the version this checkout is made for, such as `v1.37.2`. Raises NotPossible when the
    folder is missing or a program in it is of another version.
    """
    folder = os.environ.get(ASSETS, "") if folder is None else folder
    if not folder:
        return {}
    if not Path(folder).is_dir():
        raise NotPossible(f"{ASSETS} is {folder!r}, which is no folder. Correct it, or unset it.")
    there = {name: Path(folder, name) for name in programs if name in VERSION_WORDS}
    found = {name: path for name, path in there.items() if os.access(path, os.X_OK)}
    for name, path in found.items():
        wrong = unfit(name, version_of(name, path), kubernetes)
        if wrong:
            raise NotPossible(f"{path} ({ASSETS}) {wrong} Put another there, or unset {ASSETS}.")
    return found


def version_of(program: str, path: Path) -> str:
    """What a program says of its version, on one line; an empty text when it cannot be run."""
    return _ask_version(program, path, path.stat().st_mtime_ns)


@functools.lru_cache
def _ask_version(program: str, path: Path, _changed: int) -> str:
    try:
        done = subprocess.run(
            [path, *VERSION_WORDS[program]], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return " ".join(done.stdout.split())


def unfit(program: str, said: str, kubernetes: str) -> str:
    """Why a program that says this of its version cannot be used, as the end of a sentence; empty: it can."""
    match = re.search(r"\bv?(\d+)\.(\d+)\.\d+", said)
    if match is None:
        return f"does not tell its version; it says {said[:80]!r}."
    found = int(match.group(1)), int(match.group(2))
    if program == "etcd":
        if found[0] == ETCD_OLDEST[0] and found >= ETCD_OLDEST:
            return ""
        return f"is etcd {match.group(0)}; it must be {ETCD_OLDEST[0]}.{ETCD_OLDEST[1]} or newer, below 4."
    wanted = kubernetes.removeprefix("v").split(".")[:2]
    if [str(number) for number in found] == wanted:
        return ""
    return f"is {match.group(0)}; this checkout is made for {'.'.join(['v' + wanted[0], wanted[1]])}."


class Unreachable(Exception):
    """The release files cannot be had; `str(error)` says why, as part of a sentence."""


def address() -> str:
    """Where release files shall come from; empty unless the user says so. Raises NotPossible."""
    given = os.environ.get(RELEASES, "").rstrip("/")
    if given and not _trusted(given):
        raise NotPossible(
            f"{RELEASES} is {given!r}; it must begin with https://, for these programs run with your rights."
        )
    return given


def _trusted(url: str) -> bool:
    """TLS, or this very machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return True
    try:
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def offered(programs: Iterable[str]) -> list[str]:
    """Those that are among Kubernetes' release files; etcd, kwok and CoreDNS have others."""
    return [name for name in programs if name in VERSION_WORDS and name != "etcd"]


def release_file(program: str, version: str) -> str:
    """The path of a program below the address."""
    machine = platform.machine()
    return f"{version}/bin/linux/{ARCHITECTURES.get(machine, machine)}/{program}"


def download(program: str, version: str, base: str, target: Path) -> None:
    """Fetch a program to `target`, which appears only when its sha256 is the one published beside it.

    Raises Unreachable when it cannot be had, BuildFailed when it is not what was published.
    """
    url = f"{base}/{release_file(program, version)}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetching-") as scratch:
        draft = Path(scratch, program)
        try:
            with _open(f"{url}.sha256") as answer:
                published = answer.read(4096).decode("ascii", "replace").split()
            digest = hashlib.sha256()
            with _open(url) as answer, draft.open("wb") as file:
                while chunk := answer.read(1 << 20):
                    digest.update(chunk)
                    file.write(chunk)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            reason = getattr(error, "reason", None) or error
            raise Unreachable(f"{url}: {reason}") from error
        if not published or digest.hexdigest() != published[0]:
            raise BuildFailed(
                f"{url} has the sha256 {digest.hexdigest()}, but {url}.sha256 says "
                f"{(published or ['nothing'])[0][:64]!r}. It was thrown away. Ask who runs that host, or "
                f"unset {RELEASES} to compile instead."
            )
        draft.chmod(0o755)
        draft.rename(target)


class _StayTrusted(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to where the file could have been asked for in the first place."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not _trusted(newurl):
            raise urllib.error.HTTPError(newurl, code, "a redirect away from TLS", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str) -> Any:
    return urllib.request.build_opener(_StayTrusted).open(url, timeout=CONNECT_SECONDS)
