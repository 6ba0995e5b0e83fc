"""Asks the agents of our server pods how they are, and keeps the last answer of each.

An agent is asked at once when its pod becomes ready, gets a new configuration or appears; four times a second
for some seconds after that and every second from then on until its models have settled (they load, and the
user waits); then every ten seconds. What counts as a change is what it says, not that it said it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import aiohttp

from nlp_operator.agents.asking import Followers
from nlp_operator.api import names
from nlp_operator.api.objects import Obj, annotations_of, deleting, dig, labels, name, namespace, uid
from nlp_operator.engine.clock import Clock
from nlp_operator.planning.agent_report import (
    AgentReport,
    ModelReport,
    parse_agent_report,
    with_peaks,
)
from nlp_operator.planning.pods import is_of_server

log = logging.getLogger(__name__)

SETTLED = ("Serving", "Quarantined")
HASTE_SECONDS = 4.0
"""After a change of a pod: most models are small, and loaded by then."""
LARGEST_ANSWER = 512 * 1024
"""Bytes; a report of sixty models that have all there is to tell is two thirds of this. What is larger is
not our agent."""


@dataclass(frozen=True)
class Target:
    """A server pod as the poller sees it. Another value means: ask now."""

    uid: str
    namespace: str
    name: str
    model: str
    """Empty of a shared server."""
    address: str
    ready: bool
    config_hash: str
    server: str = ""


def target_of(pod: Obj) -> Target | None:
    """The pod as a target; `None` when there is nobody to ask (not one of our servers, no address yet, ended,
    going away)."""
    if not is_of_server(pod) or deleting(pod):
        return None
    address = str(dig(pod, "status", "podIP", default=""))
    if not address or dig(pod, "status", "phase") not in ("Running", "Pending"):
        return None
    if not any(
        dig(status, "state", "running") is not None
        for status in dig(pod, "status", "containerStatuses", default=[])
    ):
        return None
    conditions = dig(pod, "status", "conditions", default=[])
    return Target(
        uid=uid(pod),
        namespace=namespace(pod),
        name=name(pod),
        model=labels(pod).get(names.LABEL_MODEL, ""),
        address=address,
        ready=any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions),
        config_hash=annotations_of(pod).get(names.ANNOTATION_CONFIG_HASH, ""),
        server=labels(pod).get(names.LABEL_SERVER, ""),
    )


class Agents:
    """`on_change(namespace, model)` is called when what an agent of that model says has changed;
    `on_shared_change(namespace, server)` when it is the agent of a shared server."""

    def __init__(
        self,
        *,
        clock: Clock,
        port: int,
        on_change: Callable[[str, str], None],
        on_shared_change: Callable[[str, str], None] = lambda namespace, server: None,
        every: float = 10.0,
        every_unsettled: float = 1.0,
        every_in_haste: float = 0.25,
        timeout: float = 3.0,
        at_once: int = 32,
        on_poll: Callable[[str], None] = lambda result: None,
        is_ours: Callable[[Obj], bool] = lambda pod: True,
    ) -> None:
        self.reports: dict[str, AgentReport] = {}
        """By pod uid."""
        self._clock = clock
        self._port = port
        self._on_change = on_change
        self._on_shared_change = on_shared_change
        self._every = every
        self._every_unsettled = every_unsettled
        self._every_in_haste = every_in_haste
        self._followers = Followers(timeout, at_once)
        self._on_poll = on_poll
        self._is_ours = is_ours
        self._targets: dict[str, Target] = {}
        self._pokes: dict[str, asyncio.Event] = {}
        self._unasked: set[str] = set()
        self._first_round: asyncio.Event | None = None
        self._surprising: set[str] = set()
        """Pods whose agent was last silent in a way nobody foresaw: told once, not once a second."""

    def see(self, old: Obj | None, new: Obj | None) -> None:
        """A pod changed (a listener of the pod store)."""
        if new is None:
            if old is not None:
                self._drop(uid(old))
            return
        target = target_of(new)
        # What was ours stays ours: its Deployment may be out of sight for a moment, without its label.
        if target is not None and target.uid not in self._targets and not self._is_ours(new):
            target = None
        if target is None:
            self._drop(uid(new))
        elif self._targets.get(target.uid) != target:
            self._targets[target.uid] = target
            self._ask_now(target.uid)

    def _ask_now(self, pod: str) -> None:
        self._pokes.setdefault(pod, asyncio.Event()).set()
        self._followers.follow(pod, f"agent {self._targets[pod].name}", lambda: self._follow(pod))

    def _drop(self, pod: str) -> None:
        self._targets.pop(pod, None)
        self._pokes.pop(pod, None)
        self.reports.pop(pod, None)
        self._surprising.discard(pod)
        self._followers.drop(pod)
        self._asked(pod)

    async def run(self, first_round: asyncio.Event) -> None:
        """Until cancelled. `first_round` is set when every pod known at the start has been asked once, answer
        or not.

        Planning waits for it: a pod that was never asked looks like one that serves nothing.
        """
        async with self._followers.asking():
            self._unasked = set(self._targets)
            self._first_round = first_round
            for pod in self._unasked.copy():
                self._ask_now(pod)
            self._asked("")
            await asyncio.Event().wait()

    def _asked(self, pod: str) -> None:
        self._unasked.discard(pod)
        if not self._unasked and self._first_round is not None:
            self._first_round.set()

    async def _follow(self, pod: str) -> None:
        """One pod, for as long as it is a target."""
        changed = self._clock.monotonic()
        while True:
            poke = self._pokes[pod]
            if poke.is_set():
                changed = self._clock.monotonic()
            poke.clear()
            target = self._targets[pod]
            async with self._followers.slots:
                report = await self._ask(target)
            if self._targets.get(pod) is None:
                return
            self._keep(target, report)
            try:
                async with asyncio.timeout(self._pause(target, report, self._clock.monotonic() - changed)):
                    await poke.wait()
            except TimeoutError:
                pass

    def _pause(self, target: Target, report: AgentReport, since_change: float) -> float:
        if settled(target, report):
            return self._every
        return pause_after(report, since_change, self._every_unsettled, self._every_in_haste)

    async def _ask(self, target: Target) -> AgentReport:
        """The agent's answer; when there is none, the last one with the time since which the agent has been
        silent."""
        now = self._clock.now()
        try:
            body = await self._followers.ask(target.address, self._port, "/v1/status", LARGEST_ANSWER)
            report = parse_agent_report(body, now)
        except Exception as error:  # Whatever a pod answers is that pod's trouble, not the operator's.
            self._on_poll("failed")
            self._log_silence(target, error)
            known = self.reports.get(target.uid, AgentReport(taken=None))
            return replace(known, silent_since=known.silent_since or now)
        self._on_poll("ok")
        self._surprising.discard(target.uid)
        return report

    def _log_silence(self, target: Target, error: Exception) -> None:
        what = "Agent of %s/%s counts as silent: %s"
        said = str(error) or type(error).__name__
        if isinstance(error, aiohttp.ClientError | OSError | ValueError):
            log.debug(what, target.namespace, target.name, said)
        elif target.uid not in self._surprising:
            self._surprising.add(target.uid)
            log.warning(what, target.namespace, target.name, f"{type(error).__name__}: {said}")

    def _keep(self, target: Target, report: AgentReport) -> None:
        old = self.reports.get(target.uid)
        report = with_peaks(report, old)
        self._asked(target.uid)
        # The same answer again stays the same object: nobody has to compare what it says a second time.
        if old is None or replace(old, taken=None) != replace(report, taken=None):
            self.reports[target.uid] = report
            if target.model:
                self._on_change(target.namespace, target.model)
            else:
                self._on_shared_change(target.namespace, target.server)
        elif report.silent_since is None and _counted(report) != _counted(old):
            self.reports[target.uid] = replace(report, taken=old.taken)


def _counted(report: AgentReport) -> tuple[object, ...]:
    """What changes all the time: the newest is kept, and nobody is woken for it."""
    of_models = [(one.traffic, one.own_mebibytes, one.processes, one.load_seconds) for one in report.models]
    return report.held_mebibytes, report.free_mebibytes, report.cores_each, of_models


def pause_after(report: AgentReport, since_change: float, every_unsettled: float, in_haste: float) -> float:
    """Seconds until it is asked again, while something is to come. One that is silent starts, or is in
    trouble: nothing is gained by haste."""
    return in_haste if report.silent_since is None and since_change < HASTE_SECONDS else every_unsettled


def settled(target: Target, report: AgentReport) -> bool:
    """Whether nothing is expected to change soon.

    A silent agent whose pod is not ready is starting; one whose pod is ready is in trouble, which the usual
    pace is enough for. A pod of which every model is quarantined is not going to be ready.
    """
    if report.silent_since is not None:
        return target.ready
    if target.config_hash and not report.config_hash.startswith(target.config_hash):
        return False  # It has not read its new configuration yet.
    last = SETTLED if target.ready else ("Quarantined",)
    return bool(report.models) and all(
        model.state in last and not _on_its_way(model) for model in report.models
    )


def _on_its_way(model: ModelReport) -> bool:
    """It serves one version while another is being brought, or with fewer instances than it was told, and not
    because that was refused."""
    comes = model.serving != model.wanted or model.changes
    return model.state == "Serving" and comes and not model.reason
