"""The writer against a real API server: what is created, repaired, left alone, and refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from localcluster.control_plane import ControlPlane
from nlp_operator import errors
from nlp_operator.api import names
from nlp_operator.api.objects import Obj, uid
from nlp_operator.cluster import kinds
from nlp_operator.cluster.caches import Caches
from nlp_operator.cluster.client import Cluster, make_configuration
from nlp_operator.cluster.drift import drift
from nlp_operator.cluster.writer import Writer
from nlp_operator.engine.bucket import TokenBucket
from nlp_operator.engine.clock import system_clock
from nlp_operator.engine.store import ObjectKey


class Rig:
    """A writer with live caches of one namespace, and an owner for what it writes."""

    def __init__(self, cluster: Cluster, caches: Caches, namespace: str, owner: Obj) -> None:
        self.cluster = cluster
        self.caches = caches
        self.namespace = namespace
        self.owner = owner
        self.calls: list[str] = []
        clock = system_clock()
        bucket = TokenBucket(clock, per_second=1000, burst=1000)
        self.writer = Writer(cluster, caches.stores, bucket=bucket, fence=lambda: None)

    async def ensure(self, wanted: Obj) -> bool:
        return await self.writer.ensure(wanted, uid(self.owner))

    def cached(self, obj: Obj) -> Obj | None:
        return self.caches.stores[obj["kind"]].get(ObjectKey(self.namespace, obj["metadata"]["name"]))

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110  (many conditions, one way to wait)
                await asyncio.sleep(0.02)

    def make_map(self, data: dict[str, str], name: str = "thing", hash: str = "1") -> Obj:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_MODEL: "m"},
                "annotations": {names.ANNOTATION_HASH: hash},
                "ownerReferences": [
                    {
                        "apiVersion": "v1",
                        "kind": "ConfigMap",
                        "name": self.owner["metadata"]["name"],
                        "uid": uid(self.owner),
                        "controller": True,
                    }
                ],
            },
            "data": data,
        }


@asynccontextmanager
async def rig(control_plane: ControlPlane, namespace: str) -> AsyncIterator[Rig]:
    """The owner is a ConfigMap: the writer asks for a controller, not for its kind."""
    cluster = Cluster(await make_configuration(str(control_plane.kubeconfig)))
    caches = Caches(cluster, clock=system_clock(), namespaces=[namespace], store_claim="nlp-store")
    running = asyncio.ensure_future(caches.run())
    try:
        await asyncio.wait_for(caches.synced(), 20)
        owner = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "owner", "namespace": namespace},
        }
        yield Rig(cluster, caches, namespace, await cluster.create(kinds.CONFIG_MAP, owner))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await cluster.close()


def version(obj: Obj | None) -> str:
    assert obj is not None
    return str(obj["metadata"]["resourceVersion"])


async def test_an_object_that_is_as_wanted_is_not_written_again(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with rig(control_plane, namespace) as r:
        wanted = r.make_map({"a": "1"})
        assert await r.ensure(wanted)
        assert not await r.ensure(wanted)


async def test_a_hand_edited_field_is_repaired_and_a_foreign_one_kept(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with rig(control_plane, namespace) as r:
        wanted = r.make_map({"a": "1"})
        await r.ensure(wanted)
        control_plane.kubectl("-n", namespace, "label", "cm", "thing", "team=blue")
        control_plane.kubectl(
            "-n", namespace, "patch", "cm", "thing", "-p", '{"data": {"a": "hacked", "b": "x"}}'
        )
        await r.until(lambda: (r.cached(wanted) or {}).get("data", {}).get("a") == "hacked")
        assert await r.ensure(wanted)
        live = await r.cluster.get(kinds.CONFIG_MAP, namespace, "thing")
        assert live["data"] == {"a": "1", "b": "x"}
        assert live["metadata"]["labels"]["team"] == "blue"
        assert not await r.ensure(wanted)


async def test_a_field_that_a_new_manifest_no_longer_has_goes_away(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A POST owns its fields as an update, which an apply alone would not take away."""
    async with rig(control_plane, namespace) as r:
        await r.ensure(r.make_map({"a": "1", "old": "x"}, hash="1"))
        await r.ensure(r.make_map({"a": "1"}, hash="2"))
        live = await r.cluster.get(kinds.CONFIG_MAP, namespace, "thing")
        assert live["data"] == {"a": "1"}
        managers = [(entry["manager"], entry["operation"]) for entry in live["metadata"]["managedFields"]]
        assert managers == [(names.FIELD_MANAGER, "Apply")]


