"""The first request of a model that sleeps: how long it is held, and by what.

    python -m benchmarks.sleeping --rounds 3 --json build/sleeping.json     # root; a quarter of an hour
    python -m benchmarks.sleeping --parts scrape                            # without a Prometheus

Real kube-proxy, kubelet, Triton, Envoy, activator and operator; the model is the sample of three words. In
each round every model falls asleep; then one after the other is asked through its Service, once, and after
the answer ten times a second, each on a connection of its own, until the Service leads to the pod alone. What
happened in between is read from the API server's audit log. `restarted`: the operator was restarted while the
model slept. `deleted`: its pod is deleted the moment before the request. `down`: the Prometheus that proved
that nobody asks was killed; `absent`: the operator began after that, and never had an answer of it. Exit code
1 when a request failed, or a model did not sleep when it was asked.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks.autoscaling_live import METRICS_PORT, PROMETHEUS_SECONDS, a_node, host_of
from benchmarks.measures import model_of, table, write_rows
from localcluster.cluster import Cluster
from nlp_operator.api import names
from nlp_operator.planning.pods import is_ready
from tests.faults.audit import Entry
from tests.faults.prober import Ask, GrpcAsk, HttpAsk, Prober, text
from tests.faults.prometheus_front import front
from tests.node.models.install import OPERATOR, install, letting_sleep, make_place, measuring_by
from tests.node.models.place import MODEL, READY_SECONDS, Place, until
from tests.node.models.test_sleeping import PATIENCE, QUESTION, check, slices
from tests.prometheus_server import PrometheusServer, Target, following, prometheus

IDLE_SECONDS = 10
"""For which nobody must have asked; 600 by default. It is no part of what is measured."""
ASLEEP_SECONDS = 300.0
PER_SECOND = 10.0
ACTIVATOR = "nlp-operator-activator"
"""Its ConfigMap, in which it tells which sleeps are over."""


@dataclass(frozen=True)
class Moments:
    """By the API server's clock, which is that of this machine."""

    noticed: datetime
    """The activator told that the model is asked for."""
    written: datetime
    """The operator wrote that it is to have a replica."""
    scheduled: datetime
    """Its pod was given a node."""
    ready: datetime
    """The kubelet told that Triton serves it: the pod is ready."""


@dataclass(frozen=True)
class Row:
    case: str
    round: int
    held_seconds: float
    """From the first request's connection until it was answered."""
    took_seconds: Mapping[str, float]
    """What that was made of, by `STEPS`: each from the end of the one before."""
    slept: bool
    """It had no pod when the request came."""
    requests: int
    """The first, and those that followed until its Service led to its pod alone."""
    failed: int
    failures: tuple[str, ...] = ()


STEPS = ("noticed", "written", "scheduled", "ready", "answered")
"""See `Moments`."""


def moments_in(entries: Iterable[Entry], namespace: str, model: str) -> Moments | None:
    """The first of each since a request; `None` while one is missing."""
    noticed = written = scheduled = ready = None
    pods: set[str] = set()
    for one in sorted((one for one in entries if one.counted), key=lambda entry: entry.received):
        response = one.response or {}
        if one.kind == "configmaps" and one.name == ACTIVATOR:
            told = f"{namespace}.{model}" in ((one.request or {}).get("data") or {})
            noticed = noticed or (one.received if told else None)
        elif one.namespace != namespace:
            continue
        elif one.kind == "deployments.apps" and model_of(one) == model:
            wanted = (response.get("spec") or {}).get("replicas")
            written = written or (one.received if wanted else None)
        elif one.kind == "pods" and one.verb == "create" and model_of(one) == model:
            pods.add(one.name)
        elif one.kind == "pods/binding" and one.name in pods:
            scheduled = scheduled or one.received
        elif one.kind == "pods/status" and one.name in pods and is_ready(response):
            ready = ready or one.received
    if noticed is None or written is None or scheduled is None or ready is None:
        return None
    return Moments(noticed, written, scheduled, ready)


def row_of(
    case: str,
    number: int,
    begun: datetime,
    held_seconds: float,
    found: Moments,
    slept: bool,
    errors: Sequence[str],
) -> Row:
    """`errors`: of each request, empty where it was answered."""
    ended = begun + timedelta(seconds=held_seconds)
    order = (begun, found.noticed, found.written, found.scheduled, found.ready, ended)
    took = {step: (b - a).total_seconds() for step, (a, b) in zip(STEPS, pairwise(order), strict=True)}
    failures = tuple(one for one in errors if one)
    return Row(case, number, held_seconds, took, slept, len(errors), len(failures), failures[:10])


