"""Every write of the operator. Writes only what differs, only to what is ours, only while this process may.

* First write: POST, so that an object of the same name which is not ours is noticed, never overwritten.
* Later writes: server-side apply with the uid of the object that was seen, so that one which was deleted and
  made anew by somebody else meanwhile is not touched.
* What a POST set belongs to the field manager's "Update" entry, which an apply would not take fields out of.
  So before the first apply to an object that entry is turned into an "Apply" one (as client-go's csaupgrade
  does).
* Ours is what has the model as its controller, by uid; or, of a shared server, what has models as its plain
  owners and the server's name as its label. In addition an object we have seen as ours keeps being
  so while this process lives, so that a stripped owner reference is repaired instead of being taken for a
  stranger; and a Job without a controller is ours when it carries the hash of the Job we want, which the
  model's uid went into.
* What belonged to a former model of the same name, or is being deleted, is no stranger: it is `Leaving`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from nlp_operator import errors
from nlp_operator.api import names
from nlp_operator.api.objects import Obj, annotations_of, deleting, dig, labels, name, namespace, uid
from nlp_operator.cluster import kinds
from nlp_operator.cluster.client import Cluster
from nlp_operator.cluster.drift import drift, merge_patch
from nlp_operator.cluster.kinds import Kind
from nlp_operator.engine.bucket import TokenBucket
from nlp_operator.engine.store import ObjectKey, Store, version_of

log = logging.getLogger(__name__)

GONE_KEPT = 1000
"""Objects that left the cache and are remembered: one that only lost its label is back within seconds."""


def controller_uid(obj: Obj) -> str:
    """The uid of the object's controller; empty when it has none."""
    for reference in dig(obj, "metadata", "ownerReferences", default=[]):
        if reference.get("controller"):
            return str(reference.get("uid", ""))
    return ""


def member_uids(obj: Obj) -> tuple[str, ...]:
    """Of an object of a shared server: the uids of the models that own it. Of any other there are none."""
    references = dig(obj, "metadata", "ownerReferences", default=[])
    if names.LABEL_SERVER not in labels(obj) or any(one.get("controller") for one in references):
        return ()
    return tuple(str(one.get("uid", "")) for one in references if one.get("kind") == names.MODEL_KIND)


def shared_owner(of_namespace: str, server: str) -> str:
    """Stands for a shared server where the uid of a model stands for that: nobody knows its members for
    ever. No uid has a slash."""
    return f"{of_namespace}/{server}"


def owner_of(obj: Obj) -> str:
    """Whose the object is: a model's uid, or a `shared_owner`; empty when it is nobody's."""
    if member_uids(obj):
        return shared_owner(namespace(obj), labels(obj)[names.LABEL_SERVER])
    return controller_uid(obj)


