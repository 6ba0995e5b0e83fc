"""The shipped operator as a process beside a real API server, and what tests ask of both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from localcluster.control_plane import ControlPlane
from nlp_operator.api.objects import Obj, dig
from nlp_operator.cluster import kinds
from tests.faults.audit import AuditLog, Entry, Mark, service_account

ROOT = Path(__file__).resolve().parents[3]
OPERATOR_USER = service_account("nlp-system", "nlp-operator")
T = TypeVar("T")


PATIENCE = 90.0
"""Seconds for what takes one or two where nobody else computes. A start of the operator took more than 30
beside eight runs of other tests."""

COLLECTED = 90.0
"""Seconds for the garbage collector: it looks for new kinds every 30 s, and ours is new in this cluster."""


def until(condition: Callable[[], T | None], what: str, seconds: float = PATIENCE) -> T:
    """The first true value of `condition`; a clear failure when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s; the last value was {value!r}.")
        time.sleep(0.03)


class OperatorProcess:
    """`python -m nlp_operator` under its own ServiceAccount. Its log is kept; a failed test prints its
    end."""

    program = "nlp_operator"

    def __init__(
        self, plane: ControlPlane, agent_port: int, identity: str = "operator-0", **settings: str
    ) -> None:
        self._plane = plane
        self.identity = identity
        self._kubeconfig = plane.kubeconfig_for("nlp-system/nlp-operator")
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("NLP_OPERATOR_")},
            "PYTHONPATH": str(ROOT / "operator"),
            "NLP_OPERATOR_BUILDER_IMAGE": "nlp-operator/builder:test",
            "NLP_OPERATOR_TORCH_BUILDER_IMAGE": "nlp-operator/builder-torch:test",
            "NLP_OPERATOR_SERVING_IMAGE": "nlp-operator/serving:test",
            "NLP_OPERATOR_KUBECONFIG": str(self._kubeconfig),
            "NLP_OPERATOR_IDENTITY": identity,
            "NLP_OPERATOR_LISTEN_ADDRESS": "127.0.0.1",
            "NLP_OPERATOR_HEALTH_PORT": "0",
            "NLP_OPERATOR_METRICS_PORT": "0",
            "NLP_OPERATOR_AGENT_PORT": str(agent_port),
            "NLP_OPERATOR_SIGNALS": "None",  # few emulated agents give metrics
            **{f"NLP_OPERATOR_{key.upper()}": value for key, value in settings.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.log = plane.folder / f"{identity}.log"
        self._from = 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, ready: bool = True) -> None:
        self.kill()  # One that has ended by itself has nothing to lose.
        self._from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.program],
                env=self._environment,
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )
        if ready:
            try:
                until(lambda: self.probe("health", "/readyz")[0] == 200, "the operator is ready")
            except BaseException:
                self.kill()  # the fixture that called has not begun to give it away
                raise

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def poll(self) -> int | None:
        assert self._process is not None
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL, as the kernel does when memory runs out."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        process, self._process = self._process, None
        if process.poll() is None:
            process.send_signal(number)
        return process.wait(30)

    def lines(self) -> list[Obj]:
        """What this run has logged so far."""
        with self.log.open("rb") as log:
            log.seek(self._from)
            return [json.loads(line) for line in log if line.startswith(b"{") and line.endswith(b"\n")]

    def port_of(self, what: str) -> int | None:
        wanted = f"Listening for {what}."
        return next((line["port"] for line in self.lines() if line["message"] == wanted), None)

    def probe(self, what: str, path: str) -> tuple[int, str]:
        """(HTTP status, text); status 0 when nobody answers."""
        if self.poll() is not None:
            raise AssertionError(f"The operator ended with {self.poll()}:\n{self.tail()}")
        port = self.port_of(what)
        if port is None:
            return 0, ""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str) -> float:
        """The value of `name{label="value",...}` on the metrics page; -1 when it is not there."""
        _, page = self.probe("metrics", "/metrics")
        values = [line.rsplit(" ", 1)[1] for line in page.splitlines() if line.startswith(f"{name} ")]
        return float(values[0]) if values else -1.0

    def passes(self) -> float:
        """How many passes over models have ended well."""
        return self.metric('nlp_operator_reconcile_seconds_count{kind="NLPModel",result="done"}')

    def has_told_all(self) -> bool:
        """No model has anything left to do or to tell. Progress that nobody waits for is written up to ten
        seconds after Ready."""
        return self.metric("nlp_operator_models_unsettled") == 0

    def tail(self, lines: int = 40) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


