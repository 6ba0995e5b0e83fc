"""Which change of a model or a pool wakes it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.nlp_operator.controllers.test_world import make, make_world, woken

CHANGES = {
    "a label": ({"metadata": {"labels": {"argocd.argoproj.io/instance": "app"}}}, False),
    "an annotation": ({"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "app:x"}}}, False),
    "a new spec": ({"metadata": {"generation": 2}}, True),
    "its deletion": ({"metadata": {"deletionTimestamp": "2026-11-25T12:00:00Z"}}, True),
    "another object of that name": ({"metadata": {"uid": "second"}}, True),
    "a status that somebody wrote": ({"status": {"replicas": 7}}, True),
}


@pytest.mark.parametrize("kind", ["NLPModel", "DevicePool"])
@pytest.mark.parametrize(("change", "wakes"), CHANGES.values(), ids=CHANGES)
async def test_a_change_wakes_only_when_it_can_matter(kind: str, change: dict[str, Any], wakes: bool) -> None:
    world = make_world()
    before = make(kind, "novels", "first")
    before["metadata"] |= {"resourceVersion": "1", "generation": 1}
    world.stores[kind].put(before)
    await woken(world)
    metadata = before["metadata"] | change.get("metadata", {}) | {"resourceVersion": "2"}
    world.stores[kind].put(before | change | {"metadata": metadata})
    assert bool(await woken(world)) is wakes