class Writer:
    """`fence` raises when this process may not write (its lease is not valid). `stores` are the caches, by
    kind."""

    def __init__(
        self, cluster: Cluster, stores: Mapping[str, Store], *, bucket: TokenBucket, fence: Callable[[], None]
    ) -> None:
        self._cluster = cluster
        self._stores = stores
        self._bucket = bucket
        self._fence = fence
        self._owned: dict[str, str] = {}
        """uid of a child -> whose it was seen to be (`owner_of`)."""
        self._applied: set[str] = set()
        """uids of objects whose field ownership is known to be an "Apply" entry."""
        self._gone: dict[str, None] = {}
        """uids of `_owned` that are in no cache any more, oldest first."""
        self._compared: dict[str, tuple[str, str]] = {}
        """uid of an object in the cache -> (hash of the manifest, resourceVersion of the object) that were
        last found to say the same."""
        for kind in kinds.OWNED:
            stores[kind.name].listen(self._remember)

    def _remember(self, old: Obj | None, new: Obj | None) -> None:
        if old is not None and (new is None or uid(new) != uid(old)):
            self._compared.pop(uid(old), None)
            self._note_gone(uid(old))
        if new is None:
            return
        self._gone.pop(uid(new), None)
        owner = owner_of(new)
        if owner:
            self._owned[uid(new)] = owner

    def _note_gone(self, child: str) -> None:
        """A watch says the same of an object that is deleted and of one that lost the label we watch by."""
        if child in self._owned or child in self._applied:
            self._gone[child] = None
        while len(self._gone) > GONE_KEPT:
            self._drop(next(iter(self._gone)))

    def _drop(self, child: str) -> None:
        self._owned.pop(child, None)
        self._applied.discard(child)
        self._gone.pop(child, None)

    def forget(self, owner: str) -> None:
        """The model, or the shared server, is gone; so is what was remembered of its children."""
        cached = [one for kind in kinds.OWNED for one in self._stores[kind.name].by("owner", owner)]
        gone = [child for child in self._gone if self._owned.get(child) == owner]
        for child in [*map(uid, cached), *gone]:
            self._drop(child)

    async def _turn(self) -> None:
        await self._bucket.take()
        self._fence()

    async def ensure(self, wanted: Obj, owner: str) -> bool:
        """Make the cluster hold this manifest. True when something was written.

        Raises `NameTaken` when the name belongs to somebody else, `Leaving` when it will be free in a moment,
        and what the API server answers otherwise.
        """
        kind = kinds.BY_NAME[wanted["kind"]]
        seen = self._stores[kind.name].get(ObjectKey(namespace(wanted), name(wanted)))
        if seen is None:
            return await self._create(kind, wanted, owner)
        if kind is kinds.CLAIM:
            return False
        if not self._is_ours(seen, owner) and not self._is_lost_job(kind, wanted, seen):
            raise self._not_ours(kind, wanted, seen)
        if deleting(seen):
            return False
        if kind.name in kinds.CREATE_ONLY:
            if not controller_uid(seen):
                await self._label_again(kind, wanted, seen)
                return True
            return False
        planned = dig(wanted, "metadata", "resourceVersion")
        if planned and planned != version_of(seen):
            return False  # It has changed since it was planned, which has woken whose it is.
        why = self._why_write(wanted, seen)
        if why is None:
            return False
        await self._apply(kind, wanted, uid(seen), why)
        return True

    def _why_write(self, wanted: Obj, seen: Obj) -> str | None:
        hash_wanted = annotations_of(wanted).get(names.ANNOTATION_HASH, "")
        if annotations_of(seen).get(names.ANNOTATION_HASH, "") != hash_wanted:
            return "the manifest changed"
        # The hash stands for all of the manifest, the version for all of the object: what was compared once
        # need not be again.
        state = (hash_wanted, version_of(seen))
        if self._compared.get(uid(seen)) == state:
            return None
        where = drift(wanted, seen)
        if where is not None:
            return f"{where} was changed by somebody else"
        if all(state):
            self._compared[uid(seen)] = state
        return None

    def _is_ours(self, seen: Obj, owner: str) -> bool:
        return owner_of(seen) == owner or (not owner_of(seen) and self._owned.get(uid(seen)) == owner)

    @staticmethod
    def _is_lost_job(kind: Kind, wanted: Obj, seen: Obj) -> bool:
        """A Job that lost its owner reference while no process of ours watched; the hash has the model's uid
        in it."""
        seal = annotations_of(wanted).get(names.ANNOTATION_HASH)
        return (
            kind.name in kinds.CREATE_ONLY
            and not controller_uid(seen)
            and bool(seal)
            and annotations_of(seen).get(names.ANNOTATION_HASH) == seal
        )

    def _not_ours(self, kind: Kind, wanted: Obj, seen: Obj) -> errors.Leaving | errors.NameTaken:
        if deleting(seen) or _is_of_former(wanted, seen):
            return errors.Leaving(
                f"The {kind.name} {name(seen)!r} in namespace {namespace(seen)!r} is on its way out; it is "
                f"made anew once it is gone."
            )
        where = f"A {kind.name} {name(seen)!r} exists in namespace {namespace(seen)!r} and does not belong to"
        if member_uids(wanted):
            return errors.NameTaken(f"{where} a server of this operator. Delete it, or name it otherwise.")
        return errors.NameTaken(f"{where} this model. Delete it, or give the model another name.")

    async def _create(self, kind: Kind, wanted: Obj, owner: str) -> bool:
        await self._turn()
        try:
            created = await self._cluster.create(kind, wanted)
        except errors.AlreadyExists:
            return await self._meet(kind, wanted, owner)
        self._stores[kind.name].put(created)
        log.info("Created %s %s/%s.", kind.name, namespace(wanted), name(wanted))
        return True

    async def _meet(self, kind: Kind, wanted: Obj, owner: str) -> bool:
        """The name exists and the cache does not have it: read it, and find out whose it is."""
        if kind is kinds.CLAIM:
            # The namespace's, whoever made it: another model of the namespace, a moment ago, as a rule.
            return False
        live = await self._cluster.get(kind, namespace(wanted), name(wanted))
        if not self._is_ours(live, owner) and not self._is_lost_job(kind, wanted, live):
            raise self._not_ours(kind, wanted, live)
        if deleting(live):
            self._stores[kind.name].put(live)
            return False
        if kind.name in kinds.CREATE_ONLY:
            if self._labelled(live) and controller_uid(live):
                self._stores[kind.name].put(live)
                return False
            await self._label_again(kind, wanted, live)
            return True
        await self._apply(kind, wanted, uid(live), "the cache did not have it")
        return True

    async def _label_again(self, kind: Kind, wanted: Obj, live: Obj) -> None:
        """Put back the metadata that somebody took away.

        By a merge patch: an apply of metadata alone would take away the rest, which is immutable.
        """
        await self._turn()
        metadata = {"uid": uid(live), **{key: wanted["metadata"][key] for key in ("labels", "annotations")}}
        if not controller_uid(live):
            theirs = dig(live, "metadata", "ownerReferences", default=[])
            own = wanted["metadata"]["ownerReferences"]
            uids = {reference["uid"] for reference in own}
            metadata["ownerReferences"] = [*(one for one in theirs if one.get("uid") not in uids), *own]
        patched = await self._cluster.merge(kind, namespace(wanted), name(wanted), {"metadata": metadata})
        self._stores[kind.name].put(patched)
        log.info("Put labels and owner of %s %s/%s back.", kind.name, namespace(wanted), name(wanted))

    @staticmethod
    def _labelled(obj: Obj) -> bool:
        return bool(dig(obj, "metadata", "labels", names.LABEL_MANAGED_BY) == names.MANAGED_BY)

    async def _apply(self, kind: Kind, wanted: Obj, seen_uid: str, why: str) -> None:
        if seen_uid not in self._applied:
            await self._own_by_apply(kind, wanted, seen_uid)
        await self._turn()
        body = {**wanted, "metadata": {**wanted["metadata"], "uid": seen_uid}}
        self._stores[kind.name].put(await self._cluster.apply(kind, body))
        log.info("Applied %s %s/%s: %s.", kind.name, namespace(wanted), name(wanted), why)

    async def _own_by_apply(self, kind: Kind, wanted: Obj, seen_uid: str) -> None:
        live = await self._cluster.get(kind, namespace(wanted), name(wanted))
        if uid(live) != seen_uid:
            raise errors.Conflict(f"{kind.name} {name(wanted)!r} was deleted and made anew meanwhile.")
        upgraded = _as_apply(live["metadata"].get("managedFields") or [])
        if upgraded is not None:
            await self._turn()
            metadata = {
                "managedFields": upgraded,
                "uid": seen_uid,
                "resourceVersion": live["metadata"]["resourceVersion"],
            }
            await self._cluster.merge(kind, namespace(wanted), name(wanted), {"metadata": metadata})
        self._applied.add(seen_uid)

    async def remove(
        self, kind_name: str, of_namespace: str, of_name: str, of_uid: str, propagation: str, owner: str
    ) -> bool:
        """Delete this very object, after having looked at it once more. True when it was still there and
        ours."""
        kind = kinds.BY_NAME[kind_name]
        try:
            live = await self._cluster.get(kind, of_namespace, of_name)
        except errors.NotFound:
            self._stores[kind.name].remove(ObjectKey(of_namespace, of_name))
            return False
        if uid(live) != of_uid or deleting(live) or not self._is_ours(live, owner):
            self._stores[kind.name].put(live)
            return False
        await self._turn()
        try:
            await self._cluster.delete(kind, of_namespace, of_name, of_uid, propagation)
        except (errors.NotFound, errors.Conflict):
            return False
        log.info("Deleted %s %s/%s.", kind.name, of_namespace, of_name)
        return True

    async def annotate(
        self, kind_name: str, of_namespace: str, of_name: str, of_uid: str, key: str, value: str
    ) -> None:
        """Patch one annotation of this very object; one that is gone is none of our business any more."""
        kind = kinds.BY_NAME[kind_name]
        await self._turn()
        patch = {"metadata": {"uid": of_uid, "annotations": {key: value}}}
        try:
            self._stores[kind.name].put(await self._cluster.merge(kind, of_namespace, of_name, patch))
        except (errors.NotFound, errors.Conflict):
            log.info("%s %s/%s went away before it could be annotated.", kind.name, of_namespace, of_name)

    async def write_status(self, seen: Obj, wanted: Mapping[str, Any]) -> bool:
        """Make the status of this very object what is wanted. True when it was written."""
        kind = kinds.BY_NAME[seen["kind"]]
        patch = merge_patch(seen.get("status") or {}, _without_none(wanted))
        if not patch:
            return False
        await self._turn()
        body = {"metadata": {"uid": uid(seen)}, "status": patch}
        try:
            written = await self._cluster.merge(kind, namespace(seen), name(seen), body, "status")
        except errors.NotFound:
            return False  # Deleted meanwhile; the watch will say so.
        self._stores[kind.name].put(written)
        return True


