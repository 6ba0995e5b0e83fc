"""Just enough of a Kubernetes client to set a cluster up: JSON over HTTPS, nothing installed.

The operator and the tests use real clients; this one exists so that starting a cluster needs only the
standard library. An object is created, changed or left alone by server-side apply.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from localcluster.certificates import Pair
from localcluster.errors import ClusterError

Object = dict[str, Any]

FIELD_MANAGER = "nlp-localcluster"

_PLURALS = {"StorageClass": "storageclasses", "EndpointSlice": "endpointslices"}
_CLUSTER_SCOPED = {
    "ClusterRole",
    "ClusterRoleBinding",
    "Namespace",
    "Node",
    "PersistentVolume",
    "RuntimeClass",
    "StorageClass",
}


class ApiRefused(ClusterError):
    """The API server answered with an error status."""

    def __init__(self, method: str, path: str, status: int, message: str) -> None:
        self.status = status
        super().__init__(f"{method} {path} was answered with {status}: {message}")


class Api:
    """Talks to one API server with one client certificate. Safe to use from several threads."""

    def __init__(self, url: str, authority: Path, client: Pair) -> None:
        self.url = url
        context = ssl.create_default_context(cafile=str(authority))
        context.load_cert_chain(client.certificate, client.key)
        # No proxy: the address is on this machine, whatever the environment says.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def ready(self) -> bool:
        """Whether /readyz says yes."""
        try:
            with self._opener.open(f"{self.url}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def get(self, path: str, **query: str) -> Object:
        return self._call("GET", path, query)

    def find(self, path: str) -> Object | None:
        """Like `get`, but None where there is none."""
        try:
            return self.get(path)
        except ApiRefused as error:
            if error.status == 404:
                return None
            raise

    def post(self, path: str, body: Object) -> Object:
        return self._call("POST", path, {}, body, "application/json")

    def patch(self, path: str, body: Object) -> Object:
        """A JSON merge patch."""
        return self._call("PATCH", path, {}, body, "application/merge-patch+json")

    def delete(self, path: str) -> None:
        self._call("DELETE", path, {})

    def apply(self, manifest: Object) -> Object:
        """Server-side apply of one object of a built-in kind."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return self._call("PATCH", path_of(manifest), query, manifest, "application/apply-patch+yaml")

    def wait_for_change(self, path: str, resource_version: str, seconds: int) -> None:
        """Return at the first change in a list after `resource_version`, or after `seconds`."""
        query = {"watch": "1", "resourceVersion": resource_version, "timeoutSeconds": str(seconds)}
        try:
            with self._opener.open(f"{self.url}{path}?{urlencode(query)}", timeout=seconds + 10) as answer:
                answer.readline()
        except OSError as error:
            raise ClusterError(f"watching {path} ended: {error}") from error

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        url = f"{self.url}{path}" + (f"?{urlencode(query)}" if query else "")
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(url, data, {"Content-Type": content_type}, method=method)  # noqa: S310
        try:
            with self._opener.open(request, timeout=30) as answer:
                result: Object = json.load(answer)
                return result
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            raise ApiRefused(method, path, error.code, _message(text)) from error
        except OSError as error:
            raise ClusterError(f"{method} {url} got no answer: {error}") from error


def path_of(manifest: Object) -> str:
    """The path of an object of a built-in kind."""
    version, kind, metadata = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
    start = f"/apis/{version}" if "/" in version else f"/api/{version}"
    plural = _PLURALS.get(kind, kind.lower() + "s")
    namespace = "" if kind in _CLUSTER_SCOPED else f"/namespaces/{metadata.get('namespace', 'default')}"
    return f"{start}{namespace}/{plural}/{metadata['name']}"


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:500]
