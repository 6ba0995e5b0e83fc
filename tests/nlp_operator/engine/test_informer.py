"""The informer against a scripted API server, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from nlp_operator.engine.backoff import Backoff
from nlp_operator.engine.informer import Expired, Informer, Page, WatchEvent
from nlp_operator.engine.store import Obj, Store
from tests.nlp_operator.virtual_time import in_virtual_time, virtual_clock

SILENCE = "silence"
END = "end"


def make_object(name: str, version: int) -> Obj:
    return {"metadata": {"name": name, "namespace": "demo", "resourceVersion": str(version)}}


def event(type: str, name: str, version: int) -> WatchEvent:
    return WatchEvent(type, make_object(name, version))


class ScriptedSource:
    """Answers lists and watches from two scripts. Exceptions in a script are raised."""

    def __init__(self, lists: list[Any], watches: list[list[Any]]) -> None:
        self.lists = lists
        self.watches = watches
        self.asked: list[str] = []

    async def page(self, limit: int, continue_token: str) -> Page:
        self.asked.append(f"list {continue_token}".strip())
        answer = self.lists.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Page)
        return answer

    async def watch(self, version: str) -> AsyncIterator[WatchEvent]:
        self.asked.append(f"watch {version}")
        for step in self.watches.pop(0) if self.watches else [SILENCE]:
            if isinstance(step, Exception):
                raise step
            if step == SILENCE:
                await asyncio.sleep(1e9)
            elif step == END:
                return
            elif isinstance(step, float):
                await asyncio.sleep(step)
            else:
                assert isinstance(step, WatchEvent)
                yield step


async def run(source: ScriptedSource, seconds: float) -> tuple[Store, Informer]:
    store = Store()
    informer = Informer(
        "things", source, store, clock=virtual_clock(), backoff=Backoff(first=0.5, cap=30.0, jitter=0.0)
    )
    task = asyncio.ensure_future(informer.run())
    await asyncio.sleep(seconds)
    task.cancel()
    return store, informer


def names(store: Store) -> list[str]:
    return sorted(obj["metadata"]["name"] for obj in store)


@in_virtual_time
async def test_pages_are_put_together_and_watched_from_the_version_of_the_first() -> None:
    source = ScriptedSource(
        [Page([make_object("a", 1)], "10", "more"), Page([make_object("b", 2)], "11")],
        [[event("ADDED", "c", 12), event("DELETED", "a", 13), SILENCE]],
    )
    store, informer = await run(source, 10)
    assert source.asked == ["list", "list more", "watch 10"]
    assert names(store) == ["b", "c"]
    assert informer.synced.is_set()


@in_virtual_time
async def test_nothing_is_synced_before_the_last_page() -> None:
    source = ScriptedSource([Page([make_object("a", 1)], "10", "more"), OSError("down"), OSError("down")], [])
    store, informer = await run(source, 0.6)
    assert (names(store), informer.synced.is_set()) == ([], False)


@in_virtual_time
async def test_an_expired_version_means_a_new_list_and_missed_deletions_are_seen() -> None:
    source = ScriptedSource(
        [Page([make_object("a", 1), make_object("b", 2)], "10"), Page([make_object("b", 2)], "50")],
        [[Expired("too old")], [SILENCE]],
    )
    store, _ = await run(source, 10)
    assert names(store) == ["b"]
    assert source.asked == ["list", "watch 10", "list", "watch 50"]


@in_virtual_time
async def test_an_expired_continue_token_starts_the_list_over() -> None:
    source = ScriptedSource(
        [Page([make_object("a", 1)], "10", "more"), Expired("token"), Page([make_object("a", 1)], "20")], []
    )
    store, _ = await run(source, 10)
    assert source.asked == ["list", "list more", "list", "watch 20"]
    assert names(store) == ["a"]


@in_virtual_time
async def test_a_broken_watch_goes_on_from_the_last_version_seen() -> None:
    source = ScriptedSource(
        [Page([], "10")],
        [
            [event("ADDED", "a", 11), event("BOOKMARK", "", 40), ConnectionError("reset")],
            [event("ADDED", "b", 41)],
        ],
    )
    store, _ = await run(source, 5)
    assert source.asked[:3] == ["list", "watch 10", "watch 40"]
    assert names(store) == ["a", "b"]


@in_virtual_time
async def test_a_silent_watch_is_opened_anew_after_ninety_seconds() -> None:
    source = ScriptedSource([Page([], "10")], [[SILENCE], [event("ADDED", "a", 11), SILENCE]])
    store, _ = await run(source, 95)
    assert source.asked == ["list", "watch 10", "watch 10"]
    assert names(store) == ["a"]


@in_virtual_time
async def test_bookmarks_keep_a_quiet_watch_open() -> None:
    quiet: list[Any] = [step for n in range(10) for step in (60.0, event("BOOKMARK", "", 20 + n))]
    source = ScriptedSource([Page([], "10")], [quiet])
    _, informer = await run(source, 590)
    assert source.asked == ["list", "watch 10"]
    assert informer.age() <= 60


@in_virtual_time
async def test_a_server_that_ends_every_stream_at_once_is_not_hammered() -> None:
    source = ScriptedSource([Page([], "10")], [[END] for _ in range(1000)])
    await run(source, 60)
    assert 50 <= len(source.asked) <= 125


@in_virtual_time
async def test_a_server_that_answers_every_watch_with_410_is_not_hammered() -> None:
    source = ScriptedSource([Page([], "10")] * 1000, [[Expired("gone")] for _ in range(1000)])
    await run(source, 300)
    assert len(source.asked) < 40


@in_virtual_time
async def test_an_outage_is_waited_out_and_shows_signs_of_trying() -> None:
    source = ScriptedSource([OSError("refused")] * 20 + [Page([make_object("a", 1)], "10")], [])
    store, informer = await run(source, 3600)
    assert names(store) == ["a"]
    ages: list[float] = []
    source = ScriptedSource([OSError("refused")] * 1000, [])
    store = Store()
    informer = Informer("things", source, store, clock=virtual_clock(), backoff=Backoff(0.5, 30.0, 0.0))
    task = asyncio.ensure_future(informer.run())
    for _ in range(100):
        await asyncio.sleep(7)
        ages.append(informer.age())
    task.cancel()
    assert max(ages) <= 30.0, "an API server that is away is no reason to restart this process"
    assert informer.facts.last_error == "refused"


@in_virtual_time
async def test_a_watch_that_fails_again_and_again_gives_signs_and_is_told_nothing() -> None:
    failures: list[Any] = [OSError("refused")]
    source = ScriptedSource([Page([], "10")], [[event("ADDED", "a", 11), *failures], *[failures] * 1000])
    _, informer = await run(source, 3600)
    assert informer.age() <= 30.0
    assert informer.silence() == 3600.0


@in_virtual_time
async def test_a_bookmark_ends_the_silence() -> None:
    source = ScriptedSource(
        [Page([], "10")], [[OSError("refused")]] * 20 + [[60.0, event("BOOKMARK", "a", 11), 5.0, SILENCE]]
    )
    _, informer = await run(source, 3600)
    pauses = 0.5 + 1 + 2 + 4 + 8 + 16 + 14 * 30
    assert informer.silence() == 3600.0 - pauses - 60.0
