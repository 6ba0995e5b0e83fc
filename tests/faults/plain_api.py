"""The Kubernetes API over plain HTTPS: what the witnesses and the benchmarks speak.

It deliberately is not the operator's client: no cache, no retry, no mapping of errors, so what it reports
is what the API server said. Synchronous; one connection a thread.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import yaml

Obj = dict[str, Any]

TIMEOUT_SECONDS = 30.0
"""Longer than any single answer of a loaded API server on the machines this runs on; a hang becomes an
error, not a wait."""


class ApiError(Exception):
    """The API server refused. `code` is the HTTP status, `message` the sentence a user would read."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class Resource:
    """A kind as the API addresses it."""

    kind: str
    plural: str
    version: str = "v1"
    group: str = ""
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path; without a namespace, of all namespaces (or of a cluster-scoped kind)."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


NLP_MODEL = Resource("NLPModel", "nlpmodels", "v1alpha1", "nlp-operator.io")
DEVICE_POOL = Resource("DevicePool", "devicepools", "v1alpha1", "nlp-operator.io", namespaced=False)
JOB = Resource("Job", "jobs", group="batch")
DEPLOYMENT = Resource("Deployment", "deployments", group="apps")
REPLICA_SET = Resource("ReplicaSet", "replicasets", group="apps")
POD = Resource("Pod", "pods")
SERVICE = Resource("Service", "services")
ENDPOINT_SLICE = Resource("EndpointSlice", "endpointslices", group="discovery.k8s.io")
CONFIG_MAP = Resource("ConfigMap", "configmaps")
CLAIM = Resource("PersistentVolumeClaim", "persistentvolumeclaims")
VOLUME = Resource("PersistentVolume", "persistentvolumes", namespaced=False)
DISRUPTION_BUDGET = Resource("PodDisruptionBudget", "poddisruptionbudgets", group="policy")
NETWORK_POLICY = Resource("NetworkPolicy", "networkpolicies", group="networking.k8s.io")
NAMESPACE = Resource("Namespace", "namespaces", namespaced=False)
NODE = Resource("Node", "nodes", namespaced=False)
EVENT = Resource("Event", "events", group="events.k8s.io")
LEASE = Resource("Lease", "leases", group="coordination.k8s.io")

OURS = (NLP_MODEL, DEVICE_POOL)
CHILDREN = (JOB, DEPLOYMENT, SERVICE, CONFIG_MAP, CLAIM, DISRUPTION_BUDGET, NETWORK_POLICY)
"""Kinds the operator writes for a model. A claim belongs to its namespace, not to a model."""
GRANDCHILDREN = (REPLICA_SET, POD, ENDPOINT_SLICE)
"""Kinds that Kubernetes' own controllers make out of the children."""


@dataclass(frozen=True)
class Access:
    """Where an API server is and what it trusts us by."""

    server: str
    tls: ssl.SSLContext | None = field(repr=False)
    token: str = field(repr=False, default="")

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Access:
        """The current context of a kubeconfig: certificates inline or as files, or a token."""
        config = yaml.safe_load(path.read_text())
        context = _named(config["contexts"], config["current-context"])["context"]
        cluster = _named(config["clusters"], context["cluster"])["cluster"]
        user = _named(config["users"], context["user"])["user"]
        tls: ssl.SSLContext | None = None
        if cluster["server"].startswith("https:"):
            tls = ssl.create_default_context(cadata=_inline(cluster, "certificate-authority", path).decode())
            if "client-certificate" in user or "client-certificate-data" in user:
                # The ssl module loads key pairs from files only; the file is gone before this function
                # returns.
                with tempfile.NamedTemporaryFile() as pair:
                    pair.write(_inline(user, "client-certificate", path) + b"\n")
                    pair.write(_inline(user, "client-key", path))
                    pair.flush()
                    tls.load_cert_chain(pair.name)
        token = user.get("token", "")
        if not token and user.get("tokenFile"):
            token = Path(user["tokenFile"]).read_text().strip()
        return cls(server=cluster["server"], tls=tls, token=token)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def _named(items: list[Obj], name: str) -> Obj:
    for item in items:
        if item["name"] == name:
            return item
    raise KeyError(f"The kubeconfig has no entry named {name!r}; it has {[item['name'] for item in items]}.")


def _inline(section: Obj, key: str, kubeconfig: Path) -> bytes:
    if f"{key}-data" in section:
        return base64.b64decode(section[f"{key}-data"])
    return Path(kubeconfig.parent, section[key]).read_bytes()


class PlainApi:
    """One API server. Methods return what it answered, or raise `ApiError`."""

    def __init__(self, kubeconfig: Path, *, agent: str = "nlp-operator-witness") -> None:
        self.access = Access.from_kubeconfig(kubeconfig)
        self.agent = agent
        self._local = threading.local()

    def __enter__(self) -> PlainApi:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self, timeout_seconds: float = TIMEOUT_SECONDS) -> http.client.HTTPConnection:
        """A new connection; the caller closes it."""
        where = urlsplit(self.access.server)
        assert where.hostname is not None
        if self.access.tls is None:
            return http.client.HTTPConnection(where.hostname, where.port or 80, timeout=timeout_seconds)
        return http.client.HTTPSConnection(
            where.hostname, where.port or 443, timeout=timeout_seconds, context=self.access.tls
        )

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self.connect()
        return connection

    def close(self) -> None:
        """Close this thread's connection; other threads' connections end with their threads."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def headers(self) -> dict[str, str]:
        return {"Accept": "application/json", "User-Agent": self.agent, **self.access.headers}

    def request(
        self,
        method: str,
        path: str,
        body: Obj | None = None,
        *,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Obj:
        headers = self.headers()
        data: bytes | None = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = content_type
        url = f"{path}?{urlencode(query)}" if query else path
        connection = self._connection()
        try:
            connection.request(method, url, body=data, headers=headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        try:
            found = cast(Obj, json.loads(text)) if text else {}
        except json.JSONDecodeError:
            found = {"message": text.decode(errors="replace")}
        if answer.status >= 400:
            raise ApiError(answer.status, str(found.get("reason", "")), str(found.get("message", "")))
        return found

    def get(self, resource: Resource, name: str, namespace: str = "") -> Obj:
        return self.request("GET", resource.path(namespace, name))

    def find(self, resource: Resource, name: str, namespace: str = "") -> Obj | None:
        """The object, or None when there is none of that name."""
        try:
            return self.get(resource, name, namespace)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def list(self, resource: Resource, namespace: str = "", *, labels: str = "") -> list[Obj]:
        answer = self.request(
            "GET", resource.path(namespace), query={"labelSelector": labels} if labels else None
        )
        items: list[Obj] = answer["items"]
        for item in items:  # a list leaves them out
            item.setdefault("apiVersion", resource.api_version)
            item.setdefault("kind", resource.kind)
        return items

    def create(self, resource: Resource, body: Obj, namespace: str = "") -> Obj:
        return self.request("POST", resource.path(namespace), body)

    def patch(
        self, resource: Resource, name: str, patch: Obj, namespace: str = "", *, subresource: str = ""
    ) -> Obj:
        """A JSON merge patch."""
        return self.request(
            "PATCH",
            resource.path(namespace, name, subresource),
            patch,
            content_type="application/merge-patch+json",
        )

    def delete(
        self, resource: Resource, name: str, namespace: str = "", *, propagation: str = "Background"
    ) -> None:
        self.request(
            "DELETE",
            resource.path(namespace, name),
            {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation},
        )
