"""Asks the pods of build Jobs how far they are, and keeps the last answer of each.

A build is asked first when it has run for a while, then ever more seldom: most are over before, and who waits
for an hour does not look every ten seconds. Nothing depends on an answer but a sentence in the status, so
where there is none (a builder of an older release, one that loads torch) nothing is said.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from nlp_operator.agents.asking import Followers
from nlp_operator.api import names
from nlp_operator.api.objects import Obj, dig, labels, name, namespace, uid
from nlp_operator.engine.clock import Clock
from nlp_operator.planning.build_progress import parse_progress, runs_build

log = logging.getLogger(__name__)

LARGEST_ANSWER = 4096
"""Bytes; ours has two hundred."""
SLOWEST = 60.0
"""Seconds between two questions to a build that takes very long."""
OF_ITS_AGE = 10.0
"""A build is asked again when it has become a tenth older, but for the bounds: each answer is a write."""


@dataclass(frozen=True)
class Build:
    """A pod in which a build runs."""

    uid: str
    namespace: str
    name: str
    model: str
    address: str


def build_of(pod: Obj) -> Build | None:
    """`None` when nothing builds in it now."""
    address = str(dig(pod, "status", "podIP", default=""))
    if labels(pod).get(names.LABEL_COMPONENT) != names.COMPONENT_BUILD or not address or not runs_build(pod):
        return None
    return Build(uid(pod), namespace(pod), name(pod), labels(pod).get(names.LABEL_MODEL, ""), address)


class Builds:
    """`on_change(namespace, model)` is called when what a build of that model says has changed."""

    def __init__(
        self,
        *,
        clock: Clock,
        port: int,
        on_change: Callable[[str, str], None],
        every: float = 10.0,
        timeout: float = 3.0,
        at_once: int = 32,
        is_ours: Callable[[Obj], bool] = lambda pod: True,
    ) -> None:
        self.progress: dict[str, str] = {}
        """By pod uid; empty ones are left out."""
        self._clock = clock
        self._port = port
        self._on_change = on_change
        self._every = every
        self._followers = Followers(timeout, at_once)
        self._is_ours = is_ours
        self._builds: dict[str, Build] = {}

    def see(self, old: Obj | None, new: Obj | None) -> None:
        """A pod changed (a listener of the pod store)."""
        build = build_of(new) if new is not None else None
        if build is None:
            some = new or old
            if some is not None:
                self._drop(uid(some))
        elif build.uid not in self._builds and new is not None and self._is_ours(new):
            self._builds[build.uid] = build
            self._follow_from_now(build)

    def _follow_from_now(self, build: Build) -> None:
        self._followers.follow(build.uid, f"build {build.name}", lambda: self._follow(build))

    def _drop(self, pod: str) -> None:
        self._builds.pop(pod, None)
        self.progress.pop(pod, None)
        self._followers.drop(pod)

    async def run(self) -> None:
        """Until cancelled."""
        async with self._followers.asking():
            for build in self._builds.values():
                self._follow_from_now(build)
            await asyncio.Event().wait()

    async def _follow(self, build: Build) -> None:
        """One pod, for as long as it builds."""
        began = self._clock.monotonic()
        while True:
            await asyncio.sleep(pause(self._clock.monotonic() - began, self._every))
            async with self._followers.slots:
                said = await self._ask(build)
            if said and said != self.progress.get(build.uid):
                self.progress[build.uid] = said
                self._on_change(build.namespace, build.model)

    async def _ask(self, build: Build) -> str:
        try:
            body = await self._followers.ask(build.address, self._port, "/v1/progress", LARGEST_ANSWER)
            return parse_progress(body)
        except Exception as error:  # Whatever a pod answers is that pod's trouble, not the operator's.
            said = str(error) or type(error).__name__
            log.debug("Build %s/%s does not say how far it is: %s", build.namespace, build.name, said)
            return ""


def pause(age: float, every: float) -> float:
    """Seconds to the next question to a build that has been followed for `age`; `every` at the least."""
    return max(every, min(age / OF_ITS_AGE, SLOWEST))
