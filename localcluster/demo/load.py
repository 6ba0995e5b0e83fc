"""Requests at a steady rate from a thread of its own, each on a new connection: so every pod behind a
Service gets its share."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from localcluster.demo.commands import InBackground

SECONDS = 60.0
"""A request that took longer was not answered."""
AT_ONCE = 64
"""Requests under way; more wait for one of them to end."""


@dataclass
class Load(InBackground):
    """Asks `model` at `address` (host and port) for `outputs` of these texts, a row each."""

    address: tuple[str, int]
    model: str
    texts: Sequence[str]
    outputs: Sequence[str]
    rate: float
    """Requests a second; may be changed at any time."""
    answered: int = 0
    refused: list[str] = field(default_factory=list)

    def _run(self) -> None:
        request = self._request()
        with ThreadPoolExecutor(AT_ONCE) as clients:
            due = time.monotonic()
            while not self._over.wait(max(due - time.monotonic(), 0.0)):
                clients.submit(self._ask, request)
                due += 1 / self.rate

    def _request(self) -> bytes:
        rows = {"name": "text", "datatype": "BYTES", "shape": [len(self.texts), 1], "data": [*self.texts]}
        asked: Any = {"inputs": [rows], "outputs": [{"name": name} for name in self.outputs]}
        body = json.dumps(asked, ensure_ascii=False).encode()
        head = (
            f"POST /v2/models/{self.model}/infer HTTP/1.1\r\nHost: {self.model}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def _ask(self, request: bytes) -> None:
        try:
            with socket.create_connection(self.address, timeout=SECONDS) as connection:
                connection.sendall(request)
                with connection.makefile("rb") as answer:
                    status, whole = answer.readline().decode(errors="replace").strip(), answer.read()
        except OSError as error:
            self.refused.append(str(error))
            return
        if " 200 " in f"{status} ":
            self.answered += 1
        else:
            said = whole.decode(errors="replace").rpartition("\r\n\r\n")[2]
            self.refused.append(f"{status} {said}".strip() or "no answer")
