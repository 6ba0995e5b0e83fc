"""A server in front of a real Prometheus that answers wrongly on demand.

    operator ──http──> PrometheusFront ──http──> Prometheus

`whole` changes whole answers, `by_model` what is said of the pods of one model. It needs nothing inside the
operator, which is given its address for Prometheus'.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Row = dict[str, Any]
Answer = tuple[int, bytes] | None
"""Status and body; `None`: the connection is closed."""
SECONDS_OFF = 600.0
"""How old, or how far in the future, wrong timestamps are."""
HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"


def html(answer: Answer) -> Answer:
    return 200, HTML


def error(answer: Answer) -> Answer:
    return 503, b"Service Unavailable"


def empty(answer: Answer) -> Answer:
    return 200, b'{"status":"success","data":{"resultType":"vector","result":[]}}'


def cut(answer: Answer) -> Answer:
    """In the middle of its JSON."""
    return (answer[0], answer[1][: len(answer[1]) // 2]) if answer is not None else None


def refused(answer: Answer) -> Answer:
    return None


def late(answer: Answer) -> Answer:
    """Later than whoever asks will wait."""
    time.sleep(8.0)
    return None


WHOLE: Mapping[str, Callable[[Answer], Answer]] = {
    "HTML": html,
    "error 503": error,
    "empty answer": empty,
    "half an answer": cut,
    "connection closed": refused,
    "no answer in time": late,
}


def not_a_number(query: str, row: Row) -> Row | None:
    return row | {"value": [row["value"][0], "NaN"]}


def _shifted(seconds: float) -> Callable[[str, Row], Row | None]:
    def change(query: str, row: Row) -> Row | None:
        at, value = row["value"]
        if not query.startswith("timestamp("):
            return row
        return row | {"value": [at, str(float(value) + seconds)]}

    return change


def gone(query: str, row: Row) -> Row | None:
    return None


BY_MODEL: Mapping[str, Callable[[str, Row], Row | None]] = {
    "NaN": not_a_number,
    "old timestamps": _shifted(-SECONDS_OFF),
    "future timestamps": _shifted(SECONDS_OFF),
    "no series": gone,
}


class PrometheusFront:
    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.whole: Callable[[Answer], Answer] = lambda answer: answer
        self.by_model: dict[str, Callable[[str, Row], Row | None]] = {}
        self.queries = 0
        """Instant queries so far."""
        self.url = ""
        self._model_of: Callable[[Row], str] = model_of

    def answer(self, path: str, body: bytes) -> Answer:
        request = urllib.request.Request(f"{self.upstream}{path}", body, method="POST")
        request.add_header("Content-Type", "application/x-www-form-urlencoded")
        try:
            with urllib.request.urlopen(request, timeout=10) as answered:
                found: Answer = (answered.status, answered.read())
        except urllib.error.HTTPError as failed:
            found = failed.code, failed.read()
        except OSError:
            found = None
        if urlsplit(path).path.endswith("/query"):
            self.queries += 1
            found = self._changed(found, path, body)
        return self.whole(found)

    def _changed(self, answer: Answer, path: str, body: bytes) -> Answer:
        if answer is None or not self.by_model:
            return answer
        (query,) = (parse_qs(urlsplit(path).query) | parse_qs(body.decode()))["query"]
        whole = json.loads(answer[1])
        rows = [self._of(query, row) for row in whole["data"]["result"]]
        whole["data"]["result"] = [row for row in rows if row is not None]
        return answer[0], json.dumps(whole).encode()

    def _of(self, query: str, row: Row) -> Row | None:
        change = self.by_model.get(self._model_of(row))
        return row if change is None else change(query, row)


def model_of(row: Row) -> str:
    """By its label, or by the name of the pod, `<model>-server-...`."""
    metric = row["metric"]
    named = metric.get("envoy_route") or metric.get("model")
    return str(named or metric.get("pod", "").partition("-server-")[0])


@contextmanager
def front(upstream: str, host: str = "127.0.0.1") -> Iterator[PrometheusFront]:
    """A `PrometheusFront` that answers at its `url`, an address of this machine."""
    server = PrometheusFront(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = server.answer(self.path, body)
            if found is None:
                self.close_connection = True
                return
            self.send_response(found[0])
            self.send_header("Content-Length", str(len(found[1])))
            self.end_headers()
            self.wfile.write(found[1])

        def log_message(self, *_: Any) -> None: ...

    listening = ThreadingHTTPServer((host, 0), Handler)
    listening.daemon_threads = True
    thread = threading.Thread(target=partial(listening.serve_forever, poll_interval=0.05), daemon=True)
    thread.start()
    server.url = f"http://{host}:{listening.server_port}"
    try:
        yield server
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
