"""How the control plane behaves with many NLPModels: on a real API server, with the shipped operator
unchanged.

    python -m benchmarks.control_plane --models 1000 --json build/control_plane.json
    python -m benchmarks.control_plane --growth 100,300,1000 --json build/growth.json --plot build/growth.svg

Real: etcd, API server, controller manager, scheduler, the operator as a process under its own
ServiceAccount. Not real: nodes and pods (kwok), and what runs in the pods. Job pods end with the
termination messages of `benchmarks/kubelet_stages.yaml`; agents are answered for by `tests/faults/agents.py`.
Both are outside the operator.

All of it shares one machine, so the CPU time of every process is written down beside the operator's own, and
the API server's latencies beside the operator's.

What is measured, by whom, and what counts as a write: `docs/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks import growth
from benchmarks.measures import (
    answer_milliseconds,
    bucket_quantile,
    buckets_of,
    edits_of,
    model_of,
    quantile,
    reactions,
    table,
    write_json,
)
from benchmarks.network import POD_CIDR, in_own_namespace
from benchmarks.operator_process import ROOT, OperatorProcess, cpu_seconds, total
from localcluster.control_plane import ControlPlane
from localcluster.progress import Progress
from tests.faults.audit import AuditLog, Entry, Mark, count_by_kind, service_account
from tests.faults.plain_api import (
    CONFIG_MAP,
    DEVICE_POOL,
    NAMESPACE,
    NLP_MODEL,
    VOLUME,
    Obj,
    PlainApi,
)
from tests.faults.recorder import Recorder, Version

OPERATOR = service_account("nlp-system", "nlp-operator")
EDITOR = "admin"
LATE_SECONDS = 5.0
"""How long after a restart its writes are counted, once it has looked at every model."""
POOL = "benchmark-cpu"
MODELS_PER_NAMESPACE = 10
QUIET_SECONDS = 12.0
"""After the last model is Ready the cluster itself still settles (endpoints, events), and the operator holds
the counts of a pool back for ten seconds; idleness is measured after a quiet time without any write of it."""


@dataclass
class Results:
    """What is written as JSON. The names of the first block are the issue's."""

    models: int
    restart_seconds: float = math.nan
    restart_writes: int = -1
    edit_to_write_p99_ms: float = math.nan
    create_all_ready_seconds: float = math.nan
    rss_mb: float = math.nan
    writes_per_model_create_to_ready: float = math.nan
    idle_writes_in_60s: int = -1

    restart_after_kill_seconds: float = math.nan
    restart_after_kill_writes: int = -1
    restart_writes_by_kind: dict[str, int] = field(default_factory=dict)
    edit_to_write_p50_ms: float = math.nan
    edit_to_write_max_ms: float = math.nan
    edit_answer_to_write_p50_ms: float = math.nan
    edit_answer_to_write_p99_ms: float = math.nan
    edit_to_status_p99_ms: float = math.nan
    edits: int = 0
    edits_per_second: float = 0
    edits_without_write: int = 0
    edit_queue_wait_p99_ms: float = math.nan
    edit_reconcile_p50_ms: float = math.nan
    edit_reconcile_p99_ms: float = math.nan
    edit_loop_lag_worst_ms: float = math.nan
    edit_api_server_ms: dict[str, dict[str, float]] = field(default_factory=dict)
    """The API server's own time for the operator's requests, by verb: p50, p99, count."""
    create_to_ready_p50_seconds: float = math.nan
    create_to_ready_p99_seconds: float = math.nan
    writes_most_of_one_model: int = -1
    passes_per_model_create: float = math.nan
    passes_per_edit: float = math.nan
    rss_peak_mb: float = math.nan
    operator_cpu_seconds_create: float = math.nan
    operator_cpu_ms_per_model_create: float = math.nan
    operator_cpu_ms_per_edit: float = math.nan
    """Idle work of that time included."""
    operator_cpu_seconds_restart: float = math.nan
    operator_cpu_cores_at_edits: float = math.nan
    operator_cpu_cores_idle: float = math.nan
    writes_create_to_ready_by_kind: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    """By phase (create, idle, edits) and process: who took the machine."""
    load_average: dict[str, float] = field(default_factory=dict)
    """Of one minute, at the end of each phase."""
    machine: dict[str, Any] = field(default_factory=dict)


