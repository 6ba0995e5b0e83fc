"""What everybody who uses a cluster gets: its kubeconfig, kubectl, and a small API client."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from localcluster.api import Api, Object
from localcluster.certificates import Pair, write_private
from localcluster.errors import CommandFailed
from localcluster.processes import plain_environment


class Access:
    """A way into a running cluster, as its administrator unless said otherwise."""

    def __init__(self, *, url: str, folder: Path, authority: Path, admin: Pair, kubectl: Path) -> None:
        self.url = url
        self.folder = folder
        """Where this cluster keeps its files; it goes with the cluster."""
        self.authority = authority
        self.api = Api(url, authority, admin)
        self._kubectl = kubectl
        self.kubeconfig = folder / "admin.kubeconfig"

    @property
    def audit_log(self) -> Path:
        """JSON lines, one an answered request. What is in it: `audit-policy.yaml`."""
        return self.folder / "audit" / "audit.log"

    @property
    def exports(self) -> list[str]:
        """Shell lines by which kubectl, of this Kubernetes' version, and nlpctl talk to this cluster."""
        programs = [Path(sys.executable).parent, self._kubectl.parent]
        folders = ":".join(shlex.quote(str(folder)) for folder in programs)
        return [f"export KUBECONFIG={shlex.quote(str(self.kubeconfig))}", f'export PATH={folders}:"$PATH"']

    def kubectl(self, *arguments: str | Path, stdin: str | None = None) -> str:
        """Run the kubectl of this Kubernetes' version; its output. Raises CommandFailed with what it said."""
        argv = [str(self._kubectl), "--kubeconfig", str(self.kubeconfig), *map(str, arguments)]
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, check=False, env=plain_environment()
        )
        if done.returncode != 0:
            raise CommandFailed(["kubectl", *map(str, arguments)], done.returncode, done.stderr)
        return done.stdout

    def apply(self, *manifests: Object) -> None:
        """`kubectl apply` of objects of any kind that the server knows."""
        # JSON and not YAML: PyYAML leaves a text such as 12e45678 unquoted, and Go reads a number.
        everything = {"apiVersion": "v1", "kind": "List", "items": manifests}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(everything))

    def apply_crds(self, folder: Path) -> None:
        """Apply all CRDs in a folder and wait until the server serves them."""
        self.wait_for_crds(*self.kubectl("apply", "-f", folder, "-o", "name").split())

    def wait_for_crds(self, *names: str, seconds: float = 60.0) -> None:
        """Until the server serves all of these (`crd/<name>`). Raises CommandFailed when it does not in time.

        Not by `kubectl wait`: of a CRD that has no conditions yet it says that they are no list, and ends.
        """
        deadline = time.monotonic() + seconds
        while True:
            found = json.loads(self.kubectl("get", *names, "-o", "json"))
            missing = [one for one in found.get("items", [found]) if not _established(one)]
            if not missing:
                return
            if time.monotonic() >= deadline:
                told = [f"{one['metadata']['name']}: {one.get('status')}" for one in missing]
                raise CommandFailed(["kubectl", "get", *names], 1, f"not served within {seconds:g} s: {told}")
            time.sleep(0.1)

    def kubeconfig_for(self, service_account: str, seconds: int = 24 * 3600) -> Path:
        """A kubeconfig with a token of a ServiceAccount, given as `namespace/name`, which must exist."""
        namespace, _, name = service_account.partition("/")
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        answer = self.api.post(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", request)
        path = self.folder / f"serviceaccount-{namespace}-{name}.kubeconfig"
        user = {"token": answer["status"]["token"]}
        return write_kubeconfig(path, self.url, self.authority, user)


def _established(crd: Object) -> bool:
    conditions = crd.get("status", {}).get("conditions") or []
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def write_kubeconfig(path: Path, url: str, authority: Path, user: dict[str, Any] | Pair) -> Path:
    """A kubeconfig that holds all it needs, readable by its owner only."""
    if isinstance(user, Pair):
        user = {
            "client-certificate-data": _base64(user.certificate),
            "client-key-data": _base64(user.key),
        }
    name = "local"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": url, "certificate-authority-data": _base64(authority)}}
        ],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    write_private(path, yaml.safe_dump(content, sort_keys=False).encode())
    return path


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
