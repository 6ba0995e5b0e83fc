"""Real servers for the sources, on loopback and with an authority of their own: TLS, S3, a registry."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from localcluster.certificates import Authority, Pair
from localcluster.ports import Ports

LOOPBACK = "127.0.0.0/8,::1/128"
"""What tests set `fetch-allowed-networks` to, as an administrator does for a server of his own."""
CHUNK = 1 << 16


@dataclass(frozen=True)
class Asked:
    """One request as the server saw it; header names in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes | Iterable[bytes] = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Respond = Callable[[Asked], Reply]


def file_reply(asked: Asked, content: bytes, ranges: bool = True) -> Reply:
    """A file, or the part of it that is asked for, as web servers do."""
    wanted = asked.headers.get("range", "")
    if not ranges or not wanted:
        return Reply(200, content)
    start = int(wanted.removeprefix("bytes=").partition("-")[0])
    if start >= len(content):
        return Reply(416, b"", {"Content-Range": f"bytes */{len(content)}"})
    span = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return Reply(206, content[start:], {"Content-Range": span})


class TlsServer:
    """Answers with what `respond` says, over TLS; knows every request and how many body bytes it sent."""

    def __init__(self, pair: Pair, respond: Respond, address: str = "127.0.0.1") -> None:
        self.respond = respond
        self.asked: list[Asked] = []
        self.sent = 0
        self.pause_after: int | None = None
        """Bytes of a body after which the server stands still, until `go_on` or a client that is gone."""
        self.go_on = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                owner._serve(self)

            def do_POST(self) -> None:
                owner._serve(self)

            def do_HEAD(self) -> None:
                owner._serve(self, with_body=False)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        # The handshake in the request's own thread: a client that never finishes it must not stop the others.
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port = int(self._server.server_address[1])
        self.host = f"{address}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def url(self, path: str, host: str = "") -> str:
        return f"https://{host or self.host}{path}"

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    def stop(self) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self, handler: BaseHTTPRequestHandler, with_body: bool = True) -> None:
        headers = {key.lower(): value for key, value in handler.headers.items()}
        asked = Asked(handler.path, headers, handler.rfile.read(int(headers.get("content-length", 0))))
        self.asked.append(asked)
        reply = self.respond(asked)
        parts = [reply.body] if isinstance(reply.body, bytes) else reply.body
        sent = {"Connection": "close", **reply.headers}
        if isinstance(reply.body, bytes):
            sent.setdefault("Content-Length", str(len(reply.body)))
        handler.send_response(reply.status)
        for key, value in sent.items():
            handler.send_header(key, value)
        handler.end_headers()
        handler.close_connection = True
        for part in parts if with_body else ():
            for start in range(0, len(part), CHUNK):
                if self.pause_after is not None and self.sent >= self.pause_after:
                    self.go_on.wait(60)
                chunk = part[start : start + CHUNK]
                handler.wfile.write(chunk)
                self.sent += len(chunk)


@contextmanager
def serving(pair: Pair, respond: Respond) -> Iterator[TlsServer]:
    server = TlsServer(pair, respond)
    try:
        yield server
    finally:
        server.stop()


def make_secret(
    folder: Path, authority: Authority | None = None, values: Mapping[str, str] | None = None
) -> str:
    """A mounted Secret: one file a key, and the authority as `ca.crt`."""
    folder.mkdir(parents=True, exist_ok=True)
    for key, value in (values or {}).items():
        (folder / key).write_text(value, encoding="utf-8")
    if authority is not None:
        (folder / "ca.crt").write_bytes(authority.certificate.read_bytes())
    return str(folder)


def wait_until(answers: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while not answers():
        assert process.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.05)


@dataclass(frozen=True)
class Program:
    """A server process with TLS on loopback."""

    host: str
    authority: Authority
    process: subprocess.Popen[bytes]

    def url(self, path: str) -> str:
        return f"https://{self.host}{path}"

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, Any]:
        """A request of the test's own; status and headers, of refusals too."""
        request = urllib.request.Request(self.url(path), data=body, method=method)
        for key, value in headers.items():
            request.add_header(key.replace("_", "-"), value)
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
        try:
            with opener.open(request, timeout=20) as response:
                response.read()
                return response.status, response.headers
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.headers


@contextmanager
def running(
    argv: list[str], host: str, authority: Authority, ready: str, log: Path, env: Mapping[str, str]
) -> Iterator[Program]:
    """A program until the end of the block; it is ready once the path `ready` gets any answer."""
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output, env=dict(env), start_new_session=True)
    program = Program(host, authority, process)

    def answers() -> bool:
        try:
            return program.ask(ready)[0] < 500
        except OSError:
            return False

    try:
        wait_until(answers, process, log)
        yield program
    finally:
        process.kill()
        process.wait()


@contextmanager
def registry(
    binary: Path, folder: Path, authority: Authority, auth: Mapping[str, Any] | None = None
) -> Iterator[Program]:
    """distribution's registry with its blobs below `folder/registry`."""
    pair, ports = authority.issue("registry", "registry", hosts=["127.0.0.1", "localhost"]), Ports()
    host = f"127.0.0.1:{ports.take()}"
    (folder / "registry").mkdir(exist_ok=True)
    config = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {
            "addr": host,
            "tls": {"certificate": str(pair.certificate), "key": str(pair.key)},
        },
        **({"auth": auth} if auth else {}),
    }
    path = folder / "registry.yml"
    path.write_text(json.dumps(config), encoding="utf-8")
    env = {"OTEL_TRACES_EXPORTER": "none"}
    try:
        with running(
            [str(binary), "serve", str(path)], host, authority, "/v2/", folder / "registry.log", env
        ) as program:
            yield program
    finally:
        ports.release()