def make_model(number: int) -> Obj:
    """The smallest honest model: one input, defaults otherwise, on the benchmark's pool."""
    return {
        "apiVersion": NLP_MODEL.api_version,
        "kind": NLP_MODEL.kind,
        "metadata": {"name": f"model-{number}", "namespace": namespace_of(number)},
        "spec": {
            "build": {
                "architecture": "TermDocumentMatrix",
                "termDocumentMatrix": {"weighting": "Count"},
                "inputs": [{"name": "corpus", "source": {"configMap": {"name": "corpus"}}}],
            },
            "placement": {"poolNames": [POOL]},
            "serving": {"maxBatchSize": 16},
        },
    }


def namespace_of(number: int) -> str:
    return f"team-{number // MODELS_PER_NAMESPACE}"


def prepare(cluster: ControlPlane, api: PlainApi, models: int) -> None:
    """Everything that exists before the first model: the installation, nodes, a pool, namespaces with their
    data and volumes."""
    install(cluster)
    # 110 pods a node, of which a model needs one and for a moment a second.
    cluster.add_kwok_nodes(models // 40 + 2)
    api.create(
        DEVICE_POOL,
        {
            "apiVersion": DEVICE_POOL.api_version,
            "kind": DEVICE_POOL.kind,
            "metadata": {"name": POOL},
            "spec": {
                "device": {"type": "Cpu", "cpu": {"cores": "100m"}},
                "memoryMebibytes": 256,
                "maxDevices": models * 2,
                "pricePerHour": "0.02",
            },
        },
    )
    for number in range(0, models, MODELS_PER_NAMESPACE):
        make_namespace(api, namespace_of(number))


def install(cluster: ControlPlane) -> None:
    """What `kubectl apply -k manifests/default` makes, but for the Deployment, whose process a benchmark
    starts itself."""
    rendered = list(yaml.safe_load_all(cluster.kubectl("kustomize", ROOT / "manifests" / "default")))
    crds = [obj for obj in rendered if obj["kind"] == "CustomResourceDefinition"]
    cluster.apply(*crds)
    cluster.wait_for_crds(*(f"crd/{obj['metadata']['name']}" for obj in crds))
    rest = [obj for obj in rendered if obj["kind"] not in ("CustomResourceDefinition", "Deployment")]
    cluster.apply(*sorted(rest, key=lambda obj: bool(obj["kind"] != "Namespace")))


def make_namespace(api: PlainApi, place: str) -> None:
    """With its data and a volume for its store."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.create(
        NAMESPACE,
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place, "labels": labels}},
    )
    corpus = {"corpus.tsv": "document\ttext\none\ta word\n"}
    api.create(
        CONFIG_MAP,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "corpus"}, "data": corpus},
        place,
    )
    api.create(
        VOLUME,
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"store-{place}"},
            "spec": {
                "capacity": {"storage": "20Gi"},
                "accessModes": ["ReadWriteMany"],
                "hostPath": {"path": "/nowhere"},
                "persistentVolumeReclaimPolicy": "Retain",
            },
        },
    )


@contextmanager
def agents(kubeconfig: Path, module: str = "tests.faults.agents") -> Iterator[int]:
    """The agents of all server pods, as a process of its own; its pid."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, "--kubeconfig", str(kubeconfig)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError("The process that answers for the agents ended at once.")
        yield process.pid
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def is_ready(version: Version) -> bool:
    """Ready=True, said of the generation it is."""
    condition = version.condition("Ready") or {}
    observed = (version.object.get("status") or {}).get("observedGeneration")
    return condition.get("status") == "True" and observed == version.generation


class Benchmark:
    """The measurements, in the order in which they are taken."""

    def __init__(self, cluster: ControlPlane, models: int, edit_seconds: float) -> None:
        self.cluster = cluster
        self.models = models
        self.edit_seconds = edit_seconds
        self.audit = AuditLog(cluster.audit_log)
        self.api = PlainApi(cluster.kubeconfig, agent="nlp-operator-benchmark")
        self.results = Results(models=models)
        self.operator = OperatorProcess(
            cluster.kubeconfig_for("nlp-system/nlp-operator"), cluster.folder / "operator.log"
        )
        self._processes: dict[str, int] = {}

    def run(self, agents_pid: int) -> Results:
        self.operator.start()
        try:
            self.operator.wait_until_steady(0)
            running = {name: one.pid for name, one in self.cluster.processes.running().items()}
            self._processes = {
                **running,
                "nlp-operator": self.operator.pid,
                "agents": agents_pid,
                "benchmark": os.getpid(),
            }
            self.create()
            self.idle()
            self.edit()
            say("restarts")
            self.restart()
            self.results.rss_mb, _ = self.operator.memory_megabytes()
        finally:
            self.operator.end()
        return self.results

    def keep_logs(self, folder: Path | None) -> None:
        """The operator's and the API server's; `None`: nowhere."""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for log in (self.operator.log, self.cluster.audit_log):
                if log.exists():
                    shutil.copy(log, folder)

    def writes(self, since: Mark) -> list[Entry]:
        return self.audit.writes(since, user=OPERATOR)

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        """Notes the CPU time of every process and the load."""
        say(name)
        before = {process: cpu_seconds(pid) for process, pid in self._processes.items()}
        yield
        self.results.cpu_seconds[name] = {
            process: round(cpu_seconds(pid) - before[process], 2) for process, pid in self._processes.items()
        }
        self.results.load_average[name] = round(os.getloadavg()[0], 2)

    def create(self) -> None:
        """All models at once, as one `kubectl apply -f folder` or a GitOps sync would."""
        out = self.results
        mark = self.audit.mark()
        passes = self._passes()
        with Recorder(self.cluster.kubeconfig, [NLP_MODEL]) as recorder:
            with self._phase("create"):
                started = time.monotonic()
                with ThreadPoolExecutor(4) as pool:
                    list(pool.map(self._create_model, range(self.models)))
                self._wait_until_ready(recorder, timeout_seconds=120 + 2 * self.models)
            created, ready = self._moments(recorder)
        took = [ready[name] - created[name] for name in created]
        out.create_all_ready_seconds = max(ready.values()) - started
        out.create_to_ready_p50_seconds = quantile(took, 0.5)
        out.create_to_ready_p99_seconds = quantile(took, 0.99)
        out.operator_cpu_seconds_create = out.cpu_seconds["create"]["nlp-operator"]
        out.operator_cpu_ms_per_model_create = 1000 * out.operator_cpu_seconds_create / self.models
        out.rss_peak_mb = self.operator.memory_megabytes()[1]
        self._wait_until_quiet()
        writes = self.writes(mark)
        out.writes_per_model_create_to_ready = len(writes) / self.models
        out.writes_create_to_ready_by_kind = {
            kind: count / self.models for kind, count in count_by_kind(writes).items()
        }
        by_model = Counter((one.namespace, model) for one in writes if (model := model_of(one)))
        self.results.passes_per_model_create = (self._passes() - passes) / self.models
        out.writes_most_of_one_model = max(by_model.values())

    def _passes(self) -> float:
        """Passes over models so far, those included that found the model settled."""
        return total(self.operator.metrics(), "nlp_operator_reconcile_seconds_count", 'kind="NLPModel"')

    def _create_model(self, number: int) -> None:
        self.api.create(NLP_MODEL, make_model(number), namespace_of(number))

    def _wait_until_ready(self, recorder: Recorder, *, timeout_seconds: float) -> None:
        """Looks twice a second: a look at each version would be this process's time, not the operator's."""
        deadline = time.monotonic() + timeout_seconds
        while (ready := sum(map(is_ready, recorder.latest("NLPModel")))) < self.models:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{ready} of {self.models} models were Ready within {timeout_seconds:g} s."
                )
            time.sleep(0.5)

    @staticmethod
    def _moments(recorder: Recorder) -> tuple[dict[str, float], dict[str, float]]:
        """When each model was first seen, and when it was first seen Ready."""
        created: dict[str, float] = {}
        ready: dict[str, float] = {}
        for version in recorder.versions("NLPModel"):
            created.setdefault(version.name, version.seen)
            if is_ready(version):
                ready.setdefault(version.name, version.seen)
        return created, ready

    def _wait_until_quiet(self) -> None:
        """Until the operator has not written for QUIET_SECONDS."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            mark = self.audit.mark()
            time.sleep(QUIET_SECONDS)
            if not self.writes(mark):
                return
        raise TimeoutError("The operator never stopped writing after all models were Ready.")

    def idle(self) -> None:
        mark = self.audit.mark()
        with self._phase("idle"):
            time.sleep(60)
        self.results.idle_writes_in_60s = len(self.writes(mark))
        self.results.operator_cpu_cores_idle = self.results.cpu_seconds["idle"]["nlp-operator"] / 60

    def edit(self, per_second: float = 10.0) -> None:
        """Edits of `serving.maxBatchSize`, round robin over the models: each changes a server's ConfigMap."""
        out = self.results
        mark = self.audit.mark()
        before = self.operator.metrics()
        count = int(per_second * self.edit_seconds)
        with self._phase("edits"):
            started = time.monotonic()
            for number in range(count):
                time.sleep(max(0.0, started + number / per_second - time.monotonic()))
                model, size = number % self.models, 17 + number // self.models % 2
                self.api.patch(
                    NLP_MODEL,
                    f"model-{model}",
                    {"spec": {"serving": {"maxBatchSize": size}}},
                    namespace_of(model),
                )
            took = time.monotonic() - started
        after = self.operator.metrics()
        out.operator_cpu_cores_at_edits = out.cpu_seconds["edits"]["nlp-operator"] / took
        out.edits_per_second = count / took
        work = ("nlp_operator_reconcile_seconds_count", 'kind="NLPModel"')
        out.passes_per_edit = (total(after, *work) - total(before, *work)) / count
        out.operator_cpu_ms_per_edit = 1000 * out.cpu_seconds["edits"]["nlp-operator"] / count
        out.edit_loop_lag_worst_ms = 1000 * total(after, "nlp_operator_loop_lag_seconds")
        self._time_inside(before, after)
        self._wait_until_quiet()
        self._time_outside(list(self.audit.entries(mark)))

    def _time_inside(self, before: str, after: str) -> None:
        """What the operator says of itself: waiting for a worker, and the work."""
        out = self.results

        def milliseconds(metric: str, q: float, *labels: str) -> float:
            seconds = bucket_quantile(
                buckets_of(before, metric, *labels), buckets_of(after, metric, *labels), q
            )
            return 1000 * seconds

        out.edit_queue_wait_p99_ms = milliseconds("nlp_operator_queue_wait_seconds", 0.99)
        work = ("nlp_operator_reconcile_seconds", 'kind="NLPModel"')
        out.edit_reconcile_p50_ms = milliseconds(work[0], 0.5, work[1])
        out.edit_reconcile_p99_ms = milliseconds(work[0], 0.99, work[1])

    def _time_outside(self, entries: Sequence[Entry]) -> None:
        """What the API server's log says of the edits, and of its own share in the time they took."""
        out = self.results
        edits = edits_of(entries, EDITOR)
        seen = reactions(edits, entries, OPERATOR)
        children = [one.child_milliseconds for one in seen if one.child_milliseconds is not None]
        own = [
            one.child_after_answer_milliseconds
            for one in seen
            if one.child_after_answer_milliseconds is not None
        ]
        statuses = [one.status_milliseconds for one in seen if one.status_milliseconds is not None]
        out.edits = len(edits)
        out.edits_without_write = len(edits) - len(children)
        out.edit_to_write_p50_ms = quantile(children, 0.5)
        out.edit_to_write_p99_ms = quantile(children, 0.99)
        out.edit_to_write_max_ms = quantile(children, 1.0)
        out.edit_answer_to_write_p50_ms = quantile(own, 0.5)
        out.edit_answer_to_write_p99_ms = quantile(own, 0.99)
        out.edit_to_status_p99_ms = quantile(statuses, 0.99)
        out.edit_api_server_ms = {
            verb: {
                "p50": round(quantile(took, 0.5), 1),
                "p99": round(quantile(took, 0.99), 1),
                "count": len(took),
            }
            for verb, took in answer_milliseconds(entries, OPERATOR).items()
        }

    def restart(self) -> None:
        """Once after SIGTERM (an upgrade), once after SIGKILL (the container is started again)."""
        out = self.results
        out.restart_seconds, writes = self._restart(signal.SIGTERM)
        out.restart_writes, out.restart_writes_by_kind = len(writes), count_by_kind(writes)
        out.operator_cpu_seconds_restart = self.operator.cpu_seconds()
        out.restart_after_kill_seconds, writes = self._restart(signal.SIGKILL)
        out.restart_after_kill_writes = len(writes)

    def _restart(self, number: signal.Signals) -> tuple[float, list[Entry]]:
        mark = self.audit.mark()
        self.operator.end(number)
        started = self.operator.start()
        steady = self.operator.wait_until_steady(self.models)
        # What it writes late counts too.
        time.sleep(LATE_SECONDS)
        return steady - started, self.writes(mark)


