"""What measures, as the rest of the operator knows it: chosen by the settings, asked by the autoscaler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nlp_operator.agents.poller import Target
from nlp_operator.api.objects import Obj
from nlp_operator.cluster import kinds
from nlp_operator.engine.clock import Clock
from nlp_operator.engine.store import ObjectKey, Store
from nlp_operator.planning.scaling.past import Past
from nlp_operator.planning.scaling.signals import Sample
from nlp_operator.planning.scaling.wanted import Wanted, wanted_of
from nlp_operator.planning.shared import owners_in
from nlp_operator.signals.measured import Measured, Model
from nlp_operator.signals.scraper import EVERY_SECONDS, FRESH_SECONDS, Scraper


@dataclass(frozen=True)
class Source:
    measured: Measured
    wanted: Callable[[Model], Wanted | None]
    clock: Clock
    how: str
    """By what models are measured, in a sentence of the status."""
    run: Callable[[], Coroutine[Any, Any, None]]
    see_pod: Callable[[Obj | None, Obj | None], None]
    """A listener of the pod store."""
    want_past: Callable[[Iterable[Model]], None] = lambda models: None
    """Of what came before this process. Called on the loop."""
    take_past: Callable[[Model], Past | None] = lambda model: None
    """What is known of it by now, once; from any thread."""

    def sample(self, model: Model) -> Sample | None:
        wanted = self.wanted(model)
        if wanted is None:
            return None
        return self.measured.sample(model, wanted.target_seconds, self.clock.monotonic())


def wanted_by(models: Store) -> Callable[[Model], Wanted | None]:
    return lambda model: wanted_of(models.get(ObjectKey(model.namespace, model.name)))


def models_in(deployments: Store) -> Callable[[Target], tuple[Model, ...]]:
    """Of a server pod: its model, or all that its server is shared by."""

    def of(target: Target) -> tuple[Model, ...]:
        if target.model:
            return (Model(target.namespace, target.model),)
        server = deployments.get(ObjectKey(target.namespace, target.server))
        return tuple(Model(target.namespace, one) for one in owners_in(server))

    return of


def make_asking(
    stores: Mapping[str, Store],
    url: str,
    *,
    clock: Clock,
    is_ours: Callable[[Obj], bool],
    on_look: Callable[[str], None],
) -> Source:
    """By Prometheus. Its client is imported where it is used: nobody else waits for it."""
    from nlp_operator.signals.memory import LoadMemory
    from nlp_operator.signals.prometheus import FRESH_SECONDS as OLDEST_SECONDS
    from nlp_operator.signals.prometheus import Prometheus

    measured = Measured(OLDEST_SECONDS)
    wanted = wanted_by(stores[kinds.MODEL.name])
    pods = stores[kinds.POD.name]
    asking = Prometheus(
        measured,
        url,
        clock=clock,
        pods=lambda: pods,
        wanted=wanted,
        is_ours=is_ours,
        models_of=models_in(stores[kinds.DEPLOYMENT.name]),
        on_look=on_look,
    )
    memory = LoadMemory(url, clock=clock)

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asking.run(), name="prometheus")
            group.create_task(memory.run(), name="past")

    how = "Load and latency are measured by Prometheus."
    return Source(
        measured, wanted, clock, how, run, lambda old, new: None, memory.want, memory.take
    )  # fmt: skip


def make_scraping(
    stores: Mapping[str, Store],
    port: int,
    *,
    clock: Clock,
    is_ours: Callable[[Obj], bool],
    on_scrape: Callable[[str], None],
) -> Source:
    measured = Measured(FRESH_SECONDS)
    wanted = wanted_by(stores[kinds.MODEL.name])
    scraper = Scraper(
        measured,
        clock=clock,
        is_wanted=lambda model: wanted(model) is not None,
        is_ours=is_ours,
        models_of=models_in(stores[kinds.DEPLOYMENT.name]),
        port=port,
        on_scrape=on_scrape,
    )
    how = f"Load and latency are measured by asking the model's pods every {EVERY_SECONDS:g} s."
    return Source(measured, wanted, clock, how, scraper.run, scraper.see)
