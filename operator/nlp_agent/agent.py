"""The composition: processes, loops and the state they share, all on one event loop.

Seven loops run side by side. Two keep Triton and Envoy running; one looks at `server.json` and at the
backends' processes; one measures memory; one counts the instances that work while Triton changes them; one
asks each serving model a recorded question now and then; one does, one after the other, what
`decisions.next_action` says. Only the last one changes what is loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import aiohttp

from nlp_agent import decisions
from nlp_agent.artifact import drop_unused
from nlp_agent.backends import cores_used, find_dead, find_stubs, is_alive
from nlp_agent.decisions import Bring, GiveUp, Heal, Model, Remove, Rest, Restart
from nlp_agent.envoy import Envoy, replace_file
from nlp_agent.errors import (
    UNDECIDED,
    ConfigInvalid,
    PutOff,
    Refused,
    RequestFailed,
    SettingsInvalid,
    TooSlow,
    TritonGone,
)
from nlp_agent.examples import Example, find_difference
from nlp_agent.hold import Hold, wait_for
from nlp_agent.loader import Late, Loader, Proof, RefusedAndLost, StillLoading, with_growth_of
from nlp_agent.log import log
from nlp_agent.measures import Measures, ModelMeasures
from nlp_agent.meter import Meter
from nlp_agent.metrics import AgentMetrics, join_pages
from nlp_agent.processes import Child, Processes
from nlp_agent.profiler import Profiler
from nlp_agent.profiles import Profiles
from nlp_agent.report import Health, TritonState, make_report
from nlp_agent.server_config import ServerConfig, Spec, only_instances, parse_server_config
from nlp_agent.settings import Settings
from nlp_agent.traffic import Traffic, read_pages
from nlp_agent.triton import (
    TRITON_TMP,
    TritonClient,
    child_environment,
    clean_shared_memory,
    new_key,
    pick_ports,
    triton_arguments,
    widen_stacks,
)
from nlp_agent.web import Pages
from nlp_agent.work import Executed, Overlap, Work, busy_seconds

# A process that lived this long was well; its next end is not held against it.
LONG_LIFE_SECONDS = 60.0
LONGEST_RESTART_DELAY = 15.0
REPORT = "report.html"
PROFILES = "profiles.json"
TRAFFIC = "traffic.json"
START_SECONDS = 60.0
LATE_SECONDS = 10.0
"""So long a new version waits for a change of instances to end, before Triton is started anew for it."""
COUNT_SECONDS = 1.0
"""How often is counted what works of a change of instances that goes on."""


class Agent:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.config: ServerConfig | None = None
        self.config_fault = ""
        self.models: dict[str, Model] = {}
        self.draining = False
        self._last_content: bytes | None = None
        self._proofs: dict[str, Proof] = {}
        self._late: dict[str, Late] = {}
        self._leaving: dict[int, float] = {}
        self._entry: tuple[str, ...] | None = None
        self._settled = False
        self._profiles = Profiles(settings.work / PROFILES)
        self._profile_until: float | None = None
        self._profiles_ended = False
        self._meter = Meter(settings)
        self._traffic = Traffic()
        self._work = Work()
        self._noting = asyncio.Lock()
        self._measure_soon = asyncio.Event()
        self._busy = ""
        self._turned = self.loop.time()
        self._looks = 0
        self._published: tuple[list[str], list[str], list[str]] | None = None
        self._hold = Hold(settings.run, self._wait_until_well)
        self._wake = asyncio.Event()
        self._canary_numbers = itertools.count()
        self._processes = Processes()
        self._ports = pick_ports(settings)
        self._triton: Child | None = None
        self._client: TritonClient | None = None
        self._triton_state: TritonState = "Starting"
        self._triton_version = os.environ.get("NLP_TRITON_VERSION", "")
        self._triton_failures = 0
        self._envoy = Envoy(settings, self._processes, self._ports)
        self._envoy_ready = False
        self._session: aiohttp.ClientSession | None = None
        self._lock: TextIO | None = None
        self.metrics = AgentMetrics(lambda: self.models, self.measures)

    # -- what others read ------------------------------------------------------------------------------------

    def health(self) -> Health:
        return Health(
            draining=self.draining,
            triton=self._triton_state,
            triton_failures=self._triton_failures,
            envoy_ready=self._envoy_ready,
            settled=self._settled,
            serving=sum(model.live is not None for model in self.models.values()),
            waiting=[
                f"{name}: {model.refusal.message}"
                for name, model in sorted(self.models.items())
                if model.live is None and model.refusal is not None and model.refusal.reason in UNDECIDED
            ],
            measuring=self._to_profile() if self._profile_until is not None else (),
            turn_age=self.loop.time() - self._turned,
            hang=self.settings.timing.hang,
        )

    def report(self) -> dict[str, Any]:
        return make_report(
            self.config,
            self.config_fault,
            self.models,
            self._busy,
            self._triton_version,
            self._triton_state,
            self.measures(),
        )

    def measures(self) -> Measures:
        """As last measured, with the profiles that hold for what serves."""
        pool, measured = self.config.pool if self.config is not None else "", self._meter.measures
        models = {}
        for name, model in self.models.items():
            if model.live is not None:
                profile = self._profiles.of(name, model.live.digest, pool)
                models[name] = replace(
                    measured.models.get(name, ModelMeasures()),
                    profile=profile,
                    profile_seconds=self._profiles.seconds_of(name),
                    traffic=self._traffic.of(name),
                )
        server = replace(measured.server, cores_each=self._work.cores_each)
        return replace(measured, server=server, models=models)

    def page_of(self, name: str) -> bytes | None:
        """`report.html` of the artifact by which a model serves; None when there is none."""
        model = self.models.get(name)
        if model is None or model.live is None:
            return None
        path = self.settings.work / "artifacts" / model.live.digest / REPORT
        return path.read_bytes() if path.is_file() else None

    async def metrics_page(self) -> str:
        envoy, triton = await asyncio.gather(self._envoy.metrics(), self._triton_page())
        # Ours last: no request of our own is then counted by Triton alone, and looks like a caller's.
        return join_pages(self.metrics.page(), envoy, triton)

    async def _triton_page(self) -> str:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
        try:
            async with self._session.get(f"http://127.0.0.1:{self._ports.metrics}/metrics") as answer:
                return await answer.text() if answer.status == 200 else ""
        except (aiohttp.ClientError, OSError, TimeoutError):
            return ""

    # -- life ------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit code."""
        stop, hurry = asyncio.Event(), asyncio.Event()

        def on_signal() -> None:
            (hurry if stop.is_set() else stop).set()

        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, on_signal)
        self._prepare()
        await self._hold.start()
        loops = [
            self.loop.create_task(work, name=name)
            for name, work in (
                ("triton", self._keep_triton_running()),
                ("envoy", self._keep_envoy_running()),
                ("looking", self._keep_looking()),
                ("measuring", self._keep_measuring()),
                ("counting", self._keep_counting()),
                ("asking", self._keep_asking()),
                ("acting", self._keep_acting()),
            )
        ]
        for task in loops:
            task.add_done_callback(say_fault)
        waiting = self.loop.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait({waiting, *loops}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.draining = True
            self._wake.set()
            failed = await self._drain(hurry, loops, waiting)
        return 1 if failed else 0

    def _prepare(self) -> None:
        work = self.settings.work
        check_writable(work, "NLP_WORK is the folder the agent works in")
        check_writable(TRITON_TMP, "Triton's Python backend makes a folder there, or ends itself")
        widen_stacks(self.settings.limits)
        self._lock = (work / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsInvalid(f"Another agent uses NLP_WORK {str(work)!r}.") from error
        for folder in (self.settings.repository, self.settings.run, self.settings.tmp):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        for folder in (work / "artifacts", self.settings.downloads):
            folder.mkdir(exist_ok=True)
        removed = clean_shared_memory(work)
        self._recall()
        self._profiles.recall()
        self._recall_traffic()
        self._envoy.write_routes("", [], [], [])
        log("agent started", server=self.config.server if self.config else "", sharedMemoryRemoved=removed)

    async def _drain(
        self, hurry: asyncio.Event, loops: Sequence[asyncio.Task[None]], waiting: asyncio.Task[Any]
    ) -> bool:
        """Not ready, wait for the endpoints to go, finish what is under way, then stop the processes, in this
        order. The loops go on until then: a request may wait for a backend, or a Triton, that died. Whether
        one failed.
        """
        timing = self.settings.timing
        log("draining", delaySeconds=timing.drain_delay)
        if self._envoy.child is not None and self._envoy.child.running:
            await self._envoy.ask_clients_to_leave()
            await self._unless(hurry, asyncio.sleep(timing.drain_delay))
            await self._unless(hurry, self._envoy.close_door(timing.drain_requests))
        failed = any(task.done() and task.exception() is not None for task in loops)
        for task in (waiting, *loops):
            task.cancel()
        await asyncio.gather(waiting, *loops, return_exceptions=True)
        self._triton_state = "Stopping"
        await self._envoy.stop(2.0)
        await self._hold.stop()
        if self._triton is not None and self._triton.running:
            # Envoy is gone and with it every connection into Triton, so nothing is lost when it takes too
            # long.
            await self._triton.stop(timing.triton_exit + 1.0)
        if self._client is not None:
            await self._client.close()
        if self._session is not None:
            await self._session.close()
        await self._envoy.close()
        self._processes.close()
        clean_shared_memory(self.settings.work)
        log("stopped")
        return failed

    @staticmethod
    async def _unless(hurry: asyncio.Event, work: Coroutine[Any, Any, object]) -> None:
        tasks = [asyncio.ensure_future(work), asyncio.ensure_future(hurry.wait())]
        _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- what was proven, across containers ------------------------------------------------------------------

    def _recall(self) -> None:
        """A container that restarts on the same work folder brings back first what served last."""
        try:
            document = json.loads((self.settings.work / "proven.json").read_text())
            for item in document["models"]:
                spec = Spec(**item)
                self.models[spec.name] = Model(spec.name, good=spec)
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError) as error:
            log("what was proven before cannot be read", level="warning", error=str(error))

    def _remember(self) -> None:
        good = [asdict(model.good) for _, model in sorted(self.models.items()) if model.good is not None]
        replace_file(self.settings.work / "proven.json", {"version": 1, "models": good})
        used = {spec["digest"] for spec in good}
        if self.config is not None:
            used |= {spec.digest for spec in self.config.models}
        for digest in drop_unused(self.settings.work / "artifacts", used):
            log("local copy removed", digest=digest)
        drop_unused(self.settings.downloads, used)

    # -- loop: Triton ----------------------------------------------------------------------------------------

    async def _keep_triton_running(self) -> None:
        while True:
            started = self.loop.time()
            key = new_key()
            clean_shared_memory(self.settings.work)
            self._triton = self._processes.start(
                "triton", triton_arguments(self.settings, self._ports, key), child_environment(self.settings)
            )
            client = TritonClient(self._ports, key, lambda model: self.metrics.own.labels(model).inc())
            try:
                await self._watch_triton(self._triton, client)
            finally:
                self._client = None
                await client.close()
            self._triton_state = "Restarting"
            self._proofs.clear()
            self._leaving.clear()
            self._late.clear()
            self.models = {name: decisions.triton_ended(model) for name, model in self.models.items()}
            await self._publish(self.models)
            short = self.loop.time() - started < LONG_LIFE_SECONDS
            self._triton_failures = self._triton_failures + 1 if short else 0
            self.metrics.restarts.labels("triton").inc()
            log(
                "triton ended",
                level="error",
                exitCode=self._triton.exited.result(),
                lines=self._last_lines(5),
            )
            await asyncio.sleep(min(2.0 ** max(self._triton_failures - 2, 0) - 1, LONGEST_RESTART_DELAY))

    async def _watch_triton(self, child: Child, client: TritonClient) -> None:
        """Returns when the process has ended."""
        timing = self.settings.timing
        last_sign = self.loop.time()
        while child.running:
            alive = await client.is_live(timing.hang / 3)
            now = self.loop.time()
            if alive:
                last_sign = now
                if self._triton_state == "Hung":
                    log("triton answers again", level="warning")
                if self._client is None:
                    self._meter.triton_runs(child.pid)
                    self._triton_version = await self._ask_version(client)
                    log("triton runs", version=self._triton_version, seconds=round(now - child.started, 3))
                    self._client = client
                    self._wake.set()
                self._triton_state = "Running"
            elif now - last_sign > (timing.hang if self._client else max(timing.hang, START_SECONDS)):
                if self._triton_state != "Hung":
                    log("triton hangs", level="error", seconds=round(now - last_sign, 1))
                self._triton_state = "Hung"
            pause = 1.0 if self._client else 0.05
            await asyncio.wait([child.exited], timeout=pause)

    async def _ask_version(self, client: TritonClient) -> str:
        try:
            return await client.version()
        except TritonGone:
            return self._triton_version

    def _last_lines(self, count: int) -> list[str]:
        return list(self._triton.lines)[-count:] if self._triton else []

    # -- loop: Envoy -----------------------------------------------------------------------------------------

    async def _keep_envoy_running(self) -> None:
        failures = 0
        while True:
            started = self.loop.time()
            child = self._envoy.start()
            while child.running:
                ready = await self._envoy.is_ready()
                if ready and not self._envoy_ready:
                    log("envoy is up", seconds=round(self.loop.time() - started, 3))
                    if self.draining:
                        await self._envoy.ask_clients_to_leave()
                self._envoy_ready = ready
                await asyncio.wait([child.exited], timeout=1.0 if ready else 0.05)
            self._envoy_ready = False
            failures = failures + 1 if self.loop.time() - started < LONG_LIFE_SECONDS else 0
            self.metrics.restarts.labels("envoy").inc()
            log("envoy ended", level="error", exitCode=child.exited.result(), lines=list(child.lines)[-5:])
            if self._envoy.door_closed:
                return
            await asyncio.sleep(min(2.0 ** max(failures - 2, 0) - 1, LONGEST_RESTART_DELAY))

    async def _publish(self, models: dict[str, Model]) -> None:
        """Make Envoy route to exactly the models that serve in `models`; returns when it does."""
        config = self.config
        wanted = config.wanted() if config else {}
        serving = sorted(name for name, model in models.items() if model.live is not None)
        returning = sorted(name for name in wanted if name in models and decisions.returns(models[name]))
        waiting = sorted(wanted.keys() - set(serving) - set(returning))
        if config is None or self._published == (serving, waiting, returning):
            return
        versions = self._envoy.write_routes(config.namespace, serving, waiting, returning)
        self._published = (serving, waiting, returning)
        if self._envoy_ready:
            await self._envoy.wait_for_routes(versions)

    async def _wait_until_well(self, name: str) -> None:
        """Of a request whose backend died."""
        # Two looks, for one may have begun just before. Counted and not timed: many requests that come at
        # once keep this loop from looking.
        enough = self._looks + 2
        await wait_for(lambda: self._is_well(name), lambda: self._looks >= enough, self.settings.timing.hold)

    def _is_well(self, name: str) -> bool | None:
        """`None`: it will not be."""
        model = self.models.get(name)
        if model is None or (model.live is None and not decisions.returns(model)):
            return None
        return model.live is not None and not model.sick and self._client is not None

    # -- loop: looking ---------------------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        while True:
            self._turned = self.loop.time()
            self._look_at_config()
            self._look_at_backends()
            await asyncio.sleep(self.settings.timing.look)

    def _look_at_config(self) -> None:
        """The whole file is read each time: it is small, and the kubelet swaps links, which no time stamp
        shows safely.
        """
        try:
            content = self.settings.config.read_bytes()
        except OSError as error:
            if self.config_fault != (fault := f"server.json cannot be read: {error.strerror}."):
                self.config_fault = fault
                log("configuration missing", level="error", error=fault)
            self._last_content = None
            return
        if content == self._last_content:
            return
        self._last_content = content
        try:
            config = parse_server_config(content, self.settings.pod)
        except ConfigInvalid as error:
            self.config_fault = str(error)
            self.metrics.config_faults.inc()
            log("configuration refused; the last good one stays", level="error", error=str(error))
            return
        self.config, self.config_fault = config, ""
        self._profiles.learn(config)
        if self._entry is None:
            self._entry = tuple(config.wanted())
        log(
            "configuration read",
            hash=config.hash,
            models={spec.name: spec.digest[:12] for spec in config.models},
        )
        self._wake.set()

    def _look_at_backends(self) -> None:
        if self._client is None or self._triton is None or not is_alive(self._triton.pid):
            return
        for name, pids in find_dead(
            self._triton.pid, {n: p.stubs for n, p in self._proofs.items() if p.stubs}
        ).items():
            if name != self._busy and not decisions.shrinks(self._known(name)):
                self._fall_ill(name, f"{len(pids)} of its processes died (pids {sorted(pids)}).")
        self._end_leftovers(self._triton.pid)
        self._looks += 1

    def _end_leftovers(self, triton: int) -> None:
        """Of processes that a heal replaced, those that Triton has not ended when any request they held is
        over: they hold memory for nothing.
        """
        if not self._leaving:
            return
        alive = {
            pid for pids in find_stubs(triton, self.settings.repository).values() for pid in pids
        } - self._replacements()
        self._leaving = {pid: due for pid, due in self._leaving.items() if pid in alive}
        for pid, due in list(self._leaving.items()):
            if self.loop.time() >= due:
                log("ending a backend that a reload left behind", level="warning", pid=pid)
                del self._leaving[pid]
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _replacements(self) -> set[int]:
        return {pid for proof in self._proofs.values() for pid in proof.stubs}

    def _fall_ill(self, name: str, why: str) -> None:
        model = self.models.get(name)
        if model is None or model.live is None or model.sick:
            return
        self.models[name] = decisions.fell_ill(model, why, self.loop.time(), self.settings.timing)
        log("backend is sick", level="error", model=name, why=why)
        self._wake.set()

    # -- loop: asking ----------------------------------------------------------------------------------------

    async def _keep_asking(self) -> None:
        """Each model has one canary at a time, and a slow one holds up no other."""
        running: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                await asyncio.sleep(self.settings.timing.canary)
                for name, task in list(running.items()):
                    if task.done():
                        running.pop(name).result()
                for name, model in self.models.items():
                    if model.live and not model.sick and name not in running:
                        running[name] = self.loop.create_task(self._canary(name))
        finally:
            for task in running.values():
                task.cancel()
            await asyncio.gather(*running.values(), return_exceptions=True)

    async def _canary(self, name: str) -> None:
        """Two failures in a row make a backend sick; slowness never does."""
        proof, client = self._proofs.get(name), self._client
        if proof is None or client is None:
            return
        example = proof.examples[next(self._canary_numbers) % len(proof.examples)]
        for _ in range(2):
            if name == self._busy or self._proofs.get(name) is not proof:
                return
            result, fault = await self._ask_canary(client, name, example)
            self.metrics.canaries.labels(name, result).inc()
            if result not in ("failed", "wrong"):
                return
        if name != self._busy and self._proofs.get(name) is proof:
            self._fall_ill(name, fault)

    async def _ask_canary(self, client: TritonClient, name: str, example: Example) -> tuple[str, str]:
        try:
            answers = await client.ask(name, example, self.settings.timing.answer)
        except RequestFailed as error:
            return "failed", f"Example {example.name!r} failed: {error}"
        except TooSlow:
            return "slow", ""
        except TritonGone:
            return "unreachable", ""
        difference = find_difference(example, answers)
        return ("wrong", difference) if difference else ("right", "")

    # -- loop: measuring -------------------------------------------------------------------------------------

    async def _keep_measuring(self) -> None:
        while True:
            await self._measure()
            await asyncio.sleep(self.settings.timing.look)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._measure_soon.wait(), self.settings.timing.measure)
            self._measure_soon.clear()

    async def _keep_counting(self) -> None:
        """Only what works proves that it does, and callers are not kept waiting for a better word."""
        overlaps: dict[str, Overlap] = {}
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            watched = [name for name, model in self.models.items() if decisions.to_watch(model)]
            overlaps = {name: overlaps.get(name, Overlap()) for name in watched}
            for name, overlap in overlaps.items():
                await self._count(name, overlap)

    async def _count(self, name: str, overlap: Overlap) -> None:
        client, late, asked = self._client, self._known(name).late, self.loop.time()
        if client is None or self.config is None or late is None:
            return
        try:
            count, seconds = await client.executed(name)
        except (RequestFailed, TritonGone):
            return
        overlap.note(Executed(asked, self.loop.time(), count, seconds))
        model = self._known(name)
        if model.late is late and client is self._client:
            side_by_side = self.config.at_a_time(late) // late.instances
            self.models[name] = decisions.seen_at_work(model, overlap.at_least // side_by_side)

    async def _measure(self) -> None:
        envoy, triton = (
            child.pid if child is not None and child.running else None
            for child in (self._envoy.child, self._triton)
        )
        on_gpu = self.config is not None and self.config.device == "gpu"
        await self._meter.measure(envoy, triton, self._proofs, on_gpu)
        await self._note_traffic()

    async def _note_traffic(self) -> None:
        async with self._noting:  # in the order in which the pages were read
            pages = await asyncio.gather(self._envoy.metrics(), self._triton_page())
            if pages[1]:
                self._work.note(self.loop.time(), cores_used(self._pids()), busy_seconds(pages[1]))
            serving = {name: model.live.digest for name, model in self.models.items() if model.live}
            counts = read_pages([*pages, self.metrics.page()])
            if all(pages) and self._traffic.note(self.loop.time(), serving, counts):
                document = {"version": 1, "models": self._traffic.remembered()}
                replace_file(self.settings.work / TRAFFIC, document)

    def _pids(self) -> set[int]:
        """Of all processes that take of the slot's cores."""
        children = [child.pid for child in (self._envoy.child, self._triton) if child and child.running]
        return {os.getpid(), *children, *(pid for proof in self._proofs.values() for pid in proof.stubs)}

    def _recall_traffic(self) -> None:
        try:
            document = json.loads((self.settings.work / TRAFFIC).read_text(encoding="utf-8"))
            self._traffic.recall(document["models"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log("what callers had before cannot be read", level="warning", error=str(error))

    # -- profiles --------------------------------------------------------------------------------------------

    def _to_profile(self) -> list[str]:
        """Names of the models still to be measured before the first Ready."""
        if self.config is None or self._entry is None:
            return []
        return self._profiles.missing(self.config, self.models, self._entry)

    async def _profile_next(self, client: TritonClient) -> bool:
        """Measure one model, until something more urgent is to be done; False when none is left."""
        self._settle()
        names = self._to_profile()
        if self.draining or self._settled or self._profile_until is None or not names:
            return False
        name, config = names[0], self.config
        spec, proof = self._known(name).live, self._proofs.get(name)
        if config is None or spec is None or proof is None:
            return False
        profiler = Profiler(client, name, proof.examples, proof.max_batch_size, config.at_a_time(spec))

        def note() -> None:
            self._profiles.note(name, profiler.result(spec.digest, config.pool))

        profiler.before_step = note
        share = (self._profile_until - self.loop.time()) / len(names)
        work = self.loop.create_task(profiler.run(share))
        try:
            while not work.done():
                wake = self.loop.create_task(self._wake.wait())
                await asyncio.wait({work, wake}, return_when=asyncio.FIRST_COMPLETED)
                wake.cancel()
                if not work.done() and (self._is_more_urgent() or name not in self._to_profile()):
                    break  # in the second case a pod that was faster has told, or nobody asks any more
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        profile = profiler.result(spec.digest, config.pool)
        self._profiles.keep(name, profile)
        log(
            "model measured",
            model=name,
            state=profile.state,
            message=profile.message,
            seconds=profile.seconds,
            batches=len(profile.batches),
        )
        self._measure_soon.set()
        self._settle()
        return True

    def _is_more_urgent(self) -> bool:
        """Whether there is something to do now; asked when something changed."""
        self._wake.clear()
        if self.draining or self._client is None or self.config is None:
            return True
        return not isinstance(self._next_action(), Rest)

    def _next_action(self) -> decisions.Action:
        return decisions.next_action(*self._aim(), self.loop.time(), self.settings.timing)

    def _aim(self) -> tuple[Mapping[str, Spec], Mapping[str, Model]]:
        """What is wanted, and the models to get there."""
        if self.draining:
            return decisions.in_a_pod_that_ends(dict(self.models))
        return self.config.wanted() if self.config is not None else {}, self.models

    # -- loop: acting ----------------------------------------------------------------------------------------

    async def _keep_acting(self) -> None:
        while True:
            self._wake.clear()
            client, triton, config = self._client, self._triton, self.config
            if client is None or triton is None or config is None:
                await self._wake.wait()
                continue
            await self._publish(self.models)
            action = self._next_action()
            if isinstance(action, Rest):
                if not await self._profile_next(client):
                    await self._rest(action.until)
                continue
            self._busy = action.name
            stop = partial(self._is_urgent, action, client)
            loader = Loader(
                self.settings,
                config,
                client,
                triton.pid,
                self._triton_version,
                self._meter.devices,
                stop,
                self._late,
            )
            try:
                await self._act(action, loader)
            except PutOff as put_off:
                log("download put off", model=action.name, message=str(put_off))
            except TritonGone as gone:
                await self._after_triton_went(action, triton, gone)
            finally:
                self._busy = ""
            self._settle()

    def _settle(self) -> None:
        """Settled is the set at start once every model of it is decided, and what is to be measured before
        the first Ready is measured, or has had its time."""
        if self._settled or self._entry is None:
            return
        wanted = self.config.wanted() if self.config else {}
        if not decisions.settled([name for name in self._entry if name in wanted], self.models):
            return
        if self._profile_until is None:
            self._profile_until = self.loop.time() + self.settings.timing.profile
            self.loop.call_at(self._profile_until, self._end_profiles)
        self._settled = self._profiles_ended or not self._to_profile()

    def _end_profiles(self) -> None:
        """Nothing delays readiness longer."""
        self._profiles_ended = True
        self._settle()

    def _is_urgent(self, action: Bring | Heal | GiveUp | Restart | Remove, client: TritonClient) -> bool:
        """Asked from the thread of a download, so it only reads."""
        return self._client is not client or decisions.put_off(action, self._aim()[0], dict(self.models))

    async def _rest(self, until: float | None) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _act(self, action: Bring | Heal | GiveUp | Restart | Remove, loader: Loader) -> None:
        if isinstance(action, Remove):
            await self._forget(action.name, loader)
        elif isinstance(action, GiveUp):
            model = self._refuse(action.spec, Refused("BackendDied", action.message), None)
            await self._publish({**self.models, action.name: model})
            # Said before the unload: that of a dead backend takes seconds, and some never end.
            self.models[action.name] = model
            self._proofs.pop(action.name, None)
            self._remember()
            await loader.remove(action.name)
        elif isinstance(action, Restart):
            await self._restart(action, loader)
        elif isinstance(action, Heal):
            log("reloading a backend", model=action.name, why=action.why)
            self.metrics.reloads.labels(action.name).inc()
            await self._try(loader, action.spec, action.spec, loader.heal(action.spec))
        else:
            log(
                "bringing a model",
                model=action.name,
                digest=action.spec.digest,
                update=action.beside is not None,
            )
            await self._try(loader, action.spec, action.beside, loader.bring(action.spec, action.beside))

    async def _restart(self, action: Restart, loader: Loader) -> None:
        """Whoever asks waits in Envoy until what was proven is back."""
        fault = f"Triton had not ended the change to {action.late.instances} instances. {action.why}"
        refused = Refused("LoadFailed", f"{fault} It was started anew with what was proven.")
        live = self._known(action.name).live
        self.models[action.name] = self._refuse(action.late, refused, live, harmful=True)
        if self._triton is not None and self._client is loader.client:
            self._triton.signal(signal.SIGKILL, group=True)
            await self._triton.exited
        raise TritonGone("Triton was ended, for it was held by a change of instances.")

    def _end_late(self, name: str, spec: Spec, loading: asyncio.Task[None]) -> None:
        if not loading.cancelled():
            loading.exception()  # the next try reads it
        model = self._known(name)
        if model.late == spec:
            self.models[name] = replace(model, late_over=True)
            self._wake.set()

    async def _try(
        self, loader: Loader, spec: Spec, before: Spec | None, work: Coroutine[Any, Any, Proof]
    ) -> None:
        name = spec.name
        try:
            proof = await work
        except StillLoading:
            model = decisions.is_late(self._known(name), spec, self.loop.time() + LATE_SECONDS)
            self.models[name] = model
            self._late[name].loading.add_done_callback(partial(self._end_late, name, spec))
            log("a change of instances goes on", model=name, instances=spec.instances)
            return
        except RefusedAndLost as refused:
            model = self._refuse(spec, refused, None)
            self._proofs.pop(name, None)
        except Refused as refused:
            harmful = before is not None and before != spec and only_instances(spec, before)
            model = self._refuse(spec, self._explain(refused), before, harmful=harmful)
        except OSError as error:
            fault = f"Its files cannot be handled here: {error.strerror or error} ({error.filename})."
            model = self._refuse(spec, Refused("LoadFailed", fault), before)
        else:
            if before is not None and before.digest == spec.digest:
                proof = with_growth_of(proof, self._proofs.get(name))
            model = decisions.proven(
                self._known(name), spec, len(proof.examples), proof.load_seconds, proof.memory_bytes
            )
            self._proofs[name] = proof
            over = self.loop.time() + self.settings.timing.drain_requests
            self._leaving.update(dict.fromkeys(proof.leaving, over))
            self.metrics.loads.labels(name).inc()
            self.metrics.begin(name)
            log(
                "model proven",
                model=name,
                digest=spec.digest,
                examples=len(proof.examples),
                loadSeconds=round(proof.load_seconds, 3),
                memoryBytes=proof.memory_bytes,
            )
        await self._publish({**self.models, name: model})
        if self._client is not loader.client:
            raise TritonGone("Triton ended meanwhile; the model will be brought back.")
        self.models[name] = model
        self._remember()
        await self._note_traffic()
        self._measure_soon.set()

    def _known(self, name: str) -> Model:
        return self.models.get(name, Model(name))

    def _refuse(self, spec: Spec, refused: Refused, live: Spec | None, *, harmful: bool = False) -> Model:
        now, timing = self.loop.time(), self.settings.timing
        model = decisions.refused(
            self._known(spec.name), spec, refused.reason, refused.message, live, now, timing, harmful=harmful
        )
        self.metrics.refusals.labels(spec.name, refused.reason).inc()
        log(
            "model refused",
            level="error",
            model=spec.name,
            digest=spec.digest,
            reason=refused.reason,
            message=refused.message,
            serving=live.digest if live else "",
            retryInSeconds=round(model.refusal.retry_at - now, 1) if model.refusal else 0,
        )
        return model

    def _explain(self, refused: Refused) -> Refused:
        """Triton says `failed to poll` and gives the reason in its log only."""
        if refused.reason != "LoadFailed" or "failed to poll" not in refused.message:
            return refused
        hints = [line for line in self._last_lines(50) if "Poll failed" in line]
        return Refused("LoadFailed", f"{refused.message} {hints[-1]}") if hints else refused

    async def _forget(self, name: str, loader: Loader) -> None:
        remaining = {other: model for other, model in self.models.items() if other != name}
        await self._publish(remaining)
        if self._known(name).live is not None:
            await loader.remove(name)
        self.models.pop(name, None)
        self._proofs.pop(name, None)
        self._late.pop(name, None)
        self._remember()
        log("model removed", model=name)

    async def _after_triton_went(
        self, action: Bring | Heal | GiveUp | Restart | Remove, triton: Child, gone: TritonGone
    ) -> None:
        """No model is to blame, unless Triton ended while it loaded one: then that one waits, or it would end
        it again.
        """
        await asyncio.wait([triton.exited], timeout=self.settings.timing.hang)
        if isinstance(action, Bring) and not triton.running:
            said = [line.strip() for line in triton.lines if "what():" in line]
            last = f" Its last words: {said[-1].removeprefix('what():').strip()}" if said else ""
            refused = Refused("LoadFailed", f"{gone}{last}")
            neighbours = self.config is not None and len(self.config.models) > 1
            self.models[action.name] = self._refuse(action.spec, refused, None, harmful=neighbours)
        log("triton went away during an action", level="warning", model=action.name, error=str(gone))
        if triton.running:
            await asyncio.sleep(1.0)


def say_fault(loop: asyncio.Task[None]) -> None:
    """Of one that ended by an error, which is a fault of ours: nobody else would say why a new container
    starts, or what is missing while this one ends."""
    if not loop.cancelled() and (error := loop.exception()) is not None:
        log("a loop of the agent ended", level="error", loop=loop.get_name(), error=repr(error))


def check_writable(folder: Path, why: str) -> None:
    """Raises `SettingsInvalid`: said once at the start, not by each part in its own words."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        message = f"{str(folder)!r} cannot be written ({error.strerror}). {why}; mount an emptyDir."
        raise SettingsInvalid(message) from error


async def serve(settings: Settings) -> int:
    agent = Agent(settings)
    pages = Pages(agent)
    await pages.start()
    try:
        return await agent.run()
    finally:
        await pages.stop()
