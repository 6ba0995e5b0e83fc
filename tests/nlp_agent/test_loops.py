"""A loop of the agent that ends by a fault of ours says why, whenever it does."""

from __future__ import annotations

import asyncio
import json

import pytest

from nlp_agent.agent import say_fault


async def fails() -> None:
    raise KeyError("words")


async def never_ends() -> None:
    await asyncio.Event().wait()


async def test_only_a_loop_that_failed_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    loops = [asyncio.create_task(fails(), name="acting"), asyncio.create_task(never_ends(), name="looking")]
    for task in loops:
        task.add_done_callback(say_fault)
    await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
    loops[1].cancel()
    await asyncio.gather(*loops, return_exceptions=True)
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["level"], told["loop"], told["error"]) == ("error", "acting", "KeyError('words')")
