"""The one connection to the API server: plain dicts in, plain dicts out, every failure one of `errors.py`.

`kubernetes.aio` gives login, TLS, token renewal and the connection pool. Its typed models are not used: they
are strict in what they read (an integer where a quantity may stand is an error) and cost more time than the
call. Every call has a timeout.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config

from nlp_operator import errors
from nlp_operator.api.names import FIELD_MANAGER
from nlp_operator.api.objects import Obj
from nlp_operator.cluster.kinds import Kind
from nlp_operator.engine.informer import Expired, WatchEvent

log = logging.getLogger(__name__)

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

CALL_SECONDS = 20.0
"""One call, all in: over the API server's own slowest honest answers, under the lease's patience with a
worker."""
CONNECT_SECONDS = 5.0

OnCall = Callable[[str, Kind, int, float], None]
"""(verb, kind, HTTP status or 0, seconds) after every call."""


async def make_configuration(kubeconfig: str = "") -> kubernetes_client.Configuration:
    """How to reach the API server: the given kubeconfig, else this pod's ServiceAccount, else KUBECONFIG or
    ~/.kube/config."""
    configuration = kubernetes_client.Configuration()
    try:
        if kubeconfig:
            await kubernetes_config.load_kube_config(
                config_file=kubeconfig, client_configuration=configuration
            )
        else:
            try:
                kubernetes_config.load_incluster_config(client_configuration=configuration)
            except kubernetes_config.ConfigException:
                await kubernetes_config.load_kube_config(client_configuration=configuration)
    except (kubernetes_config.ConfigException, OSError) as error:
        where = f"the kubeconfig {kubeconfig!r}" if kubeconfig else "a ServiceAccount or a kubeconfig"
        raise errors.Unreachable(
            f"No way to the API server was found in {where} ({error}). "
            "Run in a pod, set KUBECONFIG, or pass --kubeconfig."
        ) from error
    # Watches hold a connection each for minutes; the rest is for calls.
    configuration.connection_pool_maxsize = 256
    configuration.retries = None
    # The environment is asked once: `trust_env` asks it at every call, in two other threads, which is half of
    # what a call costs. It would also read a netrc file, whose password cannot go beside our token.
    configuration.client_session_kwargs = {"trust_env": False}
    configuration.proxy = configuration.proxy or proxy_of_environment(configuration.host)
    return configuration


def proxy_of_environment(url: str) -> str | None:
    """The proxy that HTTPS_PROXY (or HTTP_PROXY) names for this server, unless NO_PROXY excepts it."""
    where = urlsplit(url)
    if where.hostname is None or proxy_bypass(where.hostname):
        return None
    return getproxies().get(where.scheme)


class Cluster:
    """See the module's docstring. Close it with `await close()`."""

    def __init__(
        self, configuration: kubernetes_client.Configuration, *, on_call: OnCall | None = None
    ) -> None:
        self._api = kubernetes_client.ApiClient(configuration=configuration)
        self._api.user_agent = "nlp-operator"
        self._on_call = on_call

    async def close(self) -> None:
        await self._api.close()

    # Reading.

    async def get(self, kind: Kind, namespace: str, name: str) -> Obj:
        return await self._call("get", kind, kind.path(namespace, name))

    async def list_page(
        self, kind: Kind, namespace: str, selectors: Mapping[str, str], limit: int, continue_token: str
    ) -> Obj:
        query = {**selectors, "limit": str(limit)}
        if continue_token:
            query["continue"] = continue_token
        return await self._call("list", kind, kind.path(namespace), query=query)

    async def watch(
        self, kind: Kind, namespace: str, selectors: Mapping[str, str], version: str, seconds: int
    ) -> AsyncIterator[WatchEvent]:
        """Changes after `version`, until the server ends the stream after `seconds`. The caller watches for
        silence."""
        query = {
            **selectors,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        timeout = aiohttp.ClientTimeout(total=seconds + CALL_SECONDS, sock_connect=CONNECT_SECONDS)
        async with self._open(
            "watch", kind, "GET", kind.path(namespace), query, None, JSON, timeout
        ) as response:
            with _network_errors(kind, "watch"):
                async for line in response.content:
                    if not line.strip():
                        continue
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise error_of(int(event["object"].get("code", 500)), event["object"], "watch", kind)
                    yield WatchEvent(event["type"], with_kind(event["object"], kind))

    # Writing.

    async def create(self, kind: Kind, body: Obj) -> Obj:
        namespace = body["metadata"].get("namespace", "")
        return await self._call("create", kind, kind.path(namespace), "POST", body, query=_MANAGER)

    async def apply(self, kind: Kind, body: Obj) -> Obj:
        """Server-side apply, forced: what the manifest says is ours. With `metadata.uid` it touches that very
        object only."""
        metadata = body["metadata"]
        path = kind.path(metadata.get("namespace", ""), metadata["name"])
        query = {**_MANAGER, "force": "true"}
        return await self._call("apply", kind, path, "PATCH", body, query=query, content_type=APPLY_PATCH)

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Obj, subresource: str = "") -> Obj:
        path = kind.path(namespace, name, subresource)
        verb = f"patch-{subresource}" if subresource else "patch"
        return await self._call(verb, kind, path, "PATCH", patch, query=_MANAGER, content_type=MERGE_PATCH)

    async def replace(self, kind: Kind, body: Obj) -> Obj:
        metadata = body["metadata"]
        path = kind.path(metadata.get("namespace", ""), metadata["name"])
        return await self._call("update", kind, path, "PUT", body, query=_MANAGER)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str, propagation: str) -> None:
        body = {"preconditions": {"uid": uid}, "propagationPolicy": propagation}
        await self._call("delete", kind, kind.path(namespace, name), "DELETE", body)

    # The wire.

    async def _call(
        self,
        verb: str,
        kind: Kind,
        path: str,
        method: str = "GET",
        body: Obj | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
    ) -> Obj:
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS, sock_connect=CONNECT_SECONDS)
        async with self._open(verb, kind, method, path, query or {}, body, content_type, timeout) as response:
            with _network_errors(kind, verb):
                answer: Obj = json.loads(await response.read())
        return answer

    @asynccontextmanager
    async def _open(
        self,
        verb: str,
        kind: Kind,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Obj | None,
        content_type: str,
        limits: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        started = time.perf_counter()
        status = 0
        try:
            with _network_errors(kind, verb):
                headers = {"Accept": JSON, "Content-Type": content_type}
                _, url, headers, _, _ = await self._api.param_serialize(
                    method, path, header_params=headers, auth_settings=["BearerToken"]
                )
                if query:
                    url = f"{url}?{urlencode(query)}"
                answer = await self._api.call_api(method, url, headers, body, _request_timeout=limits)
                response: aiohttp.ClientResponse = answer.response
            status = response.status
            if status >= 400:
                with _network_errors(kind, verb):
                    failure = _json_or_text(await response.read())
                    failure.setdefault("retryAfter", response.headers.get("Retry-After"))
                raise error_of(status, failure, verb, kind)
        finally:
            if self._on_call is not None:
                self._on_call(verb, kind, status, time.perf_counter() - started)
        try:
            yield response
        finally:
            # A body read to its end has given its connection back. Any other's (of a watch that is cancelled)
            # is cut at once: a polite end of TLS would outlive the loop.
            if response.connection is not None and response.connection.transport is not None:
                response.connection.transport.abort()
            response.close()


_MANAGER = {"fieldManager": FIELD_MANAGER}


class _network_errors:  # noqa: N801  (reads as a statement)
    """Turns what a broken or slow connection raises into `Unreachable`."""

    def __init__(self, kind: Kind, verb: str) -> None:
        self._what = f"{verb} {kind.plural}"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # A timeout is an OSError too; it is our own deadline, for the caller's arrives as a cancellation.
        if isinstance(error, aiohttp.ClientError | OSError | ValueError):
            detail = str(error) or type(error).__name__
            raise errors.Unreachable(f"The API server did not answer ({self._what}): {detail}.") from error


def with_kind(obj: Obj, kind: Kind) -> Obj:
    obj.setdefault("kind", kind.name)
    obj.setdefault("apiVersion", kind.api_version)
    return obj


def _json_or_text(body: bytes) -> Obj:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {"message": body[:300].decode(errors="replace")}


def error_of(code: int, status: Mapping[str, Any], verb: str, kind: Kind) -> Exception:
    """The one place where an answer of the API server becomes an error of ours. `status` is a metav1.Status,
    or like one."""
    message = str(status.get("message") or f"HTTP {code}")
    reason = str(status.get("reason") or "")
    what = f"{verb} {kind.plural}: {message}"
    details = status.get("details") or {}
    if code == 404:
        return errors.NotFound(what)
    if code == 410 or reason == "Expired":
        return Expired(what)
    if code == 409:
        return errors.AlreadyExists(what) if reason == "AlreadyExists" else errors.Conflict(what)
    if code == 429:
        return errors.Throttled(what, _seconds(status.get("retryAfter") or details.get("retryAfterSeconds")))
    if code == 403:
        if any(cause.get("reason") == "NamespaceTerminating" for cause in details.get("causes") or ()):
            return errors.NamespaceTerminating(what)
        # RBAC names the user and the verb; quota, Pod Security and policies say what is wrong with the
        # object.
        return (
            errors.Forbidden(what)
            if 'User "' in message and " cannot " in message
            else errors.AdmissionRefused(what)
        )
    if code == 422 and any(cause.get("field") == "metadata.uid" for cause in details.get("causes") or ()):
        # How an apply for a certain object is answered when one of that name was made anew since.
        return errors.Conflict(what)
    if code in (400, 413, 415, 422):
        return errors.AdmissionRefused(what)
    return errors.Unreachable(what)


def _seconds(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None
