"""The operator's page of metrics, through a port-forward to its pod."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from nlpctl.errors import ClusterUnreachable, NlpctlError, NotFound
from nlpctl.forward import forwarded
from nlpctl.kube import Cluster
from nlpctl.report import part
from nlpctl.top import leads

NAMESPACE = "nlp-system"
LABEL = "app.kubernetes.io/name=nlp-operator"
PORT = 9090
TIMEOUT_SECONDS = 10.0


def fetch(address: str) -> str:
    """Raises ClusterUnreachable."""
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        content = answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise ClusterUnreachable(f"The operator's metrics at {address} do not answer: {error}.") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise ClusterUnreachable(f"The operator's metrics at {address} answer {answer.status}.")
    return content


@contextmanager
def operator_at(cluster: Cluster, namespace: str) -> Iterator[str]:
    """A loopback address that leads to the page of the process that leads. Raises NotFound or
    ClusterUnreachable."""
    pods = cluster.items(f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": LABEL})
    names = sorted(str(part(pod, "metadata").get("name")) for pod in pods)
    if not names:
        raise NotFound(
            f"There is no pod of the operator ({LABEL}) in namespace {namespace!r}; "
            "--operator-namespace names another."
        )
    said: list[str] = []
    for name in names:
        with forwarded(cluster.api, namespace, name, PORT) as forward:
            try:
                found = leads(fetch(forward.address))
            except ClusterUnreachable as error:
                said.append(
                    f"the port-forward to port {PORT} of pod {namespace}/{name} failed: {forward.refused}. "
                    "It needs the right to create pods/portforward"
                    if forward.refused
                    else str(error).rstrip(".")
                )
                continue
            if found:
                yield forward.address
                return
            said.append(f"pod {namespace}/{name} stands by")
    raise ClusterUnreachable(f"No process of the operator that leads can be asked: {'; '.join(said)}.")


class Page:
    """The page as often as it is wanted; where it cannot be had, a sentence in its place."""

    def __init__(self, cluster: Cluster, namespace: str, address: str | None = None) -> None:
        """`address`: where the page is, for whom no port-forward is needed."""
        self._cluster = cluster
        self._namespace = namespace
        self._given = address or ""
        self._address = self._given
        self._way = ExitStack()
        self.trouble = ""

    def read(self) -> str:
        """Empty when there is trouble."""
        try:
            if not self._address:
                self._address = self._way.enter_context(operator_at(self._cluster, self._namespace))
            page = fetch(self._address)
        except NlpctlError as error:
            self.close()
            self.trouble = f"Load and latency are not shown: {error}"
            return ""
        self.trouble = "" if leads(page) else "Load and latency are not shown: the operator asked stands by."
        if self.trouble:
            self.close()
        return page

    def close(self) -> None:
        """The next look finds the way anew: another process may lead by then."""
        self._way.close()
        self._address = self._given
