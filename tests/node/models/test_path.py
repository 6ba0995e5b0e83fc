"""From `kubectl apply` to an answer, and what must not stop the answers: real kubelet, real Jobs, real
Triton."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from localcluster.cluster import Cluster
from tests.faults.audit import service_account
from tests.faults.invariants import (
    i2_serving_without_gap,
    i3_one_active_job,
    i5_only_own_objects,
    i6_ready_means_served,
    i6_status_never_lies,
    served_by_endpoints,
)
from tests.faults.prober import HttpAsk, text
from tests.faults.recorder import Recorder
from tests.node.models.place import MODEL, POOL, ROOT, SAMPLE, Place, until

LUCKY_DAY = "운수 좋은 날"
COUNTS = [2.0, 1.0, 1.0]
"""The document vector of 운수 좋은 날: how often 기차, 막걸리 and 선술집 occur in it."""
FREQUENCIES = [0.0909, 0.0455, 0.0455]
"""The same counts divided by the 22 words of the document."""
OPERATOR = service_account("nlp-system", "nlp-operator")


def stop_operator(cluster: Cluster) -> None:
    cluster.kubectl("-n", "nlp-system", "scale", "deployment/nlp-operator", "--replicas=0")
    label = "app.kubernetes.io/name=nlp-operator"
    path = "/api/v1/namespaces/nlp-system/pods"
    until(lambda: not cluster.api.get(path, labelSelector=label)["items"], "the operator is gone")


def start_operator(cluster: Cluster) -> None:
    cluster.kubectl("-n", "nlp-system", "scale", "deployment/nlp-operator", "--replicas=1")
    cluster.kubectl("rollout", "status", "-n", "nlp-system", "deployment/nlp-operator", "--timeout=120s")


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_documents_example_is_answered_through_the_service(serving: Place, protocol: str) -> None:
    assert serving.vector(LUCKY_DAY, protocol=protocol) == COUNTS
    assert serving.vector("막걸리", "word_vector", protocol) == [0, 1, 0, 0]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("via", ["service", "forward"])
def test_nlpctl_asks_through_the_service_and_through_a_forward(
    serving: Place, via: str, protocol: str
) -> None:
    """The Service's address from the node's own network; the forward from wherever the API server is
    reached."""
    words = [
        "infer",
        MODEL,
        LUCKY_DAY,
        "-n",
        serving.namespace,
        "--via",
        via,
        "--protocol",
        protocol,
        "--json",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "nlpctl", *words],
        env={**os.environ, "KUBECONFIG": str(serving.cluster.kubeconfig)},
        cwd=ROOT / "operator",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["outputs"]["document_vector"]["data"] == COUNTS
    assert (answer["via"], answer["protocol"]) == (via, protocol)


def test_words_and_novels_are_as_near_as_the_document_says(serving: Place) -> None:
    def similarity(one: str, other: str) -> float:
        inputs = {"text": text(one), "text_pair": text(other)}
        ask = HttpAsk(serving.address(8000), MODEL, inputs)
        try:
            return float(ask()["similarity"].ravel()[0])
        finally:
            ask.close()

    assert similarity("막걸리", "선술집") == pytest.approx(1.0, abs=1e-5)
    assert similarity("막걸리", "선술집") > similarity("막걸리", "기차")
    assert similarity("사랑 손님과 어머니", "삼포 가는 길") > similarity(LUCKY_DAY, "삼포 가는 길")


def test_a_model_counts_its_own_documents_in_the_words_of_another(place: Place) -> None:
    """The second is applied first; its documents are counted in the three words of the sample."""
    data = {"reviews.tsv": "document\ttext\n어제\t기차 소리 기차 선술집\n"}
    place.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "reviews"}, "data": data})
    words = {"name": "vocabulary", "source": {"nlpModel": {"name": MODEL}}}
    corpus = {"name": "corpus", "source": {"configMap": {"name": "reviews"}}}
    place.apply_model({}, "reviews", {"inputs": [corpus, words]})
    place.wait_for("Built", "Unknown", "DependencyMissing", name="reviews")
    place.apply_sample()
    place.wait_ready("reviews")
    answer = place.ask("어제", name="reviews")["document_vector"].ravel()
    assert [float(number) for number in answer] == [2, 0, 1]


def test_pod_security_restricted_has_nothing_to_warn_of(place: Place) -> None:
    """Enforced, warned of and audited in this namespace: a violation shows in kubectl or in the audit log."""
    printed = place.kubectl("apply", "-f", str(SAMPLE))
    place.patch_model({"placement": {"poolNames": [POOL]}})
    place.wait_ready()

    assert "Warning" not in printed
    with place.cluster.audit_log.open(encoding="utf-8") as log:
        lines = [line for line in log if f'"namespace":"{place.namespace}"' in line]
    pods = [line for line in lines if '"resource":"pods"' in line and '"verb":"create"' in line]
    assert len(pods) >= 3  # fetch, build and server were judged
    for line in lines:
        annotations = json.loads(line).get("annotations", {})
        assert "pod-security.kubernetes.io/audit-violations" not in annotations
        assert "pod-security.kubernetes.io/enforce-policy" not in annotations or (
            annotations["pod-security.kubernetes.io/enforce-policy"] == "restricted:latest"
        )


def test_every_moment_from_apply_to_ready_is_true(place: Place) -> None:
    mark = place.audit.mark()
    with Recorder(place.cluster.kubeconfig, namespace=place.namespace) as recorder:
        place.apply_sample()
        place.wait_ready()
        recorder.wait_until_reached(int(place.model()["metadata"]["resourceVersion"]), "NLPModel")

    assert i6_status_never_lies(recorder) == []
    assert i6_ready_means_served(recorder, served_by_endpoints(recorder)) == []
    assert i3_one_active_job(recorder) == []
    mine = [entry for entry in place.audit.entries(mark) if entry.namespace == place.namespace]
    assert i5_only_own_objects(mine, recorder, OPERATOR) == []
    transitions = recorder.transitions("NLPModel", MODEL, place.namespace, "Ready")
    assert [one.reason for one in transitions][-1] == "Serving"
    assert [one.status for one in transitions].count("True") == 1  # it never fell back


def test_a_cached_artifact_is_served_soon(serving: Place) -> None:
    """A second model of the same bytes finds its sources and artifact in the store. The demo measures; here
    it is only checked that nothing is built again: the fetch says so, and there is no build Job."""
    serving.apply_sample("cached")
    serving.wait_ready("cached", seconds=60)

    assert serving.digest("cached") == serving.digest()
    log = serving.kubectl("logs", "-l", "app.kubernetes.io/component=fetch,nlp-operator.io/model=cached")
    assert f"is in the store already: artifact {serving.digest()}" in log
    assert serving.jobs_created("build", "cached") == []
    serving.kubectl("delete", "nlp/cached")


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_no_request_fails_while_the_operator_is_away_and_comes_back(serving: Place, protocol: str) -> None:
    cluster = serving.cluster
    with serving.prober(LUCKY_DAY, [COUNTS], protocol, per_second=25) as prober:
        prober.wait_for_success(timeout_seconds=15)
        stop_operator(cluster)
        start_operator(cluster)
        prober.wait_for_success(timeout_seconds=15)
    prober.assert_served(at_least=40)


def test_no_request_fails_while_a_new_version_takes_over(serving: Place) -> None:
    """The artifact changes under load, over both protocols: counts become frequencies, in the same pod."""
    before, pod = serving.digest(), serving.server_pod()
    allowed = [COUNTS, FREQUENCIES]
    with (
        Recorder(serving.cluster.kubeconfig, namespace=serving.namespace) as recorder,
        serving.prober(LUCKY_DAY, allowed, "http", per_second=25) as over_http,
        serving.prober(LUCKY_DAY, allowed, "grpc", per_second=25) as over_grpc,
    ):
        over_http.wait_for_success(timeout_seconds=15)
        over_grpc.wait_for_success(timeout_seconds=15)
        serving.patch_model({"build": {"termDocumentMatrix": {"weighting": "TermFrequency"}}})
        serving.wait_serving(before)
        over_http.wait_for_success(timeout_seconds=15)
    over_http.assert_served(at_least=40)
    over_grpc.assert_served(at_least=40)

    assert [round(number, 4) for number in serving.vector(LUCKY_DAY)] == FREQUENCIES
    assert serving.server_pod()["metadata"]["uid"] == pod["metadata"]["uid"]
    assert i2_serving_without_gap(recorder, serving.namespace, MODEL) == []
    assert i6_status_never_lies(recorder) == []
    middle = serving.digest()
    serving.patch_model({"build": {"termDocumentMatrix": {"weighting": "Count"}}})
    serving.wait_serving(middle)
    assert serving.digest() == before  # the same build has the same digest


def test_a_killed_backend_is_reloaded_in_the_same_pod(serving: Place) -> None:
    pod = serving.server_pod()

    def stubs() -> list[int]:
        return serving.processes(pod, "triton_python_backend_stub")

    until(
        lambda: len(stubs()) == 1,
        "Triton runs the model in one stub process; that of the version before ended",
    )
    (stub,) = stubs()
    with serving.prober(LUCKY_DAY, [COUNTS], "http", per_second=10) as prober:
        prober.wait_for_success(timeout_seconds=15)
        os.kill(stub, signal.SIGKILL)
        until(lambda: set(stubs()) - {stub}, "the agent has the backend started again")
        prober.wait_for_success(timeout_seconds=30)
    serving.wait_ready()

    after = serving.server_pod()
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert [status["restartCount"] for status in after["status"]["containerStatuses"]] == [0]


def test_a_pod_deleted_while_the_operator_is_away_comes_back_and_answers(serving: Place) -> None:
    cluster = serving.cluster
    stop_operator(cluster)
    try:
        gone = serving.server_pod()["metadata"]
        serving.kubectl("delete", "pod", gone["name"], "--wait=true")
        # Fresh connections: the old pod's are closed, and a client finds the new one through the Service.
        with serving.prober(LUCKY_DAY, [COUNTS], "http", per_second=5, fresh_connections=True) as prober:
            prober.wait_for_success(timeout_seconds=90)
        assert serving.server_pod()["metadata"]["uid"] != gone["uid"]
    finally:
        start_operator(cluster)
    serving.wait_ready()


def test_changed_bytes_and_a_new_trigger_give_a_new_digest_and_unchanged_ones_no_build(place: Place) -> None:
    novels = "document\ttext\none\t기차 기차 막걸리\ntwo\t선술집\n"
    folder = place.make_claim("datasets", {"novels/novels.tsv": novels.encode()})
    source = {"persistentVolumeClaim": {"claimName": "datasets", "path": "novels"}}
    place.apply_model(source, build={"trigger": "first"})
    place.wait_ready()
    first = place.digest()
    assert len(place.jobs_created("build")) == 1

    place.patch_model({"build": {"trigger": "second"}})
    until(lambda: place.model()["status"]["artifact"].get("trigger") == "second", "the inputs are read again")
    place.wait_ready()
    assert place.digest() == first
    assert len(place.jobs_created("fetch")) == 2
    assert len(place.jobs_created("build")) == 1

    (folder / "novels" / "novels.tsv").write_text(novels + "three\t기차\n", encoding="utf-8")
    place.patch_model({"build": {"trigger": "third"}})
    place.wait_serving(first)
    assert place.vector("기차", "word_vector") == [2, 0, 1]
    assert len(place.jobs_created("build")) == 2
