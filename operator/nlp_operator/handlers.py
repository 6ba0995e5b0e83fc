"""Kopf, and the only file that imports it.

Kopf is the host: it takes the signals, logs in, watches, and wakes us. It is used in the one way that costs
nothing per object: `on.event` handlers that only enqueue. They store nothing, so no annotation and no
finalizer of Kopf's is ever written; the storages below would raise if it tried. What planning reads comes
from our own informers.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import kopf

from nlp_operator.api import names
from nlp_operator.engine.backoff import Backoff

log = logging.getLogger(__name__)

Wake = Callable[[str, str, str, str, int], None]
"""(kind, namespace, name, resourceVersion, generation)."""

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class NoDiffBase(kopf.DiffBaseStorage):
    """Keeps no last-handled state. Building it costs 64 % of Kopf's time for an event (research/kopf.md),
    hence the empty one."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        return {}

    def fetch(self, *, body: Any) -> Any:
        return {}

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        raise AssertionError("Only on.event handlers are registered; there is nothing to store.")


class NoProgress(kopf.ProgressStorage):
    """Keeps no progress of handlers: ours have none."""

    def fetch(self, *, key: Any, body: Any) -> Any:
        return None

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        raise AssertionError("Only on.event handlers are registered; there is nothing to store.")

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        return None

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


def make_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    settings.peering.standalone = True  # One active process is the Lease's business.
    settings.scanning.disabled = True  # No rights on CRDs or namespaces.
    settings.posting.enabled = False  # Events are the recorder's business.
    settings.watching.chunk_size = 500
    settings.queueing.idle_timeout = 0.5
    settings.queueing.worker_limit = None
    # Endless: by default Kopf gives up after 54 s, and an outage of a minute would end in a crash loop.
    settings.networking.error_backoffs = Backoff(first=1.0, cap=30.0)
    settings.networking.connect_timeout = 5.0
    settings.process.ultimate_exiting_timeout = 20.0
    return settings


def make_registry(wake: Wake, kubeconfig: str, stopping: asyncio.Event) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    in_pod = SERVICE_ACCOUNT.exists()

    async def on_model(body: Any, **_: Any) -> None:
        _wake_for(body, wake)

    async def on_pool(body: Any, **_: Any) -> None:
        _wake_for(body, wake)

    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        # The same order as our own client's (cluster/client.py), so that both always speak to one server.
        if in_pod and not kubeconfig and os.environ.get("KUBERNETES_SERVICE_HOST"):
            return kopf.login_with_service_account(**kwargs)
        return kopf.login_with_kubeconfig(**kwargs)

    kopf.on.event(names.GROUP, names.VERSION, names.MODEL_PLURAL, registry=registry)(on_model)
    kopf.on.event(names.GROUP, names.VERSION, names.POOL_PLURAL, registry=registry)(on_pool)

    async def cleanup(**_: Any) -> None:
        stopping.set()

    kopf.on.login(registry=registry)(login)
    kopf.on.cleanup(registry=registry)(cleanup)
    assert_only_events(registry)
    return registry


def _wake_for(body: Any, wake: Wake) -> None:
    metadata = body["metadata"]
    version = str(metadata.get("resourceVersion", ""))
    generation = int(metadata.get("generation", 0))
    wake(body["kind"], metadata.get("namespace") or "", metadata["name"], version, generation)


def assert_only_events(registry: kopf.OperatorRegistry) -> None:
    """The no-op storages are right only while nothing but on.event is registered."""
    storing: list[Any] = [registry._changing, registry._spawning, registry._indexing]
    assert not any(one.get_all_handlers() for one in storing), "Handlers that store state need real storages."


async def run_kopf(
    wake: Wake, *, kubeconfig: str, namespaces: Sequence[str], stopping: asyncio.Event
) -> None:
    """Until a signal arrives; raises when Kopf breaks (a watch that died, say: since 1.45 it says so).

    `stopping` is set at the signal: Kopf waits five seconds for tasks that are not its own; ours should end.
    """
    if kubeconfig:
        os.environ["KUBECONFIG"] = kubeconfig  # Kopf's loader has no other way to be told.
    await kopf.operator(
        registry=make_registry(wake, kubeconfig, stopping),
        settings=make_settings(),
        clusterwide=not namespaces,
        namespaces=list(namespaces),
        standalone=True,
    )