def _is_of_former(wanted: Obj, seen: Obj) -> bool:
    """Whether the object's controller is a model of the wanted one's name, but another uid: one that is gone,
    because two of a name cannot be."""

    def owner(obj: Obj) -> tuple[Any, ...]:
        references = dig(obj, "metadata", "ownerReferences", default=[])
        controller: Obj = next((one for one in references if one.get("controller")), {})
        group = str(controller.get("apiVersion", "")).rpartition("/")[0]
        return group, controller.get("kind"), controller.get("name")

    return bool(controller_uid(seen)) and owner(seen) == owner(wanted)


def _without_none(value: Any) -> Any:
    """A merge patch takes null for "remove", so a status never holds one."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value]
    return value


def _as_apply(entries: list[Obj]) -> list[Obj] | None:
    """managedFields with our "Update" entry turned into an "Apply" one; `None` when there is nothing to
    turn."""

    def ours(entry: Obj, operation: str) -> bool:
        return (
            entry.get("manager") == names.FIELD_MANAGER
            and entry.get("operation") == operation
            and not entry.get("subresource")
        )

    if not any(ours(entry, "Update") for entry in entries):
        return None
    if any(ours(entry, "Apply") for entry in entries):
        # The apply already says which fields are ours; the other entry only keeps old ones alive.
        return [entry for entry in entries if not ours(entry, "Update")]
    return [{**entry, "operation": "Apply"} if ours(entry, "Update") else entry for entry in entries]
