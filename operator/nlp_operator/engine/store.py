"""A cache of objects by key, with indices, fed by informers and by our own writes.

Three rules keep it honest:

* An object never goes back in time: what is older than the cached version (by resourceVersion) is dropped. So
  the answer to our own write can be put in at once, and an event that was under way before it does not undo
  it.
* Objects are replaced, never changed in place: a snapshot taken from here stays what it was.
* Listeners are told `(old, new)`; `None` stands for absence. They run in the event loop and must only
  enqueue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

Obj = dict[str, Any]
Listener = Callable[[Obj | None, Obj | None], None]
Projection = Callable[[Obj], Obj]


class ObjectKey(NamedTuple):
    """Where an object is; the namespace of a cluster-scoped one is empty."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def key_of(obj: Obj) -> ObjectKey:
    metadata = obj["metadata"]
    return ObjectKey(metadata.get("namespace", ""), metadata["name"])


def version_of(obj: Obj) -> str:
    return str(obj["metadata"].get("resourceVersion", ""))


def older(version: str, than: str) -> bool:
    """Whether one resourceVersion is older than another.

    They are decimal numbers that only grow for one kind of resource: long true of etcd-backed servers,
    promised since Kubernetes 1.35 (KEP-5504). Anything else is never called older, which is what an operator
    had to assume before.
    """
    return version.isdecimal() and than.isdecimal() and int(version) < int(than)


def drop_managed_fields(obj: Obj) -> Obj:
    """The usual projection: managedFields are a third of an object and nobody here reads them from a
    cache."""
    metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    return {**obj, "metadata": metadata}


class Store:
    """See the module's docstring. `indices` name functions that give the values under which an object is
    found."""

    def __init__(
        self,
        *,
        project: Projection = drop_managed_fields,
        indices: Mapping[str, Callable[[Obj], tuple[str, ...]]] | None = None,
    ) -> None:
        self._project = project
        self._functions = dict(indices or {})
        self._objects: dict[ObjectKey, Obj] = {}
        self._indices: dict[str, dict[str, dict[ObjectKey, None]]] = {name: {} for name in self._functions}
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def get(self, key: ObjectKey) -> Obj | None:
        return self._objects.get(key)

    def by(self, index: str, value: str) -> tuple[Obj, ...]:
        """Objects under a value of an index, in the order of their keys."""
        return tuple(self._objects[key] for key in sorted(self._indices[index].get(value, ())))

    def keys(self) -> tuple[ObjectKey, ...]:
        return tuple(self._objects)

    def __iter__(self) -> Iterator[Obj]:
        return iter(tuple(self._objects.values()))

    def __len__(self) -> int:
        return len(self._objects)

    def put(self, obj: Obj) -> bool:
        """Take in an object as the API server sent it; False when the cache already has this version or a
        newer one."""
        key = key_of(obj)
        old = self._objects.get(key)
        if old is not None:
            same = version_of(obj) == version_of(old) != ""
            # Versions of one name only grow, also over a deletion and re-creation: the uid needs no look
            # here.
            if same or older(version_of(obj), than=version_of(old)):
                return False
        self._set(key, old, self._project(obj))
        return True

    def remove(self, key: ObjectKey, *, version: str = "") -> None:
        """Forget an object that was deleted at `version`; one that was created after it stays."""
        old = self._objects.get(key)
        if old is None or older(version, than=version_of(old)):
            return
        self._set(key, old, None)

    def replace(self, objects: list[Obj], version: str, scope: str = "") -> None:
        """Make the cache equal to a list taken at `version`, of one namespace (`scope`) or of all.

        What is cached and not listed was deleted while nobody watched: listeners are told, which Kopf's
        watching does not do (research: 2 of 5 objects removed during a gap were never reported). What we
        wrote after the list was taken stays.
        """
        listed = {key_of(obj) for obj in objects}
        for obj in objects:
            self.put(obj)
        for key in self.keys():
            if key not in listed and (not scope or key.namespace == scope):
                self.remove(key, version=version)

    def _set(self, key: ObjectKey, old: Obj | None, new: Obj | None) -> None:
        if old is not None:
            self._unindex(key, old)
        if new is None:
            del self._objects[key]
        else:
            self._objects[key] = new
            self._index(key, new)
        for listener in self._listeners:
            listener(old, new)

    def _index(self, key: ObjectKey, obj: Obj) -> None:
        for name, function in self._functions.items():
            for value in function(obj):
                self._indices[name].setdefault(value, {})[key] = None

    def _unindex(self, key: ObjectKey, obj: Obj) -> None:
        for name, function in self._functions.items():
            for value in function(obj):
                keys = self._indices[name][value]
                del keys[key]
                if not keys:
                    del self._indices[name][value]
