"""The report of a served model, from the agent of one of its servers."""

from __future__ import annotations

import http.client
from urllib.parse import quote

from nlpctl.errors import ClusterUnreachable, NotReady
from nlpctl.forward import forwarded
from nlpctl.kube import Cluster
from nlpctl.reach import ready_pod, service_of
from nlpctl.report import read_model

AGENT_PORT = 8003
TIMEOUT_SECONDS = 30.0


def fetch(address: str, model: str) -> bytes:
    """From the agent at `host:port`. Raises ClusterUnreachable or NotReady."""
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", f"/v1/models/{quote(model, safe='')}/report")
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ClusterUnreachable(f"The agent at {address} does not answer: {error}.") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise NotReady(
            f"{model} has no report at {address}: {content.decode('utf-8', 'replace').strip()} An artifact "
            "of an "
            "older release has none; change spec.build.trigger to build it again."
        )
    return content


def fetch_from(cluster: Cluster, namespace: str, model: str) -> bytes:
    """Through a port-forward to a ready pod of the model. Raises NotFound, NotReady, ClusterUnreachable."""
    obj = cluster.model(namespace, model)
    pod = ready_pod(cluster, namespace, service_of(cluster, namespace, model, obj))
    if pod is None:
        raise NotReady(f"No server of this model is ready. {read_model(obj).headline}")
    with forwarded(cluster.api, namespace, pod, AGENT_PORT) as forward:
        try:
            return fetch(forward.address, model)
        except ClusterUnreachable as error:
            if not forward.refused:
                raise
            raise ClusterUnreachable(
                f"The port-forward to port {AGENT_PORT} of pod {namespace}/{pod} failed: "
                f"{forward.refused}. It "
                "needs the right to create pods/portforward."
            ) from error
