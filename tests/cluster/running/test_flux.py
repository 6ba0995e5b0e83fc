"""Flux's kustomize-controller over a folder of manifests: it applies, waits for Ready, says what stalls, and
prunes.

Its source is an ExternalArtifact, Flux's own kind for sources that are not made by source-controller: an
archive that we serve over HTTP and a status that says where. Compiling the controller takes minutes, so this
is a test of `make test-release`.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from localcluster import binaries
from localcluster.control_plane import ControlPlane
from localcluster.processes import plain_environment
from localcluster.progress import Progress
from nlp_operator.api.objects import Obj, dig
from nlp_operator.cluster import kinds
from nlp_operator.cluster.kinds import Kind
from tests.cluster.running.gitops import SAMPLES, in_samples, sample_volumes, versions
from tests.cluster.running.rig import Scene, make_model, until

pytestmark = pytest.mark.release

CONTROLLER = "kustomize-controller"
KUSTOMIZATIONS = Kind("Kustomization", "kustomize.toolkit.fluxcd.io", "v1", "kustomizations")
ARTIFACTS = Kind("ExternalArtifact", "source.toolkit.fluxcd.io", "v1", "externalartifacts")
HELD = "held-novels"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """The controller's own log tells what it fetched."""


@dataclass
class Folder:
    """A folder of manifests that Flux watches, as a git repository would be."""

    scene: Scene
    path: Path
    """Where archives lie, to be served."""
    url: str
    files: dict[str, str] = field(default_factory=dict)
    revision: str = ""

    def publish(self, revision: str) -> None:
        """What source-controller does for a new commit."""
        archive = _archive(self.files)
        (self.path / f"{revision}.tar.gz").write_bytes(archive)
        self.revision = f"{revision}@sha256:{hashlib.sha256(archive).hexdigest()}"
        status = {
            "artifact": {
                "path": f"{revision}.tar.gz",
                "url": f"{self.url}/{revision}.tar.gz",
                "revision": self.revision,
                "digest": f"sha256:{hashlib.sha256(archive).hexdigest()}",
                "size": len(archive),
                "lastUpdateTime": "2026-11-25T12:00:00Z",
            },
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "Succeeded",
                    "message": "Stored.",
                    "lastTransitionTime": "2026-11-25T12:00:00Z",
                }
            ],
        }
        path = ARTIFACTS.path(self.scene.namespace, "models")
        if self.scene.get(ARTIFACTS, "models") is None:
            body = {"apiVersion": ARTIFACTS.api_version, "kind": ARTIFACTS.name, "spec": {}}
            self.scene.plane.api.post(
                ARTIFACTS.path(self.scene.namespace), body | {"metadata": {"name": "models"}}
            )
        self.scene.plane.api.patch(f"{path}/status", {"status": status})

    def kustomization(self) -> Obj:
        return self.scene.get(KUSTOMIZATIONS, "models") or {}

    def ready(self) -> Obj:
        """The condition Ready, of the newest revision only."""
        found = self.kustomization()
        conditions = dig(found, "status", "conditions", default=[])
        ready: Obj = next((one for one in conditions if one["type"] == "Ready"), {})
        tried = dig(found, "status", "lastAttemptedRevision")
        return ready if tried == self.revision else {}

    def is_ready(self) -> bool:
        applied = dig(self.kustomization(), "status", "lastAppliedRevision")
        return self.ready().get("status") == "True" and applied == self.revision


def _archive(files: dict[str, str]) -> bytes:
    """A .tar.gz of the files, as Flux's sources are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            body = text.encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(body), 0o644
            archive.addfile(entry, io.BytesIO(body))
    return buffer.getvalue()


@pytest.fixture
def flux(plane: ControlPlane, tmp_path: Path) -> Iterator[None]:
    """Flux's kinds, from the modules that ship them, and its controller."""
    program = binaries.ensure([CONTROLLER], Progress())[CONTROLLER]
    sources = binaries.sources("flux-sources", "github.com/fluxcd/source-controller")
    controller = binaries.sources("flux", "github.com/fluxcd/kustomize-controller")
    crds = tmp_path / "crds"
    for folder in (sources, controller):
        shutil.copytree(folder / "config" / "crd" / "bases", crds, dirs_exist_ok=True)
    plane.apply_crds(crds)
    config = plane.component_kubeconfig(CONTROLLER, CONTROLLER, "system:masters")
    argv: list[str | Path] = [
        program,
        "--watch-all-namespaces",
        "--feature-gates=ExternalArtifact=true",
        "--no-remote-bases",
        "--metrics-addr=0",
        "--health-addr=0",
        "--log-encoding=console",
    ]
    environment = {"KUBECONFIG": str(config), "RUNTIME_NAMESPACE": "kube-system", "TMPDIR": str(tmp_path)}
    plane.processes.start(CONTROLLER, argv, env=plain_environment() | environment)
    yield
    # Their finalizer is the controller's; the kinds themselves go with the cluster.
    plane.kubectl("delete", "kustomizations.kustomize.toolkit.fluxcd.io", "--all", "-A", "--timeout=60s")
    plane.processes.stop(CONTROLLER)


