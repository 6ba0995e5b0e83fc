"""A thousand models that are scaled by their load: how soon a step of one is answered, and what it costs.

    python -m benchmarks.many_loads --models 1000 --json build/many_loads.json     # a quarter of an hour

Real API server, operator and (for the second half) Prometheus; pods, agents and their pages are emulated
(kwok), so replicas need no machine. Every model has a request a second; some of them, one after the other,
get twenty-five. Counted is from the first page that tells of it, as it is scraped, to the write of more
replicas, as a watch sees it.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.control_plane import POOL, make_model, namespace_of, prepare, say, start_cluster
from benchmarks.measures import quantile, table, write_rows
from benchmarks.network import in_own_namespace
from benchmarks.operator_process import OperatorProcess, cpu_seconds, total
from localcluster.control_plane import ControlPlane
from nlp_operator.engine.connections import allow_many_connections
from tests.cluster.running.loaded import LoadedAgents, target_of
from tests.faults.plain_api import DEPLOYMENT, DEVICE_POOL, NLP_MODEL, Obj, PlainApi
from tests.faults.prometheus_front import front
from tests.faults.recorder import Recorder
from tests.prometheus_server import following, prometheus

PORT = 8003
"""Of the emulated agents; their pages are there, too."""
QUIET, BUSY = 1.0, 25.0
STEPS = 20
APART_SECONDS = 1.7
"""Between two steps: no multiple of what anybody does every so often."""
PATIENCE_SECONDS = 120.0
IDLE_SECONDS = 60.0
ASKED = "nlp_operator_prometheus_looks_total"
SCRAPE_SECONDS = 10.0
"""As the PodMonitor has it."""


@dataclass(frozen=True)
class Row:
    source: str
    models: int
    known: int
    """Models whose load was known at the last look before the steps."""
    answered: int
    """Steps that were answered in time."""
    step_p50_seconds: float
    step_p95_seconds: float
    step_max_seconds: float
    look_seconds: float
    """A decision for all models, what is said of them included: the mean."""
    cpu_cores: float
    """Of the operator, while nothing changes."""
    cpu_seconds_per_look: float
    queries_per_look: float
    """Of a look at Prometheus."""
    prometheus_cores: float
    load_average: float


class StepAgents(LoadedAgents):
    """Notes the first page that tells of a step."""

    first_page: dict[str, float]

    def begin(self) -> None:
        self.first_page = {}
        super().begin()

    def _page_of(self, pod: Obj) -> str:
        model = pod["labels"]["nlp-operator.io/model"]
        page = super()._page_of(pod)
        if self.rates.get(model) == BUSY:
            self.first_page.setdefault(model, time.monotonic())
        return page


def make_scaled(number: int) -> Obj:
    model = make_model(number)
    model["spec"]["scaling"] = {
        "minReplicas": 1,
        "maxReplicas": 4,
        "latencyTarget": {"quantile": "0.95", "milliseconds": 500},
    }
    return model


class Stage:
    def __init__(self, cluster: ControlPlane, api: PlainApi, agents: StepAgents, models: int) -> None:
        self.cluster = cluster
        self.api = api
        self.agents = agents
        self.models = models

    @contextmanager
    def operator(self, **settings: str) -> Iterator[OperatorProcess]:
        process = OperatorProcess(
            self.cluster.kubeconfig_for("nlp-system/nlp-operator"),
            self.cluster.folder / "operator.log",
            agent_port=str(PORT),
            server_metrics_port=str(PORT),
            **settings,
        )
        process.start()
        try:
            yield process
        except BaseException:
            print(process.tail(), file=sys.stderr)
            raise
        finally:
            process.end()

    def create(self, operator: OperatorProcess) -> None:
        """All models, and wait until each has a pod that serves."""
        say(f"creating {self.models} models")
        self.agents.rates.update({f"model-{number}": QUIET for number in range(self.models)})
        for number in range(self.models):
            self.api.create(NLP_MODEL, make_scaled(number), namespace_of(number))
        self.until(
            lambda: total(operator.metrics(), "nlp_operator_model_ready") >= self.models,
            120 + 2 * self.models,
            "all models are ready",
        )

    @staticmethod
    def until(holds: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {seconds:g} s")
            time.sleep(1.0)

    def known(self, operator: OperatorProcess) -> int:
        return operator.metrics().count("\nnlp_operator_model_requests_per_second{")

    def measure(
        self,
        operator: OperatorProcess,
        source: str,
        first: int,
        prometheus_pid: int = 0,
        queries: Callable[[], int] = lambda: 0,
    ) -> Row:
        """`first`: the number of the first model that gets a step. `queries`: how many were asked so far."""
        say(f"{source}: until the loads are known")
        self.until(lambda: self.known(operator) >= 0.99 * self.models, 300, "the loads of 99 % of the models")
        time.sleep(30.0)  # two windows, and the recalled past of those that have one
        known = self.known(operator)
        say(f"{source}: idle")
        self.until_asked(operator, prometheus_pid)
        before, asked = operator.metrics(), queries()
        begun, cpu, other = time.monotonic(), operator.cpu_seconds(), cpu_seconds(prometheus_pid)
        time.sleep(IDLE_SECONDS)
        self.until_asked(operator, prometheus_pid)
        cpu, other = operator.cpu_seconds() - cpu, cpu_seconds(prometheus_pid) - other
        idle, asked, after = time.monotonic() - begun, queries() - asked, operator.metrics()
        looks = grown(before, after, "nlp_operator_autoscaler_look_seconds_count")
        took = grown(before, after, "nlp_operator_autoscaler_look_seconds_sum")
        say(f"{source}: steps")
        seconds = self.step(range(first, first + STEPS))
        answered = [one for one in seconds if math.isfinite(one)]
        return Row(
            source,
            self.models,
            known,
            len(answered),
            quantile(answered, 0.5),
            quantile(answered, 0.95),
            max(answered),
            took / looks,
            cpu / idle,
            cpu / looks,
            asked / (grown(before, after, ASKED) or 1.0),
            other / idle,
            round(os.getloadavg()[0], 1),
        )

    def until_asked(self, operator: OperatorProcess, prometheus_pid: int) -> None:
        """Until a look at Prometheus is over: only whole ones are to be counted."""
        if prometheus_pid:
            before = total(operator.metrics(), ASKED)
            self.until(lambda: total(operator.metrics(), ASKED) > before, 60, "a look at Prometheus")

    def step(self, numbers: Sequence[int]) -> list[float]:
        """Seconds from the first page that told to the write; infinite where none came."""
        models = [f"model-{number}" for number in numbers]
        with Recorder(self.cluster.kubeconfig, [DEPLOYMENT]) as recorder:
            for model in models:
                self.agents.rates[model] = BUSY
                time.sleep(APART_SECONDS)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while time.monotonic() < deadline and len(raised(recorder, models)) < len(models):
                time.sleep(1.0)
            written = raised(recorder, models)
        return [
            written.get(model, math.inf) - self.agents.first_page.get(model, math.inf) for model in models
        ]


def raised(recorder: Recorder, models: Sequence[str]) -> Mapping[str, float]:
    """When the Deployment of each was first to have more than one replica."""
    found: dict[str, float] = {}
    for version in recorder.versions("Deployment"):
        model = version.object["metadata"]["labels"].get("nlp-operator.io/model", "")
        if model in models and version.object["spec"].get("replicas", 1) > 1:
            found.setdefault(model, version.seen)
    return found


def grown(before: str, after: str, name: str) -> float:
    return total(after, name) - total(before, name)


def play(models: int) -> list[Row]:
    rows: list[Row] = []
    with start_cluster() as cluster:
        say("preparing")
        with PlainApi(cluster.kubeconfig) as api:
            prepare(cluster, api, models)
            api.patch(DEVICE_POOL, POOL, {"spec": {"maxDevices": models + 10 * STEPS}})
            cluster.add_kwok_nodes(models // 40 + 4)
            agents = StepAgents(cluster.kubeconfig, PORT)
            agents.begin()
            stage = Stage(cluster, api, agents, models)
            try:
                with stage.operator(signals="Scrape") as operator:
                    stage.create(operator)
                    rows.append(stage.measure(operator, "Scrape", 0))
                    say(f"{rows[-1]}")
                with (
                    prometheus(every=SCRAPE_SECONDS) as server,
                    front(server.url) as asked,
                    following(server, lambda: list(map(partial(target_of, port=PORT), agents.pods()))),
                    stage.operator(signals="Prometheus", prometheus_url=asked.url) as operator,
                ):
                    assert server.process is not None
                    pid = server.process.pid
                    rows.append(stage.measure(operator, "Prometheus", STEPS, pid, lambda: asked.queries))
                    say(f"{rows[-1]}")
            finally:
                agents.stop()
    return rows


HEADS = (
    "source", "models", "known", "steps answered", "step to write p50, p95, max", "look", "CPU", "CPU a look",
    "queries a look", "CPU of Prometheus", "load",
)  # fmt: skip


def said(row: Row) -> list[str]:
    steps = (row.step_p50_seconds, row.step_p95_seconds, row.step_max_seconds)
    return [
        row.source,
        f"{row.models:,}",
        f"{row.known:,}",
        f"{row.answered} of {STEPS}",
        f"{', '.join(f'{one:.1f}' for one in steps)} s",
        f"{1000 * row.look_seconds:.0f} ms",
        f"{row.cpu_cores:.2f} cores",
        f"{row.cpu_seconds_per_look:.2f} s",
        f"{row.queries_per_look:.1f}",
        f"{row.prometheus_cores:.2f} cores",
        f"{row.load_average:g}",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_loads", description=__doc__)
    parser.add_argument("--models", type=int, default=1000, help="how many NLPModels (default 1000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    options = parser.parse_args(words)
    if options.models < 2 * STEPS:
        parser.error(f"--models is {options.models}; {2 * STEPS} of them get a step, so it must be more.")
    if not in_own_namespace("benchmarks.many_loads", words):
        return 2
    allow_many_connections()
    rows = play(options.models)
    print(table([HEADS, *map(said, rows)]))
    write_rows(options.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