HEADS = (
    "case", "rounds", "held, median", "least", "most", *STEPS, "requests",
    "failed",
)  # fmt: skip


def said(rows: Sequence[Row]) -> list[list[str]]:
    """Of each case, medians."""
    cases: dict[str, list[Row]] = {}
    for row in rows:
        cases.setdefault(row.case, []).append(row)
    lines = []
    for case, found in cases.items():
        held = [row.held_seconds for row in found]
        steps = [median(row.took_seconds[step] for row in found) for step in STEPS]
        lines.append(
            [
                case,
                str(len(found)),
                *(f"{one:.1f} s" for one in (median(held), min(held), max(held))),
                *(f"{one:.2f} s" for one in steps),
                f"{sum(row.requests for row in found):,}",
                str(sum(row.failed for row in found)),
            ]
        )
    return lines


def broken_in(rows: Sequence[Row]) -> list[str]:
    """What must hold and did not, a sentence each."""
    broken = [
        f"{row.case}, round {row.round}: {row.failed} of {row.requests} requests failed; it must be none. "
        f"The first: {row.failures[0]}"
        for row in rows
        if row.failed
    ]
    return broken + [
        f"{row.case}, round {row.round}: the model had a pod before it was asked; it must sleep until then."
        for row in rows
        if not row.slept
    ]


# --- on the cluster ---


@dataclass(frozen=True)
class Case:
    name: str
    model: str
    protocol: str = "http"
    before: Callable[[], object] = lambda: None
    """While it sleeps, right before the request."""


class Stage:
    def __init__(self, place: Place) -> None:
        self.place = place
        self.models: list[str] = []

    # -- what is done to it --

    def restart_operator(self) -> None:
        self.place.cluster.kubectl("rollout", "restart", *OPERATOR)
        self.place.cluster.kubectl("rollout", "status", *OPERATOR, "--timeout=180s")

    def delete_operator_pod(self) -> None:
        named = ("-l", "app.kubernetes.io/name=nlp-operator")
        self.place.cluster.kubectl("-n", "nlp-system", "delete", "pod", *named, "--wait=false")

    def apply(self, cases: Sequence[Case]) -> None:
        self.models = [case.model for case in cases]
        for manifest in self.place.sample(MODEL):
            if manifest["kind"] != "NLPModel":
                self.place.apply(manifest)
                continue
            for model in self.models:
                manifest["metadata"]["name"] = model
                manifest["spec"]["scaling"] = {"minReplicas": 0}
                self.place.apply(manifest)

    def targets(self) -> list[Target]:
        """What a Prometheus is to scrape."""
        return [
            Target(f"{address}:{METRICS_PORT}", pod["metadata"]["name"], self.place.namespace)
            for model in self.models
            for pod in self.place.pods(name=model)
            if "deletionTimestamp" not in pod["metadata"]
            and (address := (pod.get("status") or {}).get("podIP"))
        ]

    # -- what is measured --

    def wait_asleep(self) -> None:
        for model in self.models:
            self.place.wait_for("Ready", "True", "Asleep", model, ASLEEP_SECONDS)
            until(lambda model=model: not self.place.pods(name=model), f"{model} has no pod", PATIENCE)  # type: ignore[misc]

    def connection(self, case: Case) -> Callable[[], Ask]:
        inputs, name = {"text": text(QUESTION)}, case.model
        port = 8000 if case.protocol == "http" else 8001
        address = self.place.address(port, name)
        if case.protocol == "http":
            return lambda: HttpAsk(address, name, inputs, timeout_seconds=PATIENCE)
        return lambda: GrpcAsk(address, name, inputs, timeout_seconds=PATIENCE, authority=name)

    def ask(self, case: Case, number: int) -> Row:
        """The first request of a model that sleeps, and those that follow until it is led to alone."""
        place, connect = self.place, self.connection(case)
        connect().close()  # loads the library, and asks nothing
        case.before()
        slept, mark = not place.pods(name=case.model), place.audit.mark()
        offset = time.time() - time.monotonic()
        with Prober(connect, check=check, per_second=PER_SECOND, fresh_connections=True) as prober:
            until(lambda: prober.attempts, f"{case.name}: the first request ended", PATIENCE)
            place.wait_for("Ready", "True", "Serving", case.model)
            led = f"{case.name}: its pod alone is led to"
            until(lambda: not slices(place, case.model)[names.MANAGED_BY], led, PATIENCE)
            done = len(prober.attempts)
            until(lambda: len(prober.attempts) >= done + PER_SECOND, "answers after that", PATIENCE)
        first = prober.attempts[0]
        entries = place.audit.wait_for(
            lambda found: moments_in(found, place.namespace, case.model) is not None,
            since=mark,
            what=f"how {case.model} was woken",
        )
        found = moments_in(entries, place.namespace, case.model)
        assert found is not None
        begun = datetime.fromtimestamp(first.started + offset, UTC)
        errors = [one.error for one in prober.attempts]
        return row_of(case.name, number, begun, first.seconds, found, slept, errors)

    def play(
        self, cases: Sequence[Case], rounds: int, anew: Callable[[], object] = lambda: None
    ) -> list[Row]:
        """`anew`: at the beginning of each round."""
        self.apply(cases)
        for case in cases:
            self.place.wait_for("Built", "True", name=case.model, seconds=READY_SECONDS)
        rows = []
        for number in range(1, rounds + 1):
            anew()
            self.wait_asleep()
            for case in cases:
                row = self.ask(case, number)
                print(f"    round {number}, {case.name}: held for {row.held_seconds:.1f} s", flush=True)
                rows.append(row)
        for case in cases:
            self.place.kubectl("delete", f"nlp/{case.model}")
        return rows


