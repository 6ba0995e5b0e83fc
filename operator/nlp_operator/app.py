"""The composition root: settings in, tasks out.

    kopf (host, signals, wakes) ─┐
    informers (caches) ──────────┼─> queue ─> workers ─> reconcile ─> writer ─> API server
    agents (reports), builds ────┘              │ gated by: lease held, caches complete, agents asked once
    leader (Lease) · recorder (Events) · pulse · probes and metrics

A standby runs all of it but the workers and the questions to pods, so that taking over needs no list.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import fields
from functools import partial
from typing import Any

import uvloop

from nlp_operator import errors, health
from nlp_operator.agents.builds import Builds
from nlp_operator.agents.poller import Agents
from nlp_operator.api.objects import Obj, generation
from nlp_operator.cluster import kinds
from nlp_operator.cluster.caches import Caches
from nlp_operator.cluster.client import Cluster, make_configuration
from nlp_operator.cluster.events import EventPoster
from nlp_operator.cluster.lease import ClusterLease
from nlp_operator.cluster.writer import Writer
from nlp_operator.controllers import wakeups
from nlp_operator.controllers.autoscaler import Autoscaler, Pasts, Report
from nlp_operator.controllers.keys import SERVER, Key, model_key, server_key
from nlp_operator.controllers.models import reconcile_model
from nlp_operator.controllers.ownership import is_build_of_ours, is_pod_of_ours
from nlp_operator.controllers.pools import reconcile_pool
from nlp_operator.controllers.servers import reconcile_server
from nlp_operator.controllers.sleeping import Sleeping
from nlp_operator.controllers.world import World
from nlp_operator.engine.bucket import TokenBucket
from nlp_operator.engine.clock import Clock, system_clock
from nlp_operator.engine.connections import allow_many_connections
from nlp_operator.engine.heap import keep_collections_short
from nlp_operator.engine.leader import Leader
from nlp_operator.engine.pulse import Pulse
from nlp_operator.engine.queue import KeyedQueue, Priority
from nlp_operator.engine.recorder import Recorder
from nlp_operator.engine.store import ObjectKey, older, version_of
from nlp_operator.engine.workers import Done, Failed, Fatal, Retry, Workers
from nlp_operator.handlers import run_kopf
from nlp_operator.logs import set_up_logging
from nlp_operator.metrics import Metrics
from nlp_operator.planning import figures
from nlp_operator.planning.plan import PlanSettings
from nlp_operator.settings import Settings
from nlp_operator.signals.measured import Model
from nlp_operator.signals.source import Source, make_asking, make_scraping

log = logging.getLogger(__name__)


FIRST_ROUND_SECONDS = 30.0
"""How long planning waits for every agent to have been asked once. Whom nobody got to by then counts as not
asked: no reason to keep all models waiting."""


class Stopped(Exception):
    """A signal asked this process to end."""


def plan_settings_of(settings: Settings) -> PlanSettings:
    """Those of the settings that plans follow from: each goes by the same name."""
    return PlanSettings(**{one.name: getattr(settings, one.name) for one in fields(PlanSettings)})


def judge(error: Exception) -> Retry:
    """What each class of error asks of the queue. Waiting errors are retried too (a quota may be raised), but
    seldom, and ever more so; an edit of the user is looked at at once."""
    if isinstance(error, errors.Throttled):
        return Retry(at_least=error.seconds or 0.0, quiet=True)
    if isinstance(error, errors.Waits):
        # Events do not shorten a wait after a failure, and the part that is not refused lives by them.
        return Retry(at_least=20.0, at_most=120.0, quiet=True)
    return Retry(quiet=isinstance(error, errors.OperatorError | TimeoutError))


class KopfBeside:
    """Two watches see the same objects, Kopf's and ours. What the other saw and ours still has not is a watch
    gone deaf."""

    def __init__(self, caches: Caches, clock: Clock) -> None:
        self._caches = caches
        self._clock = clock
        self._ahead: dict[Key, tuple[str, float]] = {}

    def seen_by_kopf(self, key: Key, version: str) -> bool:
        """Note what Kopf saw; True when our own watch has not come as far yet."""
        if self._caught_up(key, version):
            self._ahead.pop(key, None)
            return False
        since = self._ahead[key][1] if key in self._ahead else self._clock.monotonic()
        self._ahead[key] = (version, since)
        return True

    def _caught_up(self, key: Key, version: str) -> bool:
        ours = self._caches.stores[key.kind].get(ObjectKey(key.namespace, key.name))
        if ours is not None and not older(version_of(ours), than=version):
            return True
        return self._caches.reached(key.kind, key.namespace, version)

    def behind(self) -> list[tuple[str, float]]:
        """What our watch owes us, and for how many seconds."""
        now = self._clock.monotonic()
        self._ahead = {
            key: (version, since)
            for key, (version, since) in self._ahead.items()
            if not self._caught_up(key, version)
        }
        return [(str(key), now - since) for key, (_, since) in self._ahead.items()]


class App:
    """Everything one process is made of, wired but not yet running."""

    def __init__(self, settings: Settings, cluster: Cluster, metrics: Metrics, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.metrics = metrics
        self.queue: KeyedQueue[Key] = KeyedQueue(clock)
        self.caches = Caches(
            cluster,
            clock=clock,
            namespaces=settings.namespaces,
            store_claim=settings.store_claim_name,
            activator=ObjectKey(settings.lease_namespace, settings.activator) if settings.activator else None,
            on_sign=metrics.on_sign,
        )
        self.leader = Leader(
            ClusterLease(cluster, settings.lease_namespace, settings.lease_name),
            settings.identity,
            clock=clock,
        )
        self.recorder = Recorder(EventPoster(cluster, settings.identity), clock=clock)
        self.agents = Agents(
            clock=clock,
            port=settings.agent_port,
            every=settings.agent_poll_seconds,
            on_change=lambda namespace, model: self.queue.add(model_key(namespace, model), Priority.SIGNAL),
            on_shared_change=lambda namespace, server: wakeups.wake_server(
                self.world, server_key(namespace, server)
            ),
            on_poll=metrics.on_poll,
            is_ours=lambda pod: is_pod_of_ours(pod, self.caches.stores),
        )
        self.builds = Builds(
            clock=clock,
            port=settings.agent_port,
            every=settings.agent_poll_seconds,
            on_change=lambda namespace, model: self.queue.add(model_key(namespace, model), Priority.SIGNAL),
            is_ours=lambda pod: is_build_of_ours(pod, self.caches.stores),
        )
        bucket = TokenBucket(
            clock, per_second=settings.writes_per_second, burst=4 * settings.writes_per_second
        )
        self.world = World(
            clock=clock,
            plan_settings=plan_settings_of(settings),
            stores=self.caches.stores,
            cluster=cluster,
            writer=Writer(cluster, self.caches.stores, bucket=bucket, fence=self.leader.check),
            agents=self.agents,
            builds=self.builds,
            recorder=self.recorder,
            queue=self.queue,
            look_seconds=settings.look_seconds,
        )
        wakeups.connect(self.world)
        if settings.activator:
            self.world.sleeping = Sleeping(self.caches.stores, self.queue, clock, settings.idle_seconds)
        self.source = self._measures()
        self.autoscaler = self._autoscaler()
        if self.source is not None:
            self.source.measured.on_newest = lambda model, found: self.autoscaler.note(
                model_key(model.namespace, model.name), found
            )
        self.pulse = Pulse(clock)
        self.beside = KopfBeside(self.caches, clock)
        self.working = False
        self._at_gate_since: float | None = None
        self._gauges()

    def _measures(self) -> Source | None:
        """What measures the models' load; `None` where nothing does."""
        if self.settings.signals == "None":
            return None
        stores, settings = self.caches.stores, self.settings

        def is_ours(pod: Obj) -> bool:
            return is_pod_of_ours(pod, stores)

        if settings.signals == "Prometheus":
            return make_asking(
                stores,
                settings.prometheus_url,
                clock=self.clock,
                is_ours=is_ours,
                on_look=self.metrics.on_prometheus,
            )
        source = make_scraping(
            stores,
            settings.server_metrics_port,
            clock=self.clock,
            is_ours=is_ours,
            on_scrape=self.metrics.on_scrape,
        )
        stores[kinds.POD.name].listen(source.see_pod)
        return source

    def _autoscaler(self) -> Autoscaler:
        metrics, source = self.metrics, self.source
        if source is None:
            return Autoscaler(self.world, on_look=metrics.look_seconds.observe)
        return Autoscaler(
            self.world,
            lambda key: source.sample(Model(key.namespace, key.name)),
            Report(
                lambda key: source.measured.believed(Model(key.namespace, key.name)),
                source.how,
                lambda: source.measured.trouble,
            ),
            Pasts(
                lambda keys: source.want_past(Model(key.namespace, key.name) for key in keys),
                lambda key: source.take_past(Model(key.namespace, key.name)),
            ),
            holds=self.settings.scaling == "Hold",
            on_look=metrics.look_seconds.observe,
            on_early_look=metrics.early_looks.inc,
            on_scaled=lambda direction: metrics.scalings.labels(direction).inc(),
            on_stepped=lambda direction: metrics.steps.labels(direction).inc(),
        )

    def _figures(self) -> Callable[[], list[figures.Gauge]]:
        """A standby has none: a model's numbers are told once."""
        if not self.working:
            return list
        stores = self.caches.stores
        models, pools = tuple(stores[kinds.MODEL.name]), tuple(stores[kinds.POOL.name])
        return partial(figures.gauges, models, pools, self.autoscaler.loads)

    def _gauges(self) -> None:
        metrics, queue = self.metrics, self.queue
        metrics.fleet = self._figures
        self.world.placing.on_plan = metrics.plan_seconds.observe
        self.world.placing.repack_seconds = self.settings.repack_seconds
        self.queue.on_wait = metrics.queue_wait_seconds.observe
        metrics.gauge("queue_depth", "Keys that are ready and wait for a worker.", queue.depth)
        metrics.gauge("queue_failing", "Keys whose last reconcile failed.", queue.failing)
        metrics.gauge(
            "models_unsettled",
            "NLPModels whose last pass left something to do or to tell.",
            lambda: float(self.world.unsettled()),
        )
        metrics.gauge(
            "queue_oldest_seconds", "How long the oldest ready key has waited.", queue.oldest_ready_age
        )
        metrics.gauge("leader", "1 when this process is the active one.", lambda: float(self.leader.valid()))
        metrics.gauge(
            "loop_lag_seconds", "Greatest lateness of the event loop lately.", lambda: self.pulse.worst
        )
        metrics.gauge(
            "events_dropped", "Events not posted because there were too many.", lambda: self.recorder.dropped
        )
        metrics.gauge(
            "watch_age_seconds",
            "Time since the quietest informer gave a sign.",
            lambda: max(informer.age() for informer in self.caches.informers),
        )
        for kind, store in self.caches.stores.items():
            metrics.gauge(f"cached_{kind.lower()}s", f"Objects of kind {kind} in the cache.", store.__len__)

    def facts(self) -> health.Facts:
        return health.Facts(
            watch_ages=[(informer.name, informer.age()) for informer in self.caches.informers],
            unsynced=self.caches.unsynced(),
            working=self.working,
            oldest_ready=self.queue.oldest_ready_age(),
            longest_active=self.queue.longest_active_age(),
            renewal_age=self.leader.renewal_age(),
            silence=min(informer.silence() for informer in self.caches.informers),
            behind_kopf=self.beside.behind(),
            at_gate=0.0
            if self.working or self._at_gate_since is None
            else self.clock.monotonic() - self._at_gate_since,
        )

    def wake(self, kind: str, namespace: str, name: str, version: str, seen_generation: int) -> None:
        """Kopf saw something. When our own watch has shown it already, it has woken the key itself; what is
        no new spec (a label, our own status) can wait until it has."""
        key = Key(kind, namespace, name)
        ours = self.caches.stores[kind].get(ObjectKey(namespace, name)) or {}
        if self.beside.seen_by_kopf(key, version) and generation(ours) != seen_generation:
            self.queue.add(key, Priority.CHILD)

    async def reconcile(self, key: Key) -> Done:
        reconcile = {kinds.MODEL.name: reconcile_model, SERVER: reconcile_server}
        return await reconcile.get(key.kind, reconcile_pool)(key, self.world)

    def ended(self, key: Key, how: Done | Failed, seconds: float) -> None:
        failed = isinstance(how, Failed)
        self.metrics.reconcile_seconds.labels(key.kind, "failed" if failed else "done").observe(seconds)
        if isinstance(how, Failed):
            self.metrics.errors.labels(key.kind, type(how.error).__name__).inc()

    async def work(self, group: asyncio.TaskGroup) -> None:
        """The gate, then the workers."""
        await self.caches.synced()
        log.info(
            "The caches are complete.",
            extra={name: len(store) for name, store in self.caches.stores.items() if len(store)},
        )
        await self.leader.held.wait()
        self._at_gate_since = self.clock.monotonic()
        for pod in self.caches.stores[kinds.POD.name]:
            # It may have been listed before the Deployment or the Job that it belongs to.
            self.agents.see(None, pod)
            self.builds.see(None, pod)
        asked = asyncio.Event()
        group.create_task(self.agents.run(asked), name="agents")
        try:
            async with asyncio.timeout(FIRST_ROUND_SECONDS):
                await asked.wait()
        except TimeoutError:
            log.warning("Not every agent was asked within %g s; starting without.", FIRST_ROUND_SECONDS)
        self.world.seed_ledger()
        self.world.seed_placing()
        await self.world.placing.look()
        group.create_task(self.world.placing.run(), name="placing")
        group.create_task(keep_collections_short(), name="heap")
        if self.source is not None:
            group.create_task(self.source.run(), name="signals")
        group.create_task(self.autoscaler.run(), name="autoscaler")
        group.create_task(self.builds.run(), name="builds")
        self.working = True
        workers = Workers(
            self.queue,
            self.reconcile,
            clock=self.clock,
            count=self.settings.workers,
            judge=judge,
            on_end=self.ended,
        )
        await workers.run()

    async def run(self) -> None:
        """Until a signal (`Stopped`) or something that this process cannot go on with (`Fatal`, or what Kopf
        raises)."""
        stopping = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_stop_at(stopping), name="stop")
                for name, task in self._tasks(group).items():
                    group.create_task(task(), name=name)
                await run_kopf(
                    self.wake,
                    kubeconfig=self.settings.kubeconfig,
                    namespaces=self.settings.namespaces,
                    stopping=stopping,
                )
                raise Stopped
        finally:
            self.working = False
            await self.leader.release()

    def _tasks(self, group: asyncio.TaskGroup) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        return {
            "informers": self.caches.run,
            "leader": self.leader.run,
            "recorder": self.recorder.run,
            "pulse": self.pulse.run,
            "workers": lambda: self.work(group),
        }