def say(what: str) -> None:
    print(f"  {what} ...", file=sys.stderr, flush=True)


def describe_machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "load_average_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def rows(results: Results) -> list[tuple[str, str, str]]:
    r = results
    return [
        ("measure", "value", "how"),
        ("create_all_ready_seconds", f"{r.create_all_ready_seconds:.1f}", f"{r.models} models at once"),
        ("create_to_ready_p99_seconds", f"{r.create_to_ready_p99_seconds:.1f}", "of one model, during that"),
        (
            "writes_per_model_create_to_ready",
            f"{r.writes_per_model_create_to_ready:.2f}",
            f"audit log; most of one model {r.writes_most_of_one_model}",
        ),
        ("idle_writes_in_60s", f"{r.idle_writes_in_60s}", "audit log"),
        (
            "edit_to_write_p99_ms",
            f"{r.edit_to_write_p99_ms:.0f}",
            f"{r.edits} edits at {r.edits_per_second:.1f}/s; p50 {r.edit_to_write_p50_ms:.0f}, "
            f"max {r.edit_to_write_max_ms:.0f}; {r.edits_without_write} without a write",
        ),
        (
            "edit_answer_to_write_p99_ms",
            f"{r.edit_answer_to_write_p99_ms:.0f}",
            f"without the API server's time for the edit itself; p50 {r.edit_answer_to_write_p50_ms:.0f}",
        ),
        ("edit_to_status_p99_ms", f"{r.edit_to_status_p99_ms:.0f}", "status of the edit's generation"),
        (
            "edit_queue_wait_p99_ms",
            f"{r.edit_queue_wait_p99_ms:.1f}",
            f"of all keys, for a worker; loop late by at most {r.edit_loop_lag_worst_ms:.0f}",
        ),
        (
            "edit_reconcile_p99_ms",
            f"{r.edit_reconcile_p99_ms:.1f}",
            f"a pass with its writes; p50 {r.edit_reconcile_p50_ms:.1f}",
        ),
        *(
            (f"edit_api_server_ms {verb}", f"{ms['p99']:.0f}", f"p99 of {ms['count']}; p50 {ms['p50']:.0f}")
            for verb, ms in sorted(r.edit_api_server_ms.items())
        ),
        (
            "restart_seconds",
            f"{r.restart_seconds:.1f}",
            "SIGTERM; until every model was looked at again and nothing waits",
        ),
        ("restart_writes", f"{r.restart_writes}", "audit log"),
        ("restart_after_kill_seconds", f"{r.restart_after_kill_seconds:.1f}", "SIGKILL"),
        ("restart_after_kill_writes", f"{r.restart_after_kill_writes}", "audit log"),
        ("rss_mb", f"{r.rss_mb:.0f}", f"VmRSS at the end; peak while creating {r.rss_peak_mb:.0f}"),
        (
            "operator_cpu_seconds_create",
            f"{r.operator_cpu_seconds_create:.1f}",
            f"{r.operator_cpu_ms_per_model_create:.0f} ms a model, {r.passes_per_model_create:.0f} passes; "
            f"restart {r.operator_cpu_seconds_restart:.1f}",
        ),
        (
            "operator_cpu_cores_at_edits",
            f"{r.operator_cpu_cores_at_edits:.2f}",
            f"{r.operator_cpu_ms_per_edit:.0f} ms an edit, {r.passes_per_edit:.1f} passes; "
            f"idle {r.operator_cpu_cores_idle:.3f}",
        ),
        *(
            (
                f"cpu_seconds {phase}",
                f"{sum(used.values()):.1f}",
                f"load {r.load_average[phase]:.1f}; "
                + ", ".join(f"{name} {seconds:.1f}" for name, seconds in used.items()),
            )
            for phase, used in r.cpu_seconds.items()
        ),
    ]


