"""A model that sleeps, with a real kube-proxy, kubelet and Triton: who asks by its Service is held and
answered, over HTTP and gRPC, and nothing fails while it wakes and its Service is led back to its pod."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from localcluster.cluster import Cluster
from tests.faults.plain_api import Obj
from tests.faults.prober import GrpcAsk, HttpAsk, Prober, Tensors, text
from tests.node.models.install import letting_sleep, set_for_a_while
from tests.node.models.place import MODEL, Place, until

SLICE_OF = "endpointslice.kubernetes.io/managed-by"
QUESTION, ANSWER = "운수 좋은 날", [2.0, 1.0, 1.0]
PATIENCE = 120.0
"""Seconds: a cold start on a machine that does other things."""


@pytest.fixture
def sleeping(installed: Cluster) -> Iterator[None]:
    with letting_sleep(installed), set_for_a_while(installed, NLP_OPERATOR_IDLE_SECONDS="10"):
        yield


def check(answer: Tensors) -> str:
    found = [float(number) for number in answer["document_vector"].ravel()]
    return "" if found == ANSWER else f"the answer is {found}"


def slices(place: Place, model: str = MODEL) -> dict[str, list[Obj]]:
    """Ready endpoints of the model's Service, by who manages them."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{place.namespace}/endpointslices"
    found: dict[str, list[Obj]] = {}
    for one in place.cluster.api.get(path, labelSelector=f"kubernetes.io/service-name={model}")["items"]:
        writer = one["metadata"]["labels"][SLICE_OF]
        ready = [end for end in one["endpoints"] or () if end["conditions"]["ready"]]
        found.setdefault(writer, []).extend(ready)
    return found


def test_who_asks_a_model_that_sleeps_is_held_and_answered_and_nothing_fails(
    place: Place, sleeping: None
) -> None:
    for manifest in place.sample(MODEL):
        if manifest["kind"] == "NLPModel":
            manifest["spec"]["scaling"] = {"minReplicas": 0}
        place.apply(manifest)
    place.wait_for("Ready", "True", "Asleep")
    until(lambda: not place.pods(), "its pods are gone", PATIENCE)
    assert {key: len(ends) for key, ends in slices(place).items()} == {
        "nlp-operator": 2,
        "endpointslice-controller.k8s.io": 0,
    }
    host, _, port = place.address(8000).partition(":")
    with socket.create_connection((host, int(port)), timeout=5):
        pass  # kube-proxy led it to the activator; it said nothing, so nobody was woken
    inputs = {"text": text(QUESTION)}
    probers = [
        Prober(
            lambda: HttpAsk(place.address(8000), MODEL, inputs, timeout_seconds=PATIENCE),
            check=check,
            per_second=10,
            fresh_connections=True,
        ),
        Prober(
            lambda: GrpcAsk(place.address(8001), MODEL, inputs, timeout_seconds=PATIENCE, authority=MODEL),
            check=check,
            per_second=10,
            fresh_connections=True,
        ),
    ]
    with probers[0], probers[1]:
        place.wait_for("Ready", "True", "Serving")
        until(lambda: not slices(place)["nlp-operator"], "its pod alone is led to", PATIENCE)
        done = [len(one.attempts) for one in probers]
        more = [count + 10 for count in done]
        until(lambda: all(len(p.attempts) >= c for p, c in zip(probers, more, strict=True)), "answers")
    for prober in probers:
        assert not prober.failures, prober.failures[:3]
        first, *others = prober.attempts
        assert first.seconds > 1.0, "it was held"
        print(f"held for {first.seconds:.1f} s; then {len(others)} answers")
    told = ("get", "events", "-o", "jsonpath={.items[*].reason}")
    until(lambda: {"Asleep", "Woken"} <= set(place.kubectl(*told).split()), "Events")
