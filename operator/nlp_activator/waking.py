"""Tells the operator that a model is asked for: one ConfigMap in the operator's own namespace, whose data
name the sleep of each model that was ended.

The sleep's name is copied from the model's EndpointSlice, so no clock is compared with another, and what is
left of a former sleep wakes nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from nlp_activator.view import Model, View
from nlp_operator import errors
from nlp_operator.api.objects import Obj, dig
from nlp_operator.cluster import kinds
from nlp_operator.cluster.client import Cluster
from nlp_operator.engine.backoff import Backoff

log = logging.getLogger(__name__)

AGAIN_SECONDS = 10.0
"""A model that is asked for and sleeps on so long after it was told of is told of again: the ConfigMap may
have been made anew before the operator read it."""


class Waker:
    def __init__(
        self,
        cluster: Cluster,
        view: View,
        namespace: str,
        config_map: str,
        *,
        now: Callable[[], float],
        on_woken: Callable[[], object] = lambda: None,
        backoff: Backoff | None = None,
    ) -> None:
        self._cluster = cluster
        self._view = view
        self._namespace = namespace
        self._config_map = config_map
        self._now = now
        self._on_woken = on_woken
        self._backoff = backoff or Backoff(first=0.25, cap=5.0)
        self._told: dict[Model, tuple[str, float]] = {}
        """The sleep, and when it was told."""
        self._pending: dict[Model, str] = {}
        self._news = asyncio.Event()
        self._trouble = ""
        self._troubled_since = 0.0
        self._left: Obj = {}
        """The ConfigMap as it was written last."""

    def wake(self, model: Model, sleep: str) -> None:
        """For each request, and as long as it waits; empty means that it is awake."""
        told, at = self._told.get(model, ("", 0.0))
        if sleep and (told != sleep or self._now() - at >= AGAIN_SECONDS):
            if told != sleep:
                log.info("Wakes a model.", extra={"model": str(model), "sleep": sleep})
                self._on_woken()
            self._told[model] = sleep, self._now()
            self._pending[model] = sleep
            self._news.set()

    def trouble(self, seconds: float) -> str:
        """Why nobody could be woken for so long, in a sentence; empty when that is not so."""
        return self._trouble if self._trouble and self._now() - self._troubled_since >= seconds else ""

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            await self._news.wait()
            self._news.clear()
            pending, self._pending = self._pending, {}
            try:
                await self._tell(pending)
            except errors.OperatorError as error:
                failures += 1
                if not self._trouble:
                    self._troubled_since = self._now()
                self._trouble = f"the Kubernetes API could not be told ({error})."
                log.warning("Models could not be woken: %s", error, extra={"models": len(pending)})
                self._pending = pending | self._pending
                self._news.set()
                await asyncio.sleep(self._backoff.delay(failures))
            else:
                failures, self._trouble = 0, ""

    async def _tell(self, pending: dict[Model, str]) -> None:
        data: dict[str, str | None] = {f"{one.namespace}.{one.name}": sleep for one, sleep in pending.items()}
        answer = await self._cluster.merge(
            kinds.CONFIG_MAP, self._namespace, self._config_map, {"data": data | self._gone()}
        )
        self._left = answer

    def _gone(self) -> dict[str, str | None]:
        """Entries of models that cannot sleep any more are taken away with the next write; what names no
        model is somebody else's."""
        left = [key.partition(".") for key in dig(self._left, "data", default={})]
        return {
            f"{where}.{of_name}": None
            for where, dot, of_name in left
            if dot and not self._view.is_known(Model(where, of_name))
        }