@contextmanager
def measured_by(stage: Stage, signals: str) -> Iterator[PrometheusServer | None]:
    """The operator, as it finds out that nobody asks; the Prometheus, where there is one."""
    cluster, idle = stage.place.cluster, {"NLP_OPERATOR_IDLE_SECONDS": f"{IDLE_SECONDS}"}
    with ExitStack() as entered:
        server = None
        if signals == "Prometheus":
            server = entered.enter_context(prometheus(every=PROMETHEUS_SECONDS))
            asked = entered.enter_context(front(server.url, host_of(cluster)))
            entered.enter_context(following(server, stage.targets))
            idle["NLP_OPERATOR_PROMETHEUS_URL"] = asked.url
        entered.enter_context(measuring_by(cluster, signals, **idle))
        yield server


def scrape(stage: Stage, rounds: int) -> list[Row]:
    with measured_by(stage, "Scrape"):
        cases = (
            Case("HTTP", "over-http"),
            Case("gRPC", "over-grpc", "grpc"),
            Case("operator restarted", "restarted", before=stage.restart_operator),
            Case("operator's pod deleted", "deleted", before=stage.delete_operator_pod),
        )
        return stage.play(cases, rounds)


def by_prometheus(stage: Stage, rounds: int) -> list[Row]:
    with measured_by(stage, "Prometheus") as server:
        assert server is not None

        def started() -> None:
            if server.process is None:
                server.start()

        cases = (
            Case("Prometheus up", "up"),
            Case("Prometheus killed", "down", before=server.end),
            Case("Prometheus killed, operator restarted", "absent", before=stage.restart_operator),
        )
        return stage.play(cases, rounds, started)


PARTS: Mapping[str, Callable[[Stage, int], list[Row]]] = {"scrape": scrape, "prometheus": by_prometheus}


def measure(cluster: Cluster, rounds: int, parts: Sequence[str]) -> list[Row]:
    install(cluster)
    rows: list[Row] = []
    with letting_sleep(cluster):
        for part in parts:
            stage = Stage(make_place(cluster))
            rows += PARTS[part](stage, rounds)
            cluster.api.delete(f"/api/v1/namespaces/{stage.place.namespace}")
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sleeping", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--rounds", type=int, default=3, help="(default 3)")
    parser.add_argument("--parts", default=",".join(PARTS), help="one of them, or both with a comma")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; it must be 1 or more")
    parts = options.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))}: it must be some of {', '.join(PARTS)}")
    with a_node() as cluster:
        rows = measure(cluster, options.rounds, parts)
    print(table([HEADS, *said(rows)]))
    write_rows(options.json, rows)
    broken = broken_in(rows)
    for sentence in broken:
        print(sentence, file=sys.stderr)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