@pytest.fixture
def folder(scene: Scene, flux: None, tmp_path: Path) -> Iterator[Folder]:
    served = tmp_path / "served"
    served.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="artifacts", daemon=True)
    thread.start()
    with sample_volumes(scene.plane):
        yield Folder(scene, served, f"http://127.0.0.1:{server.server_address[1]}")
    server.shutdown()
    server.server_close()
    thread.join(10)


def make_kustomization(namespace: str) -> Obj:
    """As docs/gitops.md has it, with shorter waits."""
    return {
        "apiVersion": KUSTOMIZATIONS.api_version,
        "kind": KUSTOMIZATIONS.name,
        "metadata": {"name": "models", "namespace": namespace},
        "spec": {
            "interval": "10m",
            "retryInterval": "5s",
            "timeout": "3m",
            "sourceRef": {"kind": ARTIFACTS.name, "name": "models"},
            "path": "./",
            "targetNamespace": namespace,
            "prune": True,
            "wait": True,
        },
    }


def held_model(smallest: int) -> str:
    build = {"termDocumentMatrix": {"minDocuments": smallest}}
    model = make_model(HELD, "anywhere", build=build)
    del model["metadata"]["namespace"]
    return yaml.safe_dump(model, allow_unicode=True)


def test_flux_applies_waits_and_prunes(folder: Folder) -> None:
    scene = folder.scene
    samples = {path.name: path.read_text(encoding="utf-8") for path in SAMPLES.glob("*.yaml")}
    folder.files = samples | {"held.yaml": held_model(1)}
    folder.publish("one")
    scene.plane.apply(make_kustomization(scene.namespace))

    # It applies everything, and waits for the one model whose build has not ended.
    scene.finish_fetch(HELD)
    models = {model["metadata"]["name"] for model in in_samples(kinds.MODEL)}
    for model in sorted(models):
        scene.wait_ready(model, seconds=60)
    assert not folder.is_ready()
    scene.finish_build(HELD)
    until(folder.is_ready, "Flux is ready", 60)
    assert all(dig(scene.condition(model, "Ready"), "status") == "True" for model in models | {HELD})
    assert "kustomize.toolkit.fluxcd.io/name" in (scene.get(kinds.MODEL, HELD) or {})["metadata"]["labels"]
    assert not [key for kind in kinds.CHILDREN for key in marks_on_children(scene, kind)]

    # Another pass over the same revision writes nothing and prunes nothing.
    before, mark = versions(scene), scene.audit.mark()
    asked = {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "again"}}}
    scene.plane.api.patch(KUSTOMIZATIONS.path(scene.namespace, "models"), asked)
    until(
        lambda: dig(folder.kustomization(), "status", "lastHandledReconcileAt") == "again",
        "Flux looked again",
        60,
    )
    assert versions(scene) == before
    assert scene.writes(mark) == [], "by the operator"

    # A model that stalls fails the revision, and the version before it serves on.
    folder.files["held.yaml"] = held_model(3)
    folder.publish("two")
    failure = {"version": 1, "ok": False, "reason": "QualityBelowFloor", "message": "terms is 2."}
    scene.finish_pod(f"{HELD}-build-", failure, exit_code=10)
    until(lambda: folder.ready().get("reason") == "HealthCheckFailed", "Flux says that it failed", 60)
    assert f"NLPModel/{scene.namespace}/{HELD} status: 'Failed'" in folder.ready()["message"]
    assert dig(scene.condition(HELD, "Available"), "status") == "True"

    # What left the folder goes, with all that was made of it; what stayed is not touched.
    del folder.files["held.yaml"]
    kept = others(scene)
    folder.publish("three")
    until(folder.is_ready, "Flux is ready again", 60)
    assert set(versions(scene)) == models
    until(lambda: HELD not in str(scene.children()), "all that was made of it is collected", 90)
    assert others(scene) == kept
    scene.plane.kubectl("-n", scene.namespace, "delete", "kustomization", "models", "--timeout=60s")
    assert scene.all(kinds.MODEL) == []


def others(scene: Scene) -> dict[str, dict[str, str]]:
    """uids of what was made of the other models."""
    return {
        kind: {name: uid for name, uid in found.items() if HELD not in name}
        for kind, found in scene.children().items()
    }


def marks_on_children(scene: Scene, kind: Kind) -> list[str]:
    """Keys of Flux on what the operator made."""
    return [
        key
        for obj in scene.all(kind)
        if dig(obj, "metadata", "ownerReferences")
        for key in {**obj["metadata"].get("labels", {}), **obj["metadata"].get("annotations", {})}
        if "fluxcd.io" in key
    ]