async def test_an_object_of_somebody_else_is_never_adopted(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with rig(control_plane, namespace) as r:
        control_plane.kubectl("-n", namespace, "create", "cm", "thing", "--from-literal=a=theirs")
        with pytest.raises(errors.NameTaken, match="ConfigMap 'thing' exists in namespace"):
            await r.ensure(r.make_map({"a": "1"}))
        live = await r.cluster.get(kinds.CONFIG_MAP, namespace, "thing")
        assert live["data"] == {"a": "theirs"}
        assert "labels" not in live["metadata"]


async def test_an_object_that_only_wears_our_labels_is_not_ours(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with rig(control_plane, namespace) as r:
        wanted = r.make_map({"a": "1"})
        stranger = {**wanted, "metadata": {**wanted["metadata"], "ownerReferences": []}}
        await r.cluster.create(kinds.CONFIG_MAP, stranger)
        await r.until(lambda: r.cached(wanted))
        with pytest.raises(errors.NameTaken):
            await r.ensure(wanted)


async def test_stripped_labels_and_owner_are_put_back(control_plane: ControlPlane, namespace: str) -> None:
    async with rig(control_plane, namespace) as r:
        wanted = r.make_map({"a": "1"})
        await r.ensure(wanted)
        patch = [{"op": "remove", "path": f"/metadata/{field}"} for field in ("labels", "ownerReferences")]
        control_plane.kubectl("-n", namespace, "patch", "cm", "thing", "--type=json", "-p", json.dumps(patch))
        await r.until(lambda: r.cached(wanted) is None)
        assert await r.ensure(wanted)
        live = await r.cluster.get(kinds.CONFIG_MAP, namespace, "thing")
        assert drift(wanted, live) is None


async def test_an_object_made_anew_under_the_same_name_is_not_touched(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The cache still shows ours; the server has a stranger of that name. The uid tells them apart."""
    async with rig(control_plane, namespace) as r:
        wanted = r.make_map({"a": "1"})
        await r.ensure(wanted)
        await r.ensure(r.make_map({"a": "2"}, hash="2"))
        # The cache is frozen at this moment by taking it out of the watch's reach.
        stale = r.cached(wanted)
        assert stale is not None
        control_plane.kubectl("-n", namespace, "delete", "cm", "thing")
        control_plane.kubectl("-n", namespace, "create", "cm", "thing", "--from-literal=a=theirs")
        await r.until(lambda: r.cached(wanted) is None)
        store = r.caches.stores["ConfigMap"]
        store._set(ObjectKey(namespace, "thing"), None, stale)
        with pytest.raises(errors.Conflict):
            await r.ensure(r.make_map({"a": "3"}, hash="3"))
        live = await r.cluster.get(kinds.CONFIG_MAP, namespace, "thing")
        assert live["data"] == {"a": "theirs"}


async def test_a_deletion_spares_what_was_made_anew_since(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with rig(control_plane, namespace) as r:
        wanted = r.make_map({"a": "1"})
        await r.ensure(wanted)
        old = await r.cluster.get(kinds.CONFIG_MAP, namespace, "thing")
        control_plane.kubectl("-n", namespace, "delete", "cm", "thing")
        await r.until(lambda: r.cached(wanted) is None)
        await r.ensure(wanted)
        assert not await r.writer.remove(
            "ConfigMap", namespace, "thing", uid(old), "Background", uid(r.owner)
        )
        new = await r.cluster.get(kinds.CONFIG_MAP, namespace, "thing")
        assert await r.writer.remove("ConfigMap", namespace, "thing", uid(new), "Background", uid(r.owner))
        with pytest.raises(errors.NotFound):
            await r.cluster.get(kinds.CONFIG_MAP, namespace, "thing")


def make_job(r: Rig) -> Obj:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": r.make_map({})["metadata"],
        "spec": {
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "main", "image": "nowhere/nothing:1"}],
                }
            }
        },
    }


async def test_a_job_is_created_and_never_changed(control_plane: ControlPlane, namespace: str) -> None:
    async with rig(control_plane, namespace) as r:
        job = make_job(r)
        assert await r.ensure(job)
        changed = {**job, "metadata": {**job["metadata"], "annotations": {names.ANNOTATION_HASH: "2"}}}
        assert not await r.ensure(changed)


async def test_a_job_without_its_labels_is_labelled_again_and_otherwise_left_alone(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with rig(control_plane, namespace) as r:
        job = make_job(r)
        await r.ensure(job)
        patch = [{"op": "remove", "path": f"/metadata/{field}"} for field in ("labels", "ownerReferences")]
        control_plane.kubectl(
            "-n", namespace, "patch", "job", "thing", "--type=json", "-p", json.dumps(patch)
        )
        await r.until(lambda: r.cached(job) is None)
        assert await r.ensure(job)
        await r.until(lambda: r.cached(job))
        assert drift(job, await r.cluster.get(kinds.JOB, namespace, "thing")) is None
        assert not await r.ensure(job)


async def test_a_job_whose_owner_was_stripped_while_nobody_watched_gets_it_back(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with rig(control_plane, namespace) as r:
        job = make_job(r)
        stripped = {**job, "metadata": {**job["metadata"], "ownerReferences": []}}
        await r.cluster.create(kinds.JOB, stripped)
        await r.until(lambda: r.cached(job))
        assert await r.ensure(job)
        live = await r.cluster.get(kinds.JOB, namespace, "thing")
        assert [one["uid"] for one in live["metadata"]["ownerReferences"]] == [uid(r.owner)]
        assert not await r.ensure(job)


async def test_a_job_with_another_hash_and_no_owner_is_a_stranger(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with rig(control_plane, namespace) as r:
        job = make_job(r)
        metadata = {**job["metadata"], "ownerReferences": [], "annotations": {names.ANNOTATION_HASH: "other"}}
        await r.cluster.create(kinds.JOB, {**job, "metadata": metadata})
        await r.until(lambda: r.cached(job))
        with pytest.raises(errors.NameTaken):
            await r.ensure(job)


@pytest.mark.parametrize("cached", [True, False], ids=["in the cache", "not in the cache"])
async def test_what_belongs_to_a_former_owner_of_that_name_is_on_its_way_out(
    control_plane: ControlPlane, namespace: str, cached: bool
) -> None:
    async with rig(control_plane, namespace) as r:
        wanted = r.make_map({"a": "1"})
        former = [{**wanted["metadata"]["ownerReferences"][0], "uid": "11111111-2222-3333-4444-555555555555"}]
        metadata = {**wanted["metadata"], "ownerReferences": former}
        # A finalizer keeps it, however quick the garbage collector is.
        metadata["finalizers"] = ["nlp-operator.io/test"]
        if not cached:
            del metadata["labels"]
        await r.cluster.create(kinds.CONFIG_MAP, {**wanted, "metadata": metadata})
        if cached:
            await r.until(lambda: r.cached(wanted))
        with pytest.raises(errors.Leaving, match=r"ConfigMap 'thing' in namespace .* is on its way out"):
            await r.ensure(wanted)
        control_plane.kubectl(
            "-n", namespace, "patch", "cm", "thing", "-p", '{"metadata": {"finalizers": null}}'
        )


async def test_a_stranger_that_is_being_deleted_is_waited_for(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with rig(control_plane, namespace) as r:
        wanted = r.make_map({"a": "1"})
        metadata = {"name": "thing", "namespace": namespace, "finalizers": ["nlp-operator.io/test"]}
        await r.cluster.create(
            kinds.CONFIG_MAP, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        )
        control_plane.kubectl("-n", namespace, "delete", "cm", "thing", "--wait=false")
        with pytest.raises(errors.Leaving):
            await r.ensure(wanted)
        control_plane.kubectl(
            "-n", namespace, "patch", "cm", "thing", "-p", '{"metadata": {"finalizers": null}}'
        )


async def test_every_refusal_is_an_error_of_its_own_kind(control_plane: ControlPlane, namespace: str) -> None:
    async with rig(control_plane, namespace) as r:
        invalid = r.make_map({"not a key!": "x"})
        with pytest.raises(errors.AdmissionRefused, match="not a key!"):
            await r.ensure(invalid)
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "root", "namespace": namespace},
            "spec": {"containers": [{"name": "main", "image": "x"}]},
        }
        with pytest.raises(errors.AdmissionRefused, match="violates PodSecurity"):
            await r.cluster.create(kinds.POD, pod)
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "none", "namespace": namespace},
            "spec": {"hard": {"count/services": "0"}},
        }
        control_plane.apply(quota)
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "s", "namespace": namespace},
            "spec": {"ports": [{"port": 80}]},
        }
        await r.until(
            lambda: control_plane.api.get(f"/api/v1/namespaces/{namespace}/resourcequotas/none").get("status")
        )
        with pytest.raises(errors.AdmissionRefused, match="exceeded quota"):
            await r.cluster.create(kinds.SERVICE, service)
        with pytest.raises(errors.NotFound):
            await r.cluster.get(kinds.SERVICE, namespace, "nobody")


async def test_a_terminating_namespace_is_told_apart(control_plane: ControlPlane, namespace: str) -> None:
    async with rig(control_plane, namespace) as r:
        # A finalizer keeps the namespace terminating for as long as the test looks at it.
        patch = '{"metadata": {"finalizers": ["nlp-operator.io/test"]}}'
        control_plane.kubectl("-n", namespace, "patch", "cm", "owner", "-p", patch)
        control_plane.kubectl("delete", "ns", namespace, "--wait=false")
        with pytest.raises(errors.NamespaceTerminating):
            await r.ensure(r.make_map({"a": "1"}))
        control_plane.kubectl(
            "-n", namespace, "patch", "cm", "owner", "-p", '{"metadata": {"finalizers": null}}'
        )


async def test_a_token_without_rights_is_forbidden(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("-n", namespace, "create", "serviceaccount", "nobody")
    kubeconfig = control_plane.kubeconfig_for(f"{namespace}/nobody")
    cluster = Cluster(await make_configuration(str(kubeconfig)))
    try:
        with pytest.raises(errors.Forbidden, match="cannot get resource"):
            await cluster.get(kinds.SERVICE, namespace, "x")
    finally:
        await cluster.close()


async def test_an_api_server_that_is_away_is_unreachable(control_plane: ControlPlane) -> None:
    configuration = await make_configuration(str(control_plane.kubeconfig))
    configuration.host = "https://127.0.0.1:1"
    cluster = Cluster(configuration)
    try:
        with pytest.raises(errors.Unreachable, match=r"did not answer \(get services\)"):
            await cluster.get(kinds.SERVICE, "default", "x")
    finally:
        await cluster.close()
