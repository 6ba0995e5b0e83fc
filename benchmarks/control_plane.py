"""How the control plane behaves with many NLPModels: on a real API server, with the shipped operator
unchanged.

    python -m benchmarks.control_plane --models 100 --json build/control_plane.json

Real: etcd, API server, controller manager, scheduler, the operator as a process under its own
ServiceAccount. Not real: nodes and pods (kwok), and what runs in the pods. Job pods end with the
termination messages of `benchmarks/kubelet_stages.yaml`; agents are answered for by `benchmarks/agents.py`.
Both are outside the operator.

What is measured, by whom, and what counts as a write: `docs/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measures import edits_of, quantile, reactions, table
from benchmarks.network import POD_CIDR, NetworkUnavailableError, enter_own_namespace
from benchmarks.operator_process import ROOT, OperatorProcess
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
from tests.faults.recorder import Recorder

OPERATOR = service_account("nlp-system", "nlp-operator")
EDITOR = "admin"
POOL = "benchmark-cpu"
MODELS_PER_NAMESPACE = 10
QUIET_SECONDS = 5.0
"""After the last model is Ready the cluster itself still settles (endpoints, events); idleness is measured
after a quiet time without any write of the operator."""


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
    edit_to_status_p99_ms: float = math.nan
    edits: int = 0
    edits_per_second: float = 0
    edits_without_write: int = 0
    create_to_ready_p50_seconds: float = math.nan
    create_to_ready_p99_seconds: float = math.nan
    rss_peak_mb: float = math.nan
    cpu_seconds_create: float = math.nan
    cpu_seconds_restart: float = math.nan
    cpu_cores_at_edits: float = math.nan
    cpu_cores_idle: float = math.nan
    writes_create_to_ready_by_kind: dict[str, float] = field(default_factory=dict)
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
    """Everything that exists before the first model: what `kubectl apply -k manifests/default` makes (but
    for the Deployment, whose process the benchmark starts itself), nodes, a pool, namespaces with their
    data and volumes."""
    rendered = list(yaml.safe_load_all(cluster.kubectl("kustomize", ROOT / "manifests" / "default")))
    crds = [obj for obj in rendered if obj["kind"] == "CustomResourceDefinition"]
    cluster.apply(*crds)
    names = [f"crd/{obj['metadata']['name']}" for obj in crds]
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
    rest = [obj for obj in rendered if obj["kind"] not in ("CustomResourceDefinition", "Deployment")]
    cluster.apply(*sorted(rest, key=lambda obj: bool(obj["kind"] != "Namespace")))
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
        place = namespace_of(number)
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
def agents(kubeconfig: Path) -> Iterator[None]:
    """The agents of all server pods, as a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.agents", "--kubeconfig", str(kubeconfig)],
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
        yield
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def ready_models(recorder: Recorder) -> int:
    """NLPModels whose newest version says Ready=True of its own generation."""
    count = 0
    for version in recorder.latest("NLPModel"):
        condition = version.condition("Ready") or {}
        observed = (version.object.get("status") or {}).get("observedGeneration")
        count += condition.get("status") == "True" and observed == version.generation
    return count


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

    def run(self) -> Results:
        self.operator.start()
        try:
            self.operator.wait_until_steady(0)
            say("creating")
            self.create()
            say("idle")
            self.idle()
            say("edits")
            self.edit()
            say("restarts")
            self.restart()
            self.results.rss_mb, _ = self.operator.memory_megabytes()
        finally:
            self.operator.end()
        return self.results

    def writes(self, since: Mark) -> list[Entry]:
        return self.audit.writes(since, user=OPERATOR)

    def create(self) -> None:
        """All models at once, as one `kubectl apply -f folder` or a GitOps sync would."""
        out = self.results
        mark = self.audit.mark()
        cpu = self.operator.cpu_seconds()
        with Recorder(self.cluster.kubeconfig, [NLP_MODEL]) as recorder:
            started = time.monotonic()
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(self._create_model, range(self.models)))
            recorder.wait_for(
                lambda seen: ready_models(seen) == self.models,
                timeout_seconds=60 + self.models,
                what=f"{self.models} models Ready",
            )
            out.create_all_ready_seconds = time.monotonic() - started
            took = [self._create_to_ready(recorder, number) for number in range(self.models)]
        out.create_to_ready_p50_seconds = quantile(took, 0.5)
        out.create_to_ready_p99_seconds = quantile(took, 0.99)
        out.cpu_seconds_create = self.operator.cpu_seconds() - cpu
        out.rss_peak_mb = self.operator.memory_megabytes()[1]
        self._wait_until_quiet()
        writes = self.writes(mark)
        out.writes_per_model_create_to_ready = len(writes) / self.models
        out.writes_create_to_ready_by_kind = {
            kind: count / self.models for kind, count in count_by_kind(writes).items()
        }

    def _create_model(self, number: int) -> None:
        self.api.create(NLP_MODEL, make_model(number), namespace_of(number))

    def _create_to_ready(self, recorder: Recorder, number: int) -> float:
        history = recorder.versions("NLPModel", f"model-{number}", namespace_of(number))
        ready = next(v for v in history if (v.condition("Ready") or {}).get("status") == "True")
        return ready.seen - history[0].seen

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
        cpu = self.operator.cpu_seconds()
        time.sleep(60)
        self.results.idle_writes_in_60s = len(self.writes(mark))
        self.results.cpu_cores_idle = (self.operator.cpu_seconds() - cpu) / 60

    def edit(self, per_second: float = 10.0) -> None:
        """Edits of `serving.maxBatchSize`, round robin over the models: each changes a server's ConfigMap."""
        out = self.results
        mark = self.audit.mark()
        cpu = self.operator.cpu_seconds()
        started = time.monotonic()
        count = int(per_second * self.edit_seconds)
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
        out.cpu_cores_at_edits = (self.operator.cpu_seconds() - cpu) / took
        self._wait_until_quiet()
        entries = list(self.audit.entries(mark))
        edits = edits_of(entries, EDITOR)
        seen = reactions(edits, entries, OPERATOR)
        children = [one.child_milliseconds for one in seen if one.child_milliseconds is not None]
        statuses = [one.status_milliseconds for one in seen if one.status_milliseconds is not None]
        out.edits = len(edits)
        out.edits_per_second = len(edits) / took
        out.edits_without_write = len(edits) - len(children)
        out.edit_to_write_p50_ms = quantile(children, 0.5)
        out.edit_to_write_p99_ms = quantile(children, 0.99)
        out.edit_to_write_max_ms = quantile(children, 1.0)
        out.edit_to_status_p99_ms = quantile(statuses, 0.99)

    def restart(self) -> None:
        """Once after SIGTERM (an upgrade), once after SIGKILL (the container is started again)."""
        out = self.results
        out.restart_seconds, writes = self._restart(signal.SIGTERM)
        out.restart_writes, out.restart_writes_by_kind = len(writes), count_by_kind(writes)
        out.cpu_seconds_restart = self.operator.cpu_seconds()
        out.restart_after_kill_seconds, writes = self._restart(signal.SIGKILL)
        out.restart_after_kill_writes = len(writes)

    def _restart(self, number: signal.Signals) -> tuple[float, list[Entry]]:
        mark = self.audit.mark()
        self.operator.end(number)
        started = self.operator.start()
        steady = self.operator.wait_until_steady(self.models)
        # What it writes late counts too.
        time.sleep(QUIET_SECONDS)
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
        ("writes_per_model_create_to_ready", f"{r.writes_per_model_create_to_ready:.1f}", "audit log"),
        ("idle_writes_in_60s", f"{r.idle_writes_in_60s}", "audit log"),
        (
            "edit_to_write_p99_ms",
            f"{r.edit_to_write_p99_ms:.0f}",
            f"{r.edits} edits at {r.edits_per_second:.1f}/s; p50 {r.edit_to_write_p50_ms:.0f}, "
            f"max {r.edit_to_write_max_ms:.0f}; {r.edits_without_write} without a write",
        ),
        ("edit_to_status_p99_ms", f"{r.edit_to_status_p99_ms:.0f}", "status of the edit's generation"),
        (
            "restart_seconds",
            f"{r.restart_seconds:.1f}",
            "SIGTERM; until every model was looked at again and nothing waits",
        ),
        ("restart_writes", f"{r.restart_writes}", "audit log"),
        ("restart_after_kill_seconds", f"{r.restart_after_kill_seconds:.1f}", "SIGKILL"),
        ("restart_after_kill_writes", f"{r.restart_after_kill_writes}", "audit log"),
        ("rss_mb", f"{r.rss_mb:.0f}", f"VmRSS at the end; peak while creating {r.rss_peak_mb:.0f}"),
        ("cpu_cores_at_edits", f"{r.cpu_cores_at_edits:.2f}", f"idle {r.cpu_cores_idle:.3f}"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.control_plane",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", type=int, default=100, help="how many NLPModels (default 100)")
    parser.add_argument("--edit-seconds", type=float, default=60, help="how long to edit (default 60)")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument(
        "--keep-logs", type=Path, help="copy the operator's log and the audit log to this folder"
    )
    options = parser.parse_args()
    try:
        enter_own_namespace("benchmarks.control_plane", sys.argv[1:])
    except NetworkUnavailableError as error:
        print(f"This benchmark needs a network namespace of its own. {error}", file=sys.stderr)
        return 2
    machine = describe_machine()
    print(f"Control plane with {options.models} NLPModels.", file=sys.stderr, flush=True)
    with ControlPlane.start(
        controllers=True,
        scheduler=True,
        kwok=True,
        kwok_stages=[Path(__file__).parent / "kubelet_stages.yaml"],
        kwok_pod_network=POD_CIDR,
        progress=Progress(),
    ) as cluster:
        say("preparing")
        with PlainApi(cluster.kubeconfig) as api:
            prepare(cluster, api, options.models)
        benchmark = Benchmark(cluster, options.models, options.edit_seconds)
        try:
            with agents(cluster.kubeconfig):
                results = benchmark.run()
        except BaseException:
            print(benchmark.operator.tail(), file=sys.stderr)
            raise
        finally:
            benchmark.api.close()
            if options.keep_logs:
                options.keep_logs.mkdir(parents=True, exist_ok=True)
                for log in (benchmark.operator.log, cluster.audit_log):
                    if log.exists():
                        shutil.copy(log, options.keep_logs)
    results.machine = machine
    print(table(rows(results)))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(vars(results), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
