"""Who asks a translator through Triton, and may leave before the end. Copied beside model.py."""

import time
from collections.abc import Callable

from model_builders.served.search import Asker

LOOK_SECONDS = 0.1
"""How often it is asked whether a client has left. The question takes Triton a tenth of a millisecond
(measured), and a batch may have 64 of them."""


class Caller(Asker):
    """A client that may cancel its request, and whether it was seen to have `left`.

    Over gRPC: of one that leaves over HTTP Triton 2.51 does not tell.
    """

    def __init__(self, is_cancelled: Callable[[], bool]) -> None:
        self._is_cancelled = is_cancelled
        self._looked = time.monotonic()
        self.left = False

    def gone(self) -> bool:
        now = time.monotonic()
        if not self.left and now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self.left = self._is_cancelled()
        return self.left
