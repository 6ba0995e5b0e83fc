"""A model that sleeps for as long as each request says, and clients that ask it.

Replicas of it add capacity whatever the machine has.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable

from tests.faults.plain_api import Obj
from tests.nlp_agent.artifacts import make_artifact
from tests.nlp_agent.open_loop import Asked, ask, request_of
from tests.node.models.place import MODEL, Place

SERVICE_SECONDS = 0.1
"""A replica bears ten requests a second: it sleeps for the requests of a batch one after another."""


def put_sleeper(place: Place) -> None:
    """Builds the sample, and leaves in the store an artifact that sleeps as the result of that build: whoever
    asks for the same build gets it (`make_sleeper`)."""
    place.apply_sample()
    place.wait_for("Built", "True")
    store = place.cluster.volume(place.namespace, "nlp-store")
    (file,) = (store / "results").iterdir()
    result = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(result | {"digest": make_artifact(store)}), encoding="utf-8")
    place.kubectl("delete", f"nlp/{MODEL}")


def make_sleeper(place: Place, name: str, **scaling: object) -> Obj:
    (model,) = (one for one in place.sample(MODEL) if one["kind"] == "NLPModel")
    model["metadata"]["name"] = name
    model["spec"]["scaling"] = scaling
    return model


class Load:
    """Requests at given moments, whatever becomes of those before; each on a connection of its own, so that
    every pod behind the Service gets its share."""

    def __init__(self, place: Place, model: str) -> None:
        self._host, _, self._port = place.address(8000, model).partition(":")
        self._request = request_of(model, f"sleep {SERVICE_SECONDS}")
        self.asked: list[Asked] = []
        """Those that ended."""

    @property
    def failures(self) -> list[str]:
        return [one.failure for one in self.asked if one.failure]

    async def _ask(self) -> None:
        self.asked.append(await ask(self._host, int(self._port), self._request))

    async def offer(self, moments: Iterable[float], ended: asyncio.Event | None = None) -> None:
        """`moments`: seconds from now, rising."""
        asking: set[asyncio.Task[None]] = set()
        begun = time.monotonic()
        for moment in moments:
            await asyncio.sleep(begun + moment - time.monotonic())
            if ended is not None and ended.is_set():
                break
            asking.add(asyncio.create_task(self._ask()))
        await asyncio.gather(*asking)

    def lately(self, seconds: float = 10.0) -> list[float]:
        """How long those took that ended in the last while, sorted."""
        since = time.monotonic() - seconds
        return sorted(one.took for one in self.asked if one.begun + one.took > since)
