"""Several models in one Triton, on a real node: each answers through its own Service, comes back without the
operator, and moves away under load."""

from __future__ import annotations

import time
from typing import Any

from tests.faults.plain_api import POD, Obj
from tests.faults.prober import GrpcAsk, HttpAsk, Prober, text
from tests.node.models.place import Place, until
from tests.node.models.test_path import start_operator, stop_operator

SERVER = "nlp-shared-0"
DOCUMENTS = {
    "novels": "기차 막걸리 기차",
    "reviews": "선술집 기차",
    "words": "막걸리 막걸리 선술집 막걸리",
}
BACK_SECONDS = 60
"""From the deletion of a shared pod until each of its models answers."""
COUNTS = {"novels": [2.0, 1.0, 0.0], "reviews": [1.0, 0.0, 1.0], "words": [0.0, 3.0, 1.0]}
"""How often 기차, 막걸리 and 선술집 occur in the document."""


def share(place: Place, *models: str) -> None:
    for model in models:
        data = {"documents.tsv": f"document\ttext\n오늘\t{DOCUMENTS[model]}\n"}
        place.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": model}, "data": data})
        build: Obj = {
            "termDocumentMatrix": {"tokenizer": "Whitespace", "vocabulary": ["기차", "막걸리", "선술집"]}
        }
        serving = {"isolation": "Shared", "memoryMebibytes": 100}
        place.apply_model({"configMap": {"name": model}}, model, build, serving=serving)
    for model in models:
        place.wait_ready(model)


def server_pods(place: Place, server: str) -> list[Obj]:
    labels = f"nlp-operator.io/server={server}"
    items: list[Obj] = place.cluster.api.get(POD.path(place.namespace), labelSelector=labels)["items"]
    return items


def answer(place: Place, model: str, protocol: str = "http") -> list[float]:
    found = place.ask("오늘", protocol, model)["document_vector"]
    return [float(number) for number in found.ravel()]


def answers(place: Place, model: str) -> bool:
    """While the pod is not back nobody is behind the Service, and the connection is refused."""
    try:
        return answer(place, model) == COUNTS[model]
    except Exception:
        return False


def leads_to(place: Place, model: str) -> str:
    service = place.cluster.api.get(f"/api/v1/namespaces/{place.namespace}/services/{model}")
    return str(service["spec"]["selector"].get("nlp-operator.io/server", ""))


def check(found: Any) -> str:
    counts = [float(number) for number in found["document_vector"].ravel()]
    return "" if counts == COUNTS["words"] else f"the answer is {counts}"


def test_models_of_one_triton_answer_come_back_without_the_operator_and_move_under_load(place: Place) -> None:
    share(place, "novels", "reviews")
    (pod,) = server_pods(place, SERVER)
    processes = set(place.processes(pod, "tritonserver"))
    share(place, "words")
    assert processes < set(place.processes(pod, "tritonserver")), "it was loaded into the Triton that runs"
    for protocol in ("http", "grpc"):
        assert {model: answer(place, model, protocol) for model in DOCUMENTS} == COUNTS

    stop_operator(place.cluster)
    try:
        deleted = time.monotonic()
        place.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=true")
        for model in DOCUMENTS:
            left = BACK_SECONDS - (time.monotonic() - deleted)
            again = f"{model} answers again {BACK_SECONDS} s after its pod was deleted"
            until(lambda model=model: answers(place, model), again, left)  # type: ignore[misc]
    finally:
        start_operator(place.cluster)
    (pod,) = server_pods(place, SERVER)

    inputs = {"text": text("오늘")}
    with (
        Prober(lambda: HttpAsk(place.address(8000, "words"), "words", inputs), check=check) as over_http,
        Prober(
            lambda: GrpcAsk(place.address(8001, "words"), "words", inputs, authority="words"), check=check
        ) as over_grpc,
    ):
        env = [{"name": "GREETING", "value": "안녕"}]
        place.patch_model({"serving": {"pod": {"env": env}}}, "words")
        until(lambda: leads_to(place, "words") not in ("", SERVER), "its requests go elsewhere", 120)
        moved = time.monotonic()
        for prober in (over_http, over_grpc):
            prober.wait_for_success(after=moved)
            prober.assert_served(at_least=30)
    place.wait_ready("words")
    assert {model: answer(place, model) for model in DOCUMENTS} == COUNTS
