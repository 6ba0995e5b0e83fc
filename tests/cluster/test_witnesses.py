"""The witnesses against a real API server: a witness that misses things would let every later test lie."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from localcluster.control_plane import ControlPlane
from tests.faults.audit import AuditLog, Entry, service_account
from tests.faults.invariants import builds_started, end_state, i1_same_end_state, i3_one_active_job
from tests.faults.plain_api import CONFIG_MAP, JOB, POD, ApiError, PlainApi, Resource
from tests.faults.recorder import Recorder, RecordingGap

PLAIN_KINDS = (CONFIG_MAP, JOB, POD)
RESOURCE_QUOTA = Resource("ResourceQuota", "resourcequotas")
"""A kind that a writer with the ClusterRole `edit` may read and not write."""


def make_quota(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {}}


def make_config_map(name: str, value: str = "1") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value}}


def make_job(name: str, owner: dict[str, Any], component: str = "build") -> dict[str, Any]:
    """A Job controlled by an object, as the operator makes them; kwok lets its pod succeed at once."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/component": component},
            "annotations": {"nlp-operator.io/build-key": "k1"},
            "ownerReferences": [
                {
                    "apiVersion": owner["apiVersion"],
                    "kind": owner["kind"],
                    "name": owner["metadata"]["name"],
                    "uid": owner["metadata"]["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": {
            "suspend": True,
            "template": {
                "spec": {"restartPolicy": "Never", "containers": [{"name": "build", "image": "none"}]}
            },
        },
    }


@pytest.fixture
def api(control_plane: ControlPlane) -> Iterator[PlainApi]:
    with PlainApi(control_plane.kubeconfig) as api:
        yield api


# -- the audit log -----------------------------------------------------------------------------------------


def test_the_audit_log_names_every_write_of_a_service_account(
    control_plane: ControlPlane, namespace: str, api: PlainApi
) -> None:
    api.create(
        Resource("ServiceAccount", "serviceaccounts"),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "writer"}},
        namespace,
    )
    control_plane.kubectl(
        "create",
        "rolebinding",
        "writer",
        "--clusterrole=edit",
        f"--serviceaccount={namespace}:writer",
        f"--namespace={namespace}",
    )
    log = AuditLog(control_plane.audit_log)
    mark = log.mark()
    user = service_account(namespace, "writer")

    with PlainApi(control_plane.kubeconfig_for(f"{namespace}/writer")) as writer:
        writer.create(CONFIG_MAP, make_config_map("one"), namespace)
        writer.patch(CONFIG_MAP, "one", {"data": {"value": "2"}}, namespace)
        writer.get(CONFIG_MAP, "one", namespace)
        with pytest.raises(ApiError, match="already exists"):
            writer.create(CONFIG_MAP, make_config_map("one"), namespace)
        with pytest.raises(ApiError, match="is forbidden"):
            writer.create(RESOURCE_QUOTA, make_quota("mine"), namespace)
        writer.delete(CONFIG_MAP, "one", namespace)

    entries = log.wait_for(
        lambda found: any(entry.user == user and entry.verb == "delete" for entry in found), since=mark
    )
    mine = [entry for entry in entries if entry.user == user]
    assert [(entry.verb, entry.kind, entry.name, entry.code) for entry in mine] == [
        ("create", "configmaps", "one", 201),
        ("patch", "configmaps", "one", 200),
        ("get", "configmaps", "one", 200),
        ("create", "configmaps", "one", 409),
        ("create", "resourcequotas", "", 403),  # refused before its body is read
        ("delete", "configmaps", "one", 200),
    ]
    assert [entry.verb for entry in log.writes(mark, user=user)] == ["create", "patch", "delete"]
    assert mine[0].response is not None
    assert mine[0].response["metadata"]["namespace"] == namespace


def test_a_server_side_apply_that_changes_nothing_counts_as_a_write(
    control_plane: ControlPlane, namespace: str, api: PlainApi
) -> None:
    log = AuditLog(control_plane.audit_log)
    mark = log.mark()
    manifest = {**make_config_map("same"), "metadata": {"name": "same", "namespace": namespace}}

    versions = {
        api.request(
            "PATCH",
            CONFIG_MAP.path(namespace, "same"),
            manifest,
            query={"fieldManager": "test", "force": "true"},
            content_type="application/apply-patch+yaml",
        )["metadata"]["resourceVersion"]
        for _ in range(3)
    }

    def applied(found: list[Entry]) -> bool:
        return sum(entry.name == "same" and entry.verb == "patch" for entry in found) == 3

    log.wait_for(applied, since=mark)
    assert len(versions) == 1
    assert len(log.writes(mark, namespace=namespace, name="same")) == 3


