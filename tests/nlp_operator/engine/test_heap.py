from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from nlp_operator.engine import heap
from tests.nlp_operator.virtual_time import in_virtual_time


class Knot:
    """An object that only a collection can free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


@in_virtual_time
async def test_a_collection_walks_only_what_is_new() -> None:
    kept: list[object] = [{"metadata": {"labels": {}}} for _ in range(1000)]
    tidying = asyncio.ensure_future(heap.keep_collections_short())
    await asyncio.sleep(heap.EVERY_SECONDS * 1.5)
    assert gc.get_freeze_count() >= len(kept)
    walked = {id(one) for one in gc.get_objects()}
    assert not any(id(one) in walked for one in kept)
    tidying.cancel()


@in_virtual_time
async def test_garbage_that_was_put_aside_is_found_within_an_hour() -> None:
    knot: Knot | None = Knot()
    there = weakref.ref(knot)
    tidying = asyncio.ensure_future(heap.keep_collections_short())
    await asyncio.sleep(heap.EVERY_SECONDS * 1.5)
    knot = None
    await asyncio.sleep(heap.EVERY_SECONDS)
    assert there() is not None, "it lies where collections do not look"
    await asyncio.sleep(3600)
    assert there() is None
    tidying.cancel()
