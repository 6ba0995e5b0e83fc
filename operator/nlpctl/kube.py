"""The one place of nlpctl that talks to the Kubernetes API: reads only, plain dicts, errors as sentences."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import urllib3
from kubernetes import client, config

from nlp_operator.api.names import LABEL_MODEL
from nlpctl.errors import ClusterUnreachable, NlpctlError, NotFound
from nlpctl.report import Obj

GROUP_VERSION = "/apis/nlp-operator.io/v1alpha1"

DEFAULT_KUBECONFIG = "~/.kube/config"

CONNECT_SECONDS = 5
READ_SECONDS = 20


@dataclass(frozen=True)
class Cluster:
    """An API server and who we are there; `namespace` is that of the context, else `default`."""

    api: client.ApiClient
    namespace: str
    server: str

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Obj:
        """Read `path`; raises NotFound, ClusterUnreachable, or NlpctlError for any other answer."""
        method, url, headers, body, fields = self.api.param_serialize(
            "GET",
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json"},
            auth_settings=["BearerToken"],
        )
        try:
            response = self.api.call_api(
                method,
                url,
                header_params=headers,
                body=body,
                post_params=fields,
                _request_timeout=(CONNECT_SECONDS, READ_SECONDS),
            )
            raw = response.read()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ClusterUnreachable(
                f"The Kubernetes API at {self.server} cannot be reached ({reason_of(error)}). "
                "Is the cluster running? `nlpctl cluster status` tells about a local one."
            ) from error
        if response.status != 200:
            raise refusal(response.status, raw, path=path, server=self.server)
        answer: Obj = json.loads(raw)
        return answer

    def items(self, path: str, query: Mapping[str, str] | None = None) -> list[Obj]:
        return list(self.get(path, query).get("items") or [])

    def model(self, namespace: str, name: str) -> Obj:
        """The NLPModel of that name; NotFound names those that do exist."""
        try:
            return self.get(f"{GROUP_VERSION}/namespaces/{namespace}/nlpmodels/{name}")
        except NotFound as error:
            there = sorted(str(item["metadata"]["name"]) for item in self.models(namespace))
            known = (
                f"It has: {', '.join(there)}." if there else "It has none; `-n` chooses another namespace."
            )
            raise NotFound(f"There is no NLPModel {name!r} in namespace {namespace!r}. {known}") from error

    def models(self, namespace: str | None) -> list[Obj]:
        """NLPModels of a namespace, or of all with None; NotFound when the cluster does not know the kind."""
        scope = f"/namespaces/{namespace}" if namespace else ""
        try:
            return self.items(f"{GROUP_VERSION}{scope}/nlpmodels")
        except NotFound as error:
            raise NotFound(
                f"The cluster at {self.server} does not know the kind NLPModel: "
                "the operator is not installed. docs/operations.md tells how to, with images of your own; "
                "`make demo KEEP=1` does it on this machine."
            ) from error

    def events_of(self, obj: Obj) -> list[Obj]:
        """Events on this very object, not on an earlier one of its name."""
        metadata = obj["metadata"]
        selector = f"involvedObject.name={metadata['name']},involvedObject.uid={metadata['uid']}"
        return self.items(f"/api/v1/namespaces/{metadata['namespace']}/events", {"fieldSelector": selector})

    def config_maps_of(self, obj: Obj) -> list[Obj]:
        """Those of the model's own servers."""
        metadata = obj["metadata"]
        selector = {"labelSelector": f"{LABEL_MODEL}={metadata['name']}"}
        return self.items(f"/api/v1/namespaces/{metadata['namespace']}/configmaps", selector)

    def services_of(self, obj: Obj) -> list[Obj]:
        """The one of its name, if it is there."""
        metadata = obj["metadata"]
        selector = {"fieldSelector": f"metadata.name={metadata['name']}"}
        return self.items(f"/api/v1/namespaces/{metadata['namespace']}/services", selector)

    def pools(self) -> list[Obj]:
        return self.items(f"{GROUP_VERSION}/devicepools")


def connect(kubeconfig: str | None = None, context: str | None = None) -> Cluster:
    """Log in as kubectl would: --kubeconfig, $KUBECONFIG, ~/.kube/config, the pod's own account."""
    # Given by us, because the client library looks at the environment only once, when it is imported.
    named = kubeconfig or os.environ.get("KUBECONFIG")
    explicit = bool(named or context)
    file = named or os.path.expanduser(DEFAULT_KUBECONFIG)  # noqa: PTH111 - may be a list of paths
    origin = "--kubeconfig" if kubeconfig else "KUBECONFIG" if named else "the default"
    configuration = client.Configuration()
    namespace = "default"
    try:
        config.load_kube_config(file, context=context, client_configuration=configuration)
        namespace = context_namespace(file, context) or namespace
    except (config.ConfigException, OSError, ssl.SSLError) as error:
        if explicit or not in_cluster(configuration):
            raise ClusterUnreachable(
                f"No usable kubeconfig: {file} ({origin}) {fault_of(file, error)}. Set KUBECONFIG, pass "
                "--kubeconfig, or start a local cluster with `make demo KEEP=1` (with the operator and a "
                "model) or `nlpctl cluster up` (empty), which print the one to use."
            ) from error
    configuration.retries = False  # a command line says at once that nobody answers
    return Cluster(client.ApiClient(configuration), namespace, str(configuration.host))


def fault_of(file: str, error: BaseException) -> str:
    """What is wrong with a kubeconfig, or with all of a list of them."""
    if not any(os.path.exists(path) for path in file.split(os.pathsep)):  # noqa: PTH110
        return "does not exist"
    return f"cannot be used: {reason_of(error)}"


def in_cluster(configuration: client.Configuration) -> bool:
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException:
        return False
    return True


def context_namespace(kubeconfig: str | None, context: str | None) -> str | None:
    contexts, active = config.list_kube_config_contexts(kubeconfig)
    chosen = next((item for item in contexts if item["name"] == context), active) if context else active
    name = (chosen or {}).get("context", {}).get("namespace")
    return str(name) if name else None


def refusal(status: int, raw: bytes, *, path: str, server: str) -> NlpctlError:
    """The error that an answer other than 200 becomes; the API server's own sentence is kept."""
    try:
        said = str(json.loads(raw).get("message") or "")
    except (ValueError, AttributeError):
        said = raw[:200].decode("utf-8", "replace")
    if status == 404:
        return NotFound(said or f"{path} does not exist.")
    if status == 401:
        return ClusterUnreachable(
            f"The API server {server} does not accept these credentials. "
            "Renew the token or certificate of the kubeconfig."
        )
    if status == 403:
        return ClusterUnreachable(f"These credentials are not enough: {said}.")
    return NlpctlError(f"The API server answered {status} for {path}: {said or 'no reason given'}.")


def reason_of(error: BaseException) -> str:
    """The innermost reason in a chain of wrapped network errors, as a phrase: 'Connection refused'."""
    inner: BaseException = error
    while True:
        following = getattr(inner, "reason", None) or inner.__cause__ or inner.__context__
        if not isinstance(following, BaseException):
            break
        inner = following
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return str(inner).rsplit(": ", 1)[-1].rstrip(".")