# -- the recorder ------------------------------------------------------------------------------------------


def test_the_recorder_sees_every_version_in_order(
    control_plane: ControlPlane, namespace: str, api: PlainApi
) -> None:
    api.create(CONFIG_MAP, make_config_map("before"), namespace)
    with Recorder(control_plane.kubeconfig, PLAIN_KINDS, namespace=namespace) as recorder:
        written = [api.create(CONFIG_MAP, make_config_map("one", "0"), namespace)]
        written += [
            api.patch(CONFIG_MAP, "one", {"data": {"value": str(number)}}, namespace)
            for number in range(1, 50)
        ]
        api.delete(CONFIG_MAP, "one", namespace)
        recorder.wait_for(lambda seen: [v for v in seen.versions("ConfigMap", "one") if v.deleted])

    history = recorder.versions("ConfigMap", "one", namespace)
    assert [version.object["data"]["value"] for version in history] == [*map(str, range(50)), "49"]
    assert [str(version.number) for version in history[:-1]] == [
        body["metadata"]["resourceVersion"] for body in written
    ]
    assert [version.event for version in history] == ["ADDED", *["MODIFIED"] * 49, "DELETED"]
    assert recorder.now("ConfigMap", "one", namespace) is None
    assert [version.event for version in recorder.versions("ConfigMap", "before")] == ["LISTED"]


def test_the_recorder_tells_the_transitions_of_a_condition(
    control_plane: ControlPlane, namespace: str, api: PlainApi
) -> None:
    job = make_job("one", api.create(CONFIG_MAP, make_config_map("owner"), namespace))
    with Recorder(control_plane.kubeconfig, PLAIN_KINDS, namespace=namespace) as recorder:
        api.create(JOB, job, namespace)

        def suspended(seen: Recorder) -> bool:
            transitions = seen.transitions("Job", "one", namespace, "Suspended")
            return [one.status for one in transitions] == [None, "True"]

        recorder.wait_for(suspended, what="the Job to be Suspended")

    last = recorder.transitions("Job", "one", namespace, "Suspended")[-1]
    assert (last.reason, last.message) == ("JobSuspended", "Job suspended")


def test_waiting_for_a_version_proves_that_the_recorder_is_not_behind(
    control_plane: ControlPlane, namespace: str, api: PlainApi
) -> None:
    with Recorder(control_plane.kubeconfig, [CONFIG_MAP], namespace=namespace) as recorder:
        made = api.create(CONFIG_MAP, make_config_map("one"), namespace)
        recorder.wait_until_reached(int(made["metadata"]["resourceVersion"]), "ConfigMap")

        assert recorder.now("ConfigMap", "one", namespace) is not None


def test_the_recorder_times_out_with_what_it_waited_for(control_plane: ControlPlane, namespace: str) -> None:
    with (
        Recorder(control_plane.kubeconfig, [CONFIG_MAP], namespace=namespace) as recorder,
        pytest.raises(TimeoutError, match=r"did not see a miracle within 0\.2 s"),
    ):
        recorder.wait_for(lambda seen: None, timeout_seconds=0.2, what="a miracle")


def test_a_kind_that_the_server_does_not_know_is_said_at_once(control_plane: ControlPlane) -> None:
    unknown = Resource("Unicorn", "unicorns", "v1", "example.org")
    with (
        pytest.raises(RecordingGap, match="Listing unicorns gave 404"),
        Recorder(control_plane.kubeconfig, [unknown]),
    ):
        pass


def test_the_recorder_misses_nothing_while_the_api_server_is_away() -> None:
    """Its own API server, because it takes it away. Versions written in the first moments after it is back
    count."""
    with ControlPlane.start() as cluster, PlainApi(cluster.kubeconfig) as api:
        with Recorder(cluster.kubeconfig, [CONFIG_MAP], namespace="default") as recorder:
            api.create(CONFIG_MAP, make_config_map("one", "before"), "default")
            cluster.stop_apiserver()
            api.close()
            cluster.start_apiserver()
            for number in range(20):
                api.patch(CONFIG_MAP, "one", {"data": {"value": str(number)}}, "default")
            recorder.wait_for(
                lambda seen: (
                    (now := seen.now("ConfigMap", "one", "default")) is not None
                    and now.object["data"]["value"] == "19"
                )
            )
        values = [v.object["data"]["value"] for v in recorder.versions("ConfigMap", "one")]
        assert values == ["before", *map(str, range(20))]


