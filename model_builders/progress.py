"""How far a build is: a line in the log that is also told to whoever asks (docs/architecture.md, section 3).

    from model_builders.progress import progress
    progress.info("epoch %d of %d: loss %.4f, %s words/s, %s left", ...)

What was logged here last becomes part of the model's status, so it holds nothing of the data. Questions come
over the network into a process that need not read anything from there, and it reads none: every connection
gets the same answer.
"""

import json
import logging
import socket
import threading
from contextlib import suppress

progress = logging.getLogger(__name__)

VERSION = 1
QUESTION_SECONDS = 1.0
"""For how long one who asks may keep the others waiting."""
QUESTION_BYTES = 4096


def tell_at(port: int) -> "Teller | None":
    """Answer there from now on, for as long as this process lives. A port that cannot be had is no reason not
    to build."""
    try:
        teller = Teller(port)
    except OSError as error:
        progress.warning("nobody can ask how far this build is: port %d: %s", port, error.strerror)
        return None
    progress.addHandler(teller)
    return teller


class Teller(logging.Handler):
    """Tells the last line of progress, from a thread of its own. That one takes no lock, so the workers of a
    training can be forked beside it."""

    def __init__(self, port: int) -> None:
        super().__init__(logging.INFO)
        self._said = ""
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        self._listening = socket.create_server(("", port), family=family, dualstack_ipv6=dual)
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._serve, name="progress", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        self._said = record.getMessage()

    def _serve(self) -> None:
        while True:
            with suppress(OSError):
                connection, _ = self._listening.accept()
                with connection:
                    connection.settimeout(QUESTION_SECONDS)
                    connection.recv(QUESTION_BYTES)  # a connection closed before that would lose the answer
                    connection.sendall(self._answer())

    def _answer(self) -> bytes:
        body = json.dumps({"version": VERSION, "message": self._said}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"Connection: close\r\n\r\n" + body
