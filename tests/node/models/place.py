"""One namespace of the cluster with real pods, and the words tests need about it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from localcluster.cluster import Cluster
from localcluster.demo.storm import processes_of
from localcluster.errors import CommandFailed
from tests.faults.audit import AuditLog
from tests.faults.plain_api import NLP_MODEL, POD, Obj
from tests.faults.prober import GrpcAsk, HttpAsk, Prober, Tensors, text

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = ROOT / "manifests" / "samples" / "korean-novels.yaml"
MODEL = "korean-novels"
POOL = "node-tests"
READY_SECONDS = 180.0
"""A first build, start and proof took 13 s on two idle cores; a loaded machine takes several times that."""

Found = TypeVar("Found")


def until(ask: Callable[[], Found | None], what: str, seconds: float = 60.0) -> Found:
    """The first true answer; a sentence with the last one when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s; the last answer was {answer!r}.")
        time.sleep(0.1)


def takes_requests(pod: Obj) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)


class Place:
    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.audit = AuditLog(cluster.audit_log)

    # -- what a user does ----------------------------------------------------------------------------------

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *words, stdin=stdin)

    def apply(self, *manifests: Obj) -> str:
        """`kubectl apply`; what it printed, warnings too."""
        return self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests, allow_unicode=True))

    def apply_sample(self, name: str = MODEL) -> None:
        """The sample as it is, but for its pool, and its name when another is given."""
        for manifest in self.sample(MODEL):
            if manifest["kind"] == "NLPModel":
                manifest["metadata"]["name"] = name
            self.apply(manifest)

    def sample(self, file: str) -> list[Obj]:
        """The manifests of a sample, with the pool of the tests."""
        text = (ROOT / "manifests" / "samples" / f"{file}.yaml").read_text(encoding="utf-8")
        manifests: list[Obj] = list(yaml.safe_load_all(text))
        for manifest in manifests:
            if manifest["kind"] == "NLPModel":
                manifest["spec"]["placement"] = {"poolNames": [POOL]}
        return manifests

    def apply_model(self, source: Obj, name: str = MODEL, build: Obj | None = None, **spec: Any) -> None:
        """A model of the three words, from another source."""
        whole: Obj = {
            "architecture": "TermDocumentMatrix",
            "termDocumentMatrix": {"weighting": "Count", "tokenizer": "Whitespace"},
            "inputs": [{"name": "corpus", "source": source}],
            **(build or {}),
        }
        self.apply(
            {
                "apiVersion": NLP_MODEL.api_version,
                "kind": NLP_MODEL.kind,
                "metadata": {"name": name},
                "spec": {"build": whole, "placement": {"poolNames": [POOL]}, **spec},
            }
        )

    def patch_model(self, spec: Mapping[str, Any], name: str = MODEL) -> None:
        self.kubectl("patch", f"nlp/{name}", "--type=merge", "-p", json.dumps({"spec": spec}))

    def make_claim(self, name: str, files: Mapping[str, bytes]) -> Path:
        """A bound claim with these files, readable by everybody; the folder behind it."""
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name},
                "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
            }
        )
        self.kubectl("wait", "--for=jsonpath={.status.phase}=Bound", f"pvc/{name}", "--timeout=60s")
        folder = self.cluster.volume(self.namespace, name)
        for path, content in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            target.write_bytes(content)
            target.chmod(0o644)
        return folder

    # -- what a user sees ----------------------------------------------------------------------------------

    def model(self, name: str = MODEL) -> Obj:
        return self.cluster.api.get(NLP_MODEL.path(self.namespace, name))

    def digest(self, name: str = MODEL) -> str:
        return str(((self.model(name).get("status") or {}).get("artifact") or {}).get("digest", ""))

    def condition(self, kind: str, name: str = MODEL) -> Obj:
        conditions = (self.model(name).get("status") or {}).get("conditions") or []
        return next((dict(one) for one in conditions if one["type"] == kind), {})

    def wait_for(
        self, kind: str, status: str, reason: str = "", name: str = MODEL, seconds: float = READY_SECONDS
    ) -> Obj:
        """A condition of the model's newest generation."""

        def holds() -> Obj | None:
            model = self.model(name)
            found = self.condition(kind, name)
            current = found.get("observedGeneration") == model["metadata"]["generation"]
            right = found.get("status") == status and (not reason or found.get("reason") == reason)
            return found if current and right else None

        try:
            return until(holds, f"{kind}={status} {reason}".strip(), seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.diagnosis(name)}") from None

    def wait_ready(self, name: str = MODEL, seconds: float = READY_SECONDS) -> None:
        self.wait_for("Ready", "True", name=name, seconds=seconds)

    def wait_serving(self, digest: str, seconds: float = READY_SECONDS) -> None:
        """Until the model is Ready with another artifact than this one."""
        until(lambda: self.digest() not in ("", digest), "another artifact", seconds)
        self.wait_ready(seconds=seconds)

    def diagnosis(self, name: str) -> str:
        parts = []
        for words in (("get", f"nlp/{name}", "-o", "yaml"), ("get", "pods,jobs"), ("get", "events")):
            try:
                parts.append(self.kubectl(*words))
            except CommandFailed as error:
                parts.append(str(error))
        return "\n".join(parts)

    # -- pods ----------------------------------------------------------------------------------------------

    def pods(self, component: str = "server", name: str = MODEL) -> list[Obj]:
        labels = f"app.kubernetes.io/component={component},nlp-operator.io/model={name}"
        items: list[Obj] = self.cluster.api.get(POD.path(self.namespace), labelSelector=labels)["items"]
        return items

    def ready(self, name: str = MODEL) -> int:
        """How many of its server pods take requests."""
        return sum(map(takes_requests, self.pods(name=name)))

    def server_pod(self) -> Obj:
        (pod,) = [pod for pod in self.pods() if "deletionTimestamp" not in pod["metadata"]]
        return pod

    def processes(self, pod: Obj, program: str) -> list[int]:
        """Process ids on this machine of a program in a pod."""
        ids = {
            status["containerID"].rpartition("/")[2]
            for status in pod["status"].get("containerStatuses", [])
            if status.get("containerID")
        }
        return [pid for pid in processes_of(ids) if program in _command_line(pid)]

    def jobs_created(self, component: str, name: str = MODEL) -> list[str]:
        """Names of all Jobs ever created for a model, from the audit log: deleted ones count."""
        created = self.audit.writes(verb="create", kind="jobs.batch", namespace=self.namespace)
        return sorted(entry.name for entry in created if entry.name.startswith(f"{name}-{component}-"))

    # -- answers -------------------------------------------------------------------------------------------

    def address(self, port: int, name: str = MODEL) -> str:
        service = self.cluster.api.get(f"/api/v1/namespaces/{self.namespace}/services/{name}")
        return f"{service['spec']['clusterIP']}:{port}"

    def ask(self, question: str, protocol: str = "http", name: str = MODEL, **more: str) -> Tensors:
        """`more`: other inputs, a text each."""
        connection = self._connection(question, protocol, name, **more)
        try:
            return connection()
        finally:
            connection.close()

    def vector(self, question: str, output: str = "document_vector", protocol: str = "http") -> list[float]:
        return [float(number) for number in self.ask(question, protocol)[output].ravel()]

    def prober(
        self, question: str, allowed: Sequence[Sequence[float]], protocol: str, **options: Any
    ) -> Prober:
        """Asks one question again and again; any answer but the allowed document vectors is a failure."""

        def check(answer: Tensors) -> str:
            found = [round(float(number), 4) for number in answer["document_vector"].ravel()]
            return "" if found in [list(one) for one in allowed] else f"the answer is {found}"

        return Prober(lambda: self._connection(question, protocol, MODEL), check=check, **options)

    def _connection(self, question: str, protocol: str, name: str, **more: str) -> HttpAsk | GrpcAsk:
        inputs = {key: text(value) for key, value in {"text": question, **more}.items()}
        if protocol == "http":
            return HttpAsk(self.address(8000, name), name, inputs)
        return GrpcAsk(self.address(8001, name), name, inputs, authority=name)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def make_pool(name: str) -> Obj:
    """Small slots, so that several models fit on a machine of two cores."""
    return {
        "apiVersion": "nlp-operator.io/v1alpha1",
        "kind": "DevicePool",
        "metadata": {"name": name},
        "spec": {
            "device": {"type": "Cpu", "cpu": {"cores": "100m"}},
            "memoryMebibytes": 1024,
            "maxDevices": 8,
            "pricePerHour": "0.01",
        },
    }
