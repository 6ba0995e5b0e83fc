"""What each model is, as its pods said while there were any: asked of them when they come, when the model
falls asleep, and now and then.

It is in no object of Kubernetes: 5,000 models' metadata are too much for one ConfigMap, and the activator may
write no other. So a process that began while a model slept does not know it, until it was awake once.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from nlp_activator import questions
from nlp_activator.questions import Known
from nlp_activator.view import Address, Called, Model, View

log = logging.getLogger(__name__)

ANEW_SECONDS = 300.0
"""A new version of a model may come into the pods that run, which no slice tells."""
FAILED_SECONDS = 15.0
"""Until who did not answer is asked again: a pod that is called ready may be gone."""
ASK_SECONDS = 5.0
AT_ONCE = 8
LONGEST_ANSWER = 64 * 1024
"""Bytes; whose answer is longer is not known."""

Moment = tuple[tuple[Address, ...], str]
"""The pods of a model and its sleep: when either changes it is asked again."""


NOTHING = Known()


@dataclass
class _Asked:
    moment: Moment
    again_at: float
    known: Known = NOTHING


class Memory:
    """`now`: seconds of a clock that only goes forward."""

    def __init__(self, view: View, *, now: Callable[[], float]) -> None:
        self._view = view
        self._now = now
        self._asked: dict[Model, _Asked] = {}

    def of(self, model: Model) -> Known:
        asked = self._asked.get(model)
        return asked.known if asked else NOTHING

    async def run(self) -> None:
        """Until cancelled."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_SECONDS)) as session:
            while True:
                changed = self._view.changed
                due, wait = self._due()
                if due:
                    await self._ask_all(session, due)
                    continue
                try:
                    async with asyncio.timeout(wait):
                        await changed.wait()
                except TimeoutError:
                    continue

    def _due(self) -> tuple[dict[Model, Moment], float | None]:
        """Whom to ask now, and for how many seconds nobody else; `None`: until something changes."""
        models = {called.model for called in self._view.ports().values()}
        for gone in self._asked.keys() - models:
            del self._asked[gone]
        due, soonest = dict[Model, Moment](), None
        for model in models:
            pods = self._view.pods(Called(model, "http"))
            if not pods:
                continue
            moment, asked = (pods, self._view.asleep(model)), self._asked.get(model)
            if asked is None or asked.moment != moment or asked.again_at <= self._now():
                due[model] = moment
            elif soonest is None or asked.again_at < soonest:
                soonest = asked.again_at
        return due, None if soonest is None else max(soonest - self._now(), 0.0)

    async def _ask_all(self, session: aiohttp.ClientSession, due: dict[Model, Moment]) -> None:
        few = asyncio.Semaphore(AT_ONCE)

        async def ask(model: Model, moment: Moment) -> None:
            async with few:
                asked = self._asked.setdefault(model, _Asked(moment, 0.0))
                found = await _ask(session, model, moment[0][0])
                asked.moment = moment
                asked.again_at = self._now() + (FAILED_SECONDS if found is None else ANEW_SECONDS)
                if found is not None:
                    asked.known = found

        async with asyncio.TaskGroup() as group:
            for model, moment in due.items():
                group.create_task(ask(model, moment))


async def _ask(session: aiohttp.ClientSession, model: Model, pod: Address) -> Known | None:
    host = f"[{pod.host}]" if ":" in pod.host else pod.host
    base = f"http://{host}:{pod.port}/v2"
    try:
        known = Known(await _get(session, base), await _get(session, f"{base}/models/{model.name}"))
        for what in ("Server", "Model"):  # what cannot be said is not known
            questions.answer_over_grpc(questions.Question(what, model.name), known, model.name)
        return known
    except (aiohttp.ClientError, OSError, ValueError, TypeError, AttributeError) as error:
        log.debug("A pod did not say what it serves.", extra={"model": str(model), "error": str(error)})
        return None


async def _get(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """ValueError: it is not what it should be."""
    async with session.get(url, allow_redirects=False) as answer:
        length = answer.content_length
        if answer.status != 200 or length is None or length > LONGEST_ANSWER:
            raise ValueError(f"{url} answers {answer.status} with {length} bytes")
        found: dict[str, Any] = json.loads(await answer.read())
        return found
