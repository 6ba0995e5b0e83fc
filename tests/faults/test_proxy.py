"""The proxy against a small server of its own: what passes, and what either side learns of a strike."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
import yaml

from tests.faults.proxy import BeforeAndAfterEach, Strike, StrikingProxy, is_write

STATUS = "/apis/nlp-operator.io/v1alpha1/namespaces/demo/nlpmodels/novels/status"
JOBS = "/apis/batch/v1/namespaces/demo/jobs"


def test_each_write_is_struck_once_before_and_then_after() -> None:
    rule = BeforeAndAfterEach()
    assert rule.strike_at("POST", JOBS) is Strike.BEFORE
    assert rule.strike_at("PATCH", STATUS) is Strike.BEFORE, "another write"
    assert rule.strike_at("POST", JOBS) is Strike.AFTER
    assert rule.strike_at("POST", JOBS) is Strike.AFTER, "it was not taken: the same write again"
    rule.taken("POST", JOBS)
    assert rule.strike_at("POST", JOBS) is Strike.BEFORE, "the next one on this path"


@pytest.mark.parametrize(
    ("method", "path", "counts"),
    [
        ("POST", JOBS, True),
        ("PATCH", STATUS, True),
        ("GET", JOBS, False),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/nlp-system/leases/nlp-operator", False),
        ("POST", "/apis/events.k8s.io/v1/namespaces/demo/events", False),
    ],
)
def test_heartbeats_and_logs_are_no_writes(method: str, path: str, counts: bool) -> None:
    assert is_write(method, path) is counts


class Upstream(http.server.BaseHTTPRequestHandler):
    """Takes everything, and remembers the writes."""

    took: list[str]

    def do_GET(self) -> None:
        self._answer(b'{"kind": "List"}')

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.took.append(self.path)
        self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    Upstream.took = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    path = tmp_path / "config"
    address = f"http://127.0.0.1:{server.server_address[1]}"
    path.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": address}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    yield path
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_strike_before_a_write_keeps_it_from_the_server_and_one_after_it_from_the_client(
    kubeconfig: Path, tmp_path: Path
) -> None:
    ended: list[int] = []
    with StrikingProxy(kubeconfig, tmp_path, "demo") as proxy:
        proxy.end_operator = lambda: ended.append(len(Upstream.took))
        config = yaml.safe_load(proxy.kubeconfig.read_text())
        server = config["clusters"][0]["cluster"]["server"]
        assert urlsplit(server).hostname == "127.0.0.1"

        def ask(path: str, body: bytes | None = None) -> bytes:
            with urlopen(Request(server + path, data=body), timeout=10) as answer:
                found: bytes = answer.read()
            return found

        assert ask(JOBS) == b'{"kind": "List"}'
        assert ask("/api/v1/namespaces/other/configmaps", b"{}") == b"{}", "another namespace's pass"
        for _ in range(2):
            with pytest.raises((URLError, ConnectionError)):
                ask(JOBS, b"{}")
    assert Upstream.took == ["/api/v1/namespaces/other/configmaps", JOBS]
    assert ended == [1, 2]
    assert [write.struck for write in proxy.writes] == [Strike.BEFORE, Strike.AFTER]
    assert [write.taken for write in proxy.writes] == [False, True]