def test_a_gap_makes_every_question_fail() -> None:
    """After a compaction no one has the versions: no claim about them can be made."""
    with (
        ControlPlane.start(apiserver_flags={"etcd-compaction-interval": "1s"}) as cluster,
        PlainApi(cluster.kubeconfig) as api,
    ):
        first = api.create(CONFIG_MAP, make_config_map("one"), "default")["metadata"]["resourceVersion"]
        api.patch(CONFIG_MAP, "one", {"data": {"value": "2"}}, "default")
        wait_until_compacted(api, first)
        cluster.stop_apiserver()
        api.close()
        cluster.start_apiserver()
        with Recorder(cluster.kubeconfig, [CONFIG_MAP], since=int(first)) as recorder:
            with pytest.raises(RecordingGap, match=r"not complete: Revision \d+ of configmaps is gone"):
                recorder.wait_for(lambda seen: seen.versions("ConfigMap", "none"), what="the gap")
            with pytest.raises(RecordingGap):
                recorder.versions()


def wait_until_compacted(api: PlainApi, revision: str) -> None:
    """The API server compacts etcd on its own clock; an exact list of an old revision tells when it has."""
    deadline = time.monotonic() + 60
    query = {"resourceVersion": revision, "resourceVersionMatch": "Exact"}
    while time.monotonic() < deadline:
        # Compaction keeps the last interval's revisions, so there must be newer ones.
        api.patch(CONFIG_MAP, "one", {"data": {"value": str(time.monotonic())}}, "default")
        try:
            api.request("GET", CONFIG_MAP.path("default"), query=query)
        except ApiError as error:
            if error.code == 410:
                return
            raise
        time.sleep(0.2)
    raise TimeoutError("The API server did not compact etcd within 60 s.")


def test_recording_from_a_version_gives_what_was_stored_after_it(
    control_plane: ControlPlane, namespace: str, api: PlainApi
) -> None:
    first = api.create(CONFIG_MAP, make_config_map("first"), namespace)
    api.create(CONFIG_MAP, make_config_map("second"), namespace)
    start = int(first["metadata"]["resourceVersion"])
    with Recorder(control_plane.kubeconfig, [CONFIG_MAP], namespace=namespace, since=start) as recorder:
        recorder.wait_for(lambda seen: seen.now("ConfigMap", "second", namespace))
        assert recorder.versions("ConfigMap", "first") == []


# -- invariants that need a real history -------------------------------------------------------------------


def test_two_jobs_of_one_owner_at_once_violate_i3(
    control_plane: ControlPlane, namespace: str, api: PlainApi
) -> None:
    owner = api.create(CONFIG_MAP, make_config_map("owner"), namespace)
    other = api.create(CONFIG_MAP, make_config_map("other"), namespace)
    with Recorder(control_plane.kubeconfig, PLAIN_KINDS, namespace=namespace) as recorder:
        api.create(JOB, make_job("first", owner), namespace)
        api.create(JOB, make_job("apart", other), namespace)
        recorder.wait_for(lambda seen: len(seen.latest("Job")) == 2)
        assert i3_one_active_job(recorder) == []

        api.create(JOB, make_job("second", owner), namespace)
        recorder.wait_for(lambda seen: len(seen.latest("Job")) == 3)

    (violation,) = i3_one_active_job(recorder)
    assert "second" in violation
    assert "['first']" in violation
    assert builds_started(recorder) == {"k1": 3}


def test_the_same_objects_in_two_namespaces_are_the_same_end_state(
    control_plane: ControlPlane, namespace: str, api: PlainApi
) -> None:
    twin = f"{namespace}-twin"
    control_plane.kubectl("create", "namespace", twin)
    states = []
    for place in (namespace, twin):
        with Recorder(control_plane.kubeconfig, [CONFIG_MAP], namespace=place) as recorder:
            recorder.wait_for(lambda seen: seen.latest("ConfigMap"), what="kube-root-ca.crt")
            api.create(CONFIG_MAP, make_config_map("one"), place)
            recorder.wait_for(lambda seen: len(seen.latest("ConfigMap")) == 2)
            states.append(end_state(recorder.latest(), rename=lambda text: text.replace(twin, namespace)))
    assert i1_same_end_state(*states) == []

    api.patch(CONFIG_MAP, "one", {"data": {"value": "7"}}, twin)
    api.create(CONFIG_MAP, make_config_map("left"), twin)
    with Recorder(control_plane.kubeconfig, [CONFIG_MAP], namespace=twin) as recorder:
        changed = end_state(recorder.latest(), rename=lambda text: text.replace(twin, namespace))
    assert i1_same_end_state(states[0], changed) == [
        f"('ConfigMap', '{namespace}', 'left') should not exist",
        f"('ConfigMap', '{namespace}', 'one'): data.value is '7', was '1' without faults",
    ]
    control_plane.kubectl("delete", "namespace", twin, "--wait=false")