class Scene:
    """One namespace of the cluster, with the words tests need."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace
        self.audit = AuditLog(plane.audit_log)

    def apply_model(self, name: str = "novels", **spec: Any) -> None:
        self.plane.apply(make_model(name, self.namespace, **spec))

    def patch_model(self, name: str, spec: Mapping[str, Any]) -> None:
        self.plane.api.patch(kinds.MODEL.path(self.namespace, name), {"spec": dict(spec)})

    def get(self, kind: kinds.Kind, name: str) -> Obj | None:
        return self.plane.api.find(kind.path(self.namespace, name))

    def all(self, kind: kinds.Kind) -> list[Obj]:
        items: list[Obj] = self.plane.api.get(kind.path(self.namespace))["items"]
        return items

    def one(self, kind: kinds.Kind, part: str = "") -> Obj:
        found = [obj for obj in self.all(kind) if part in obj["metadata"]["name"]]
        assert len(found) == 1, [obj["metadata"]["name"] for obj in found]
        return found[0]

    def condition(self, model: str, type: str) -> Obj | None:
        status = dig(self.get(kinds.MODEL, model), "status", "conditions", default=[])
        return next((one for one in status if one["type"] == type), None)

    def wait_for(
        self, model: str, type: str, status: str, reason: str = "", seconds: float = PATIENCE
    ) -> Obj:
        """Waits until a condition of the model's current generation says so."""

        def holds() -> Obj | None:
            found = self.get(kinds.MODEL, model) or {}
            condition = self.condition(model, type)
            current = dig(condition, "observedGeneration") == dig(found, "metadata", "generation")
            right = dig(condition, "status") == status and (not reason or dig(condition, "reason") == reason)
            return condition if current and right else None

        try:
            return until(holds, f"{type}={status} {reason}".strip(), seconds)
        except AssertionError as error:
            conditions = dig(self.get(kinds.MODEL, model), "status", "conditions", default=[])
            lines = [f"{one['type']}={one['status']} {one['reason']}: {one['message']}" for one in conditions]
            raise AssertionError("\n".join([str(error), *lines])) from None

    def wait_ready(self, model: str, seconds: float = PATIENCE) -> Obj:
        return self.wait_for(model, "Ready", "True", seconds=seconds)

    def children(self) -> dict[str, dict[str, str]]:
        """uid by name, by kind, of everything the operator makes in this namespace."""
        return {
            kind.name: {
                obj["metadata"]["name"]: obj["metadata"]["uid"]
                for obj in self.all(kind)
                if (obj["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by") == "nlp-operator"
            }
            for kind in kinds.CHILDREN
        }

    def writes(self, since: Mark | None = None) -> list[Entry]:
        """The operator's own counted writes in this namespace."""
        return self.audit.writes(since, user=OPERATOR_USER, namespace=self.namespace)

    def alone(self) -> bool:
        """No namespace of another test is still on its way out: the operator has to do with this one only."""
        found = [one["metadata"]["name"] for one in self.plane.api.get("/api/v1/namespaces")["items"]]
        return not [name for name in found if name.startswith("test-") and name != self.namespace]

    def finish_pod(self, part: str, message: Mapping[str, Any], exit_code: int = 0) -> None:
        """Be the kubelet: end the one running pod whose name has this part, with this termination message."""
        pod = until(lambda: self._running(part), f"a running pod {part!r}")
        state = {
            "terminated": {
                "exitCode": exit_code,
                "reason": "Completed" if exit_code == 0 else "Error",
                "message": json.dumps(message),
            }
        }
        status = {
            "phase": "Succeeded" if exit_code == 0 else "Failed",
            "containerStatuses": [
                {**one, "ready": False, "state": state} for one in pod["status"]["containerStatuses"]
            ],
        }
        self.plane.api.patch(
            kinds.POD.path(self.namespace, pod["metadata"]["name"], "status"), {"status": status}
        )

    def _running(self, part: str) -> Obj | None:
        for pod in self.all(kinds.POD):
            if part in pod["metadata"]["name"] and dig(pod, "status", "phase") == "Running":
                return pod
        return None

    def finish_fetch(self, model: str, content: str = "1") -> None:
        inputs = [{"name": "corpus", "sha256": content * 64, "files": 1, "bytes": 10}]
        self.finish_pod(
            f"{model}-fetch-", {"version": 1, "ok": True, "inputs": inputs, "message": "Fetched."}
        )

    def finish_build(self, model: str, digest: str = "d") -> None:
        pod = until(lambda: self._running(f"{model}-build-"), "a running build pod")
        request = json.loads(
            next(one["value"] for one in pod["spec"]["containers"][0]["env"] if one["name"] == "NLP_REQUEST")
        )
        result = {
            "version": 1,
            "ok": True,
            "key": request["key"],
            "digest": digest * 64,
            "bytes": 10,
            "metrics": {},
            "message": "Built.",
        }
        self.finish_pod(f"{model}-build-", result)


def make_model(name: str, namespace: str, *, trigger: str = "", **spec: Any) -> Obj:
    build = {
        "architecture": "TermDocumentMatrix",
        "termDocumentMatrix": {"weighting": "Count"},
        "inputs": [{"name": "corpus", "source": {"configMap": {"name": f"{name}-data"}}}],
        "trigger": trigger,
        **spec.pop("build", {}),
    }
    return {
        "apiVersion": kinds.MODEL.api_version,
        "kind": kinds.MODEL.name,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"build": build, "placement": {"poolNames": ["test-cpu"]}, **spec},
    }


def make_pool(name: str, devices: int = 100, **spec: Any) -> Obj:
    return {
        "apiVersion": kinds.POOL.api_version,
        "kind": kinds.POOL.name,
        "metadata": {"name": name},
        "spec": {
            "device": {"type": "Cpu", "cpu": {"cores": "100m"}},
            "memoryMebibytes": 256,
            "maxDevices": devices,
            "pricePerHour": "0.02",
            **spec,
        },
    }