async def _stop_at(stopping: asyncio.Event) -> None:
    await stopping.wait()
    raise Stopped


async def serve(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        metrics, clock = Metrics(), system_clock()
        cluster = Cluster(await make_configuration(settings.kubeconfig), on_call=metrics.on_call)
        stack.push_async_callback(cluster.close)
        app = App(settings, cluster, metrics, clock)
        for what, pages, port in (
            ("health", health.make_health_app(app.facts, health.Limits()), settings.health_port),
            ("metrics", health.make_metrics_app(metrics), settings.metrics_port),
        ):
            runner, taken = await health.listen(pages, settings.listen_address, port)
            stack.push_async_callback(runner.cleanup)
            log.info("Listening for %s.", what, extra={"address": settings.listen_address, "port": taken})
        await app.run()


def run(settings: Settings) -> int:
    """The exit code: 0 after a signal, 1 when this process could not go on."""
    set_up_logging(settings.log_format, settings.log_level)
    allow_many_connections()
    log.info(
        "Starting.",
        extra={"identity": settings.identity, "namespaces": ",".join(settings.namespaces) or "all"},
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except BaseExceptionGroup as group:
        return _exit_code(group)
    except (Stopped, KeyboardInterrupt):
        return 0
    except (errors.OperatorError, OSError) as error:
        log.error("Cannot start: %s", error)
        return 1
    return 0


def _exit_code(group: BaseExceptionGroup[BaseException]) -> int:
    _, rest = group.split(Stopped)
    if rest is None:
        log.info("Stopped.")
        return 0
    fatal, others = rest.split(Fatal)
    for error in fatal.exceptions if fatal is not None else ():
        log.error("This process ends: %s", error)
    if others is not None:
        log.error("This process ends.", exc_info=others)
    return 1
