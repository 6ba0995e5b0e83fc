"""Keeps garbage collections short.

A full collection walks every container there is: the objects of a thousand models take it 0.2 s, in which the
event loop does nothing else, and one comes whenever the heap has grown by a quarter. Yet the caches hold
JSON, which has no cycles: reference counts free it. So what has lived for a while is put where collections do
not look (`gc.freeze`); each then walks what is new, some thousand containers.

What was put there and becomes a cycle of garbage later (a connection, a task) is missed. Hence everything is
walked after all, once an hour.
"""

from __future__ import annotations

import asyncio
import gc

EVERY_SECONDS = 30.0
WHOLE_EVERY = 120
"""Rounds between two walks over everything: an hour."""


async def keep_collections_short() -> None:
    """Until cancelled. The first round is at once: what was loaded at the start is most of what there is."""
    while True:
        for _ in range(WHOLE_EVERY):
            gc.collect()
            gc.freeze()
            await asyncio.sleep(EVERY_SECONDS)
        gc.unfreeze()
