"""The listening sockets: one for every port at which a model may be asked for."""

from __future__ import annotations

import asyncio
import logging
from asyncio import Server, StreamReader, StreamWriter

from nlp_activator.holding import CHUNK, Holding
from nlp_activator.view import Called, View

log = logging.getLogger(__name__)

AGAIN_SECONDS = 5.0
"""Until a port that could not be opened is tried again."""
BACKLOG = 1024


class Doors:
    def __init__(self, view: View, holding: Holding, address: str) -> None:
        self._view = view
        self._holding = holding
        self._address = address
        self._open: dict[int, Server] = {}
        self._called: dict[int, Called] = {}
        self.complete = asyncio.Event()
        """Set once everything was open that was wanted."""

    async def run(self) -> None:
        """Until cancelled: keeps open what the view says."""
        try:
            while True:
                changed = self._view.changed
                wanted = self._view.ports()
                self._called = wanted
                for port in self._open.keys() - wanted.keys():
                    self._open.pop(port).close()
                missing = [
                    port for port in sorted(wanted.keys() - self._open.keys()) if not await self._open_(port)
                ]
                if not missing:
                    self.complete.set()
                try:
                    async with asyncio.timeout(AGAIN_SECONDS if missing else None):
                        await changed.wait()
                except TimeoutError:
                    continue
        finally:
            for server in self._open.values():
                server.close()

    async def _open_(self, port: int) -> bool:
        async def take(reader: StreamReader, writer: StreamWriter) -> None:
            called = self._called.get(port)
            if called is None:
                writer.close()
                return
            await self._holding.take(called, reader, writer)

        try:
            self._open[port] = await asyncio.start_server(
                take, self._address, port, limit=CHUNK, backlog=BACKLOG
            )
        except OSError as error:
            log.error("A port cannot be opened; it is tried again in %g s: %s", AGAIN_SECONDS, error)
            return False
        return True
