from __future__ import annotations

from typing import Any

import pytest

from nlp_operator.engine.store import Obj, ObjectKey, Store, older


def make_object(name: str = "a", version: str = "1", namespace: str = "demo", **more: Any) -> Obj:
    return {"metadata": {"name": name, "namespace": namespace, "resourceVersion": version, **more}}


def make_store() -> tuple[Store, list[tuple[str | None, str | None]]]:
    """A store, and what its listener was told (versions before and after)."""
    store = Store(indices={"color": lambda obj: tuple(obj["metadata"].get("colors", ()))})
    told: list[tuple[str | None, str | None]] = []

    def version(obj: Obj | None) -> str | None:
        return None if obj is None else obj["metadata"]["resourceVersion"]

    store.listen(lambda old, new: told.append((version(old), version(new))))
    return store, told


@pytest.mark.parametrize(
    ("version", "than", "expected"),
    [
        pytest.param("9", "10", True, id="numbers, not strings"),
        pytest.param("10", "9", False, id="newer"),
        pytest.param("10", "10", False, id="equal"),
        pytest.param("", "10", False, id="unknown is never older"),
        pytest.param("abc", "10", False, id="opaque is never older"),
    ],
)
def test_versions_are_compared_as_numbers(version: str, than: str, expected: bool) -> None:
    assert older(version, than) is expected


def test_listeners_are_told_once_of_each_version() -> None:
    store, told = make_store()
    assert store.put(make_object(version="1"))
    assert not store.put(make_object(version="1"))
    assert store.put(make_object(version="2"))
    store.remove(ObjectKey("demo", "a"), version="3")
    store.remove(ObjectKey("demo", "a"), version="3")
    assert told == [(None, "1"), ("1", "2"), ("2", None)]


def test_an_event_older_than_our_own_write_is_dropped() -> None:
    store, told = make_store()
    store.put(make_object(version="7"))
    assert not store.put(make_object(version="5"))
    store.remove(ObjectKey("demo", "a"), version="6")
    assert told == [(None, "7")]


def test_a_list_removes_what_was_deleted_unseen_but_not_what_was_written_since() -> None:
    store, told = make_store()
    store.put(make_object("gone", "3"))
    store.put(make_object("kept", "4"))
    store.put(make_object("written since", "99"))
    told.clear()
    store.replace([make_object("kept", "4"), make_object("new", "8")], version="10")
    assert sorted(obj["metadata"]["name"] for obj in store) == ["kept", "new", "written since"]
    assert told == [(None, "8"), ("3", None)]


def test_a_list_of_one_namespace_leaves_the_others_alone() -> None:
    store, _ = make_store()
    store.put(make_object("a", "1", namespace="one"))
    store.put(make_object("a", "1", namespace="two"))
    store.replace([], version="5", scope="one")
    assert store.keys() == (ObjectKey("two", "a"),)


def test_indices_follow_the_objects() -> None:
    store, _ = make_store()
    store.put(make_object("b", "1", colors=["red"]))
    store.put(make_object("a", "2", colors=["red", "blue"]))
    assert [obj["metadata"]["name"] for obj in store.by("color", "red")] == ["a", "b"]
    store.put(make_object("a", "3", colors=["blue"]))
    store.remove(ObjectKey("demo", "b"))
    assert store.by("color", "red") == ()
    assert len(store.by("color", "blue")) == 1


def test_managed_fields_are_not_kept() -> None:
    store, _ = make_store()
    original = make_object(managedFields=[{"manager": "somebody"}])
    store.put(original)
    kept = store.get(ObjectKey("demo", "a"))
    assert kept is not None
    assert "managedFields" not in kept["metadata"]
    assert "managedFields" in original["metadata"], "what the caller holds is not changed"
