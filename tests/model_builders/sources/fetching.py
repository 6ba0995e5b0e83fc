"""Fetches for the tests of sources, in this process: for those in which only the outcome counts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from model_builders.fetch import Reach, fetch
from model_builders.messages import FetchedInput, parse_fetch_request
from model_builders.sources.network import parse_networks
from model_builders.store import Store
from tests.model_builders.made import Jobs
from tests.model_builders.sources.servers import LOOPBACK

Obj = Mapping[str, Any]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def request_of(source: Obj, sha256: str = "", credentials: str = "", name: str = "corpus") -> dict[str, Any]:
    """The request of a fetch Job for one input; `source` is its one member, as in the CRD."""
    given = {"name": name, "sha256": sha256, "credentials": credentials, **source}
    return {"version": 1, "model": "demo/novels", "deadlineSeconds": 600, "inputs": [given]}


def fetch_here(
    jobs: Jobs, request: Obj, allowed: str = LOOPBACK, hosts: tuple[str, ...] = (), max_bytes: int = 10**9
) -> FetchedInput:
    """Raises JobError."""
    reach = Reach(parse_networks(allowed), hosts)
    parsed = parse_fetch_request(json.dumps(request))
    return fetch(parsed, Store(jobs.store), jobs.volumes, max_bytes, reach).inputs[0]


def contents(jobs: Jobs, digest: str) -> dict[str, bytes]:
    """The files of a source in the store."""
    data = jobs.store / "sources" / digest / "data"
    return {str(p.relative_to(data)): p.read_bytes() for p in data.rglob("*") if p.is_file()}


def left_in_store(jobs: Jobs) -> list[str]:
    """What a refused fetch must not leave: sources and work in progress."""
    return [path.name for name in ("sources", "tmp") for path in (jobs.store / name).iterdir()]
