"""A port-forward of our own: a loopback port of this machine whose connections end at a port of one pod.

For callers outside the cluster's network, where a Service's address means nothing. Each connection gets a
WebSocket to the API server; the client library speaks the protocol, and this module only moves bytes.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kubernetes import client
from kubernetes.stream import portforward

CHUNK_BYTES = 64 * 1024


@dataclass
class Forward:
    address: str
    """`127.0.0.1:n`, which leads to the port of the pod."""
    refused: str = ""
    """Why the API server last refused to forward; empty: it did not."""


@contextlib.contextmanager
def forwarded(api: client.ApiClient, namespace: str, pod: str, port: int) -> Iterator[Forward]:
    """A loopback address that leads to `port` of the pod, until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    forward = Forward(f"127.0.0.1:{listener.getsockname()[1]}")
    open_sockets: list[Any] = [listener]

    def serve() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:  # the listener was closed: the block has ended
                return
            open_sockets.append(near)
            threading.Thread(target=connect, args=(near,), daemon=True).start()

    def connect(near: socket.socket) -> None:
        try:
            tunnel = portforward(
                client.CoreV1Api(api).connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port)
            )
        except client.ApiException as error:
            forward.refused = str(error.reason)
            near.close()  # the caller sees a closed connection
            return
        far = tunnel.socket(port)
        open_sockets.append(far)
        back = threading.Thread(target=pump, args=(far, near), daemon=True)
        back.start()
        pump(near, far)
        back.join()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield forward
    finally:
        for item in open_sockets:
            with contextlib.suppress(OSError):
                item.close()


def pump(source: Any, sink: Any) -> None:
    """Copy bytes until one side ends, then close the other's writing half."""
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK_BYTES):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
