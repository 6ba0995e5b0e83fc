"""A whole installation whose store is a bucket: real kubelet, real Jobs, a real S3 server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from localcluster.cluster import Cluster
from tests.faults.bad_input_page import row_of
from tests.faults.plain_api import Obj
from tests.node.models.install import make_place
from tests.node.models.place import MODEL, Place, until
from tests.s3_server import ACCESS, BUCKET, PREFIX, SECRET, S3Server, s3_server

OPERATOR = ("-n", "nlp-system")
WORDS = "korean-words"
GOING_ON = re.compile(r"going on at step ([\d,]+) of 1,000, where an earlier pod was")
LUCKY_DAY = "운수 좋은 날"
COUNTS = [2.0, 1.0, 1.0]


@pytest.fixture(scope="module")
def server(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Listens where pods reach this machine: on its end of the link, as the API server does."""
    address = str(urlsplit(installed.url).hostname)
    with s3_server(tmp_path_factory.mktemp("s3") / "server", address) as server:
        yield server


@pytest.fixture(scope="module")
def place(installed: Cluster, server: S3Server) -> Iterator[Place]:
    """A namespace of an operator that was told of the bucket, as docs/operations.md says."""
    settings = {
        "NLP_OPERATOR_STORE_URL": f"s3://{BUCKET}/{PREFIX}",
        "NLP_OPERATOR_STORE_ENDPOINT": server.endpoint,
        "NLP_OPERATOR_STORE_SECRET_NAME": "store",
    }
    place = make_place(installed)
    credentials = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
    place.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"}, "stringData": credentials}
    )
    set_operator(installed, *(f"{key}={value}" for key, value in settings.items()))
    try:
        yield place
    finally:
        installed.api.delete(f"/api/v1/namespaces/{place.namespace}")
        set_operator(installed, *(f"{key}-" for key in settings))


def set_operator(cluster: Cluster, *variables: str) -> None:
    cluster.kubectl(*OPERATOR, "set", "env", "deployment/nlp-operator", *variables)
    cluster.kubectl(*OPERATOR, "rollout", "status", "deployment/nlp-operator", "--timeout=180s")


def ready(place: Place) -> Obj:
    conditions: list[Obj] = (place.model().get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == "Ready"), {})


def test_model_is_built_into_a_bucket_and_served_from_it(place: Place, server: S3Server) -> None:
    place.apply_sample()
    place.wait_ready()
    assert place.vector(LUCKY_DAY) == COUNTS
    assert place.kubectl("get", "pvc", "-o", "name") == ""

    digest = place.digest()
    on_disk = server.store(place.namespace)
    assert (on_disk / "artifacts" / digest / "manifest.json").is_file()
    assert len(list((on_disk / "results").iterdir())) == 1

    # Answers go on without the store.
    server.kill()
    assert place.vector(LUCKY_DAY) == COUNTS
    # A new pod says why it waits, and needs nobody when the store is back.
    place.kubectl("delete", "pod", place.server_pod()["metadata"]["name"])
    found = until(
        lambda: ready(place) if ready(place).get("reason") == "StoreUnreachable" else None,
        "the model says that it waits for the store",
    )
    assert f"The store s3://{BUCKET}/{PREFIX}/{place.namespace} at {server.endpoint}" in found["message"]
    assert row_of("the bucket of the store away").says(found["message"]), found["message"]
    server.start()
    place.wait_ready()
    assert place.vector(LUCKY_DAY) == COUNTS


def test_second_model_of_the_same_bytes_builds_and_sends_nothing(place: Place, server: S3Server) -> None:
    mark = len(server.requests(namespace=place.namespace))
    place.apply_sample("again")
    place.wait_ready("again")
    assert place.digest("again") == place.digest(MODEL)
    after = server.requests(namespace=place.namespace)[mark:]
    assert [one.path for one in after if one.method == "PUT"] == []


@pytest.mark.timeout(1200)  # a first build of the image downloads 0.6 GB
def test_a_training_whose_pod_is_killed_goes_on_in_the_next_one(
    with_torch: Cluster, place: Place, server: S3Server
) -> None:
    manifests = place.sample(WORDS)
    manifests[-1]["spec"]["build"]["word2Vec"]["epochs"] = 1000
    place.apply(*manifests)
    kept = server.store(place.namespace) / "tmp"
    until(lambda: list(kept.glob("partial-*/training.npz")), "a checkpoint is in the bucket", 180)
    (pod,) = place.pods("build", WORDS)
    first = pod["metadata"]["name"]
    # With a SIGTERM first, as any pod is taken away: exit code 137 without a word means too little memory.
    place.kubectl("delete", "pod", first, "--wait=false")

    def going_on() -> re.Match[str] | None:
        logs = [
            place.kubectl("logs", one["metadata"]["name"], "-c", "build")
            for one in place.pods("build", WORDS)
            if one["metadata"]["name"] != first and has_begun(one, "build")
        ]
        return next(filter(None, map(GOING_ON.search, logs)), None)

    found = until(going_on, "the next pod goes on", 120)
    assert 0 < int(found[1].replace(",", "")) < 1000
    place.wait_ready(WORDS)
    answer = place.ask("아들", name=WORDS, negative="딸", positive="소녀")
    assert answer["nearest_words"].ravel()[0].decode() == "소년"
    until(lambda: not list(kept.glob("partial-*/*")), "the checkpoints go with the end of the build")


def has_begun(pod: Obj, container: str) -> bool:
    statuses = pod["status"].get("initContainerStatuses", [])
    return any(one["name"] == container and "waiting" not in one["state"] for one in statuses)