def start_cluster() -> ControlPlane:
    """Use it in a `with` statement."""
    return ControlPlane.start(
        controllers=True,
        scheduler=True,
        kwok=True,
        kwok_stages=[Path(__file__).parent / "kubelet_stages.yaml"],
        kwok_pod_network=POD_CIDR,
        apiserver_flags={"audit-policy-file": str(Path(__file__).parent / "audit-policy.yaml")},
        progress=Progress(),
    )


def measure(options: argparse.Namespace) -> Results:
    """One size, on a cluster of its own."""
    machine = describe_machine()
    print(f"Control plane with {options.models} NLPModels.", file=sys.stderr, flush=True)
    with start_cluster() as cluster:
        say("preparing")
        with PlainApi(cluster.kubeconfig) as api:
            prepare(cluster, api, options.models)
        benchmark = Benchmark(cluster, options.models, options.edit_seconds)
        try:
            with agents(cluster.kubeconfig) as agents_pid:
                results = benchmark.run(agents_pid)
        except BaseException:
            print(benchmark.operator.tail(), file=sys.stderr)
            raise
        finally:
            benchmark.api.close()
            benchmark.keep_logs(options.keep_logs)
    results.machine = machine
    return results


def sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.control_plane",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", type=int, default=100, help="how many NLPModels (default 100)")
    parser.add_argument(
        "--growth", type=sizes, metavar="N,N,...", help="measure each of these sizes, one after the other"
    )
    parser.add_argument("--edit-seconds", type=float, default=60, help="how long to edit (default 60)")
    parser.add_argument("--json", type=Path, help="write the numbers to this file; of --growth, a list")
    parser.add_argument("--plot", type=Path, help="draw the sizes in --json's list to this file (SVG, PNG)")
    parser.add_argument(
        "--keep-logs", type=Path, help="copy the operator's log and the audit log to this folder"
    )
    options = parser.parse_args()
    if options.plot and not options.json:
        parser.error("--plot draws what is in the file of --json; name that too.")
    if options.growth:
        growth.measure_each(options.growth, options.json, options.plot, options.edit_seconds)
        return 0
    if options.plot:
        growth.draw(growth.read(options.json), options.plot)
        return 0
    if not in_own_namespace("benchmarks.control_plane", sys.argv[1:]):
        return 2
    results = measure(options)
    print(table(rows(results)))
    write_json(options.json, vars(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
