"""Which servers run on this machine without a cluster, and for whom: `nlpctl infer` finds them by this.

A file a server in the user's runtime folder, written by `nlpctl serve` and taken away at its end. A file
whose process is gone is taken away by whoever looks next, with the work folder it names.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from localcluster import paths
from localcluster.errors import ClusterError
from localcluster.processes import Identity, identity_of


@dataclass(frozen=True)
class LocalServer:
    """A running server. Addresses are `127.0.0.1:port`."""

    process: Identity
    """The `nlpctl serve` that started it and with which it ends."""
    models: tuple[str, ...]
    http: str
    grpc: str
    metrics: str
    agent: str
    work: str
    """The agent's work folder: gone with the server."""
    log: str


def find_servers() -> list[LocalServer]:
    """Those that run, the one started last first."""
    try:
        folder = _folder()
    except ClusterError:
        return []  # a folder we must not trust says nothing; `nlpctl serve` tells what is wrong with it
    found = []
    for path in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            process = Identity(**content.pop("process"))
            server = LocalServer(process, tuple(content.pop("models")), **content)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue  # being written, or of another release
        if process.alive():
            found.append(server)
        else:
            shutil.rmtree(server.work, ignore_errors=True)
            path.unlink(missing_ok=True)
    return found


def server_of(model: str) -> LocalServer | None:
    return next((server for server in find_servers() if model in server.models), None)


def record(server: LocalServer) -> Path:
    """Write a server down; the file to take away at its end."""
    path = _folder() / f"{os.getpid()}.json"
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(asdict(server), ensure_ascii=False, indent=1), encoding="utf-8")
    draft.rename(path)
    return path


def this_process() -> Identity:
    found = identity_of(os.getpid())
    assert found is not None, "we are running"
    return found


def _folder() -> Path:
    return paths.own_dir(paths.runtime_dir() / "servers")
