"""A source over the network, from a manifest to an answer: a Secret, a fetch Job with a way out, a real S3
server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from localcluster.certificates import Authority
from localcluster.cluster import Cluster
from tests.faults.audit import service_account
from tests.node.models.place import MODEL, Place
from tests.s3_server import ACCESS, BUCKET, SECRET, S3Server, s3_server

CORPUS = "document\ttext\none\t기차 기차 막걸리\ntwo\t선술집\n"


@pytest.fixture
def s3(installed: Cluster, tmp_path: Path) -> Iterator[S3Server]:
    """On the machine's end of the link to the node, which the administrator allows fetches to reach."""
    address = urlsplit(installed.url).hostname
    assert address is not None
    deployment = ("-n", "nlp-system", "deployment/nlp-operator")
    with s3_server(tmp_path / "s3", address, Authority(tmp_path / "authority", "sources")) as server:
        allowed = f"NLP_OPERATOR_FETCH_ALLOWED_NETWORKS={address}/32"
        installed.kubectl("set", "env", *deployment, allowed)
        installed.kubectl("rollout", "status", *deployment, "--timeout=120s")
        yield server
        installed.kubectl("rollout", "undo", *deployment)
        installed.kubectl("rollout", "status", *deployment, "--timeout=120s")


def test_model_is_built_from_a_bucket_with_the_keys_of_a_secret(place: Place, s3: S3Server) -> None:
    s3.client().put_object(Bucket=BUCKET, Key="novels/v1/novels.tsv", Body=CORPUS.encode())
    assert s3.authority is not None
    place.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "bucket-keys"},
            "stringData": {
                "AWS_ACCESS_KEY_ID": ACCESS,
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "ca.crt": s3.authority.certificate.read_text(),
            },
        }
    )
    source = {"s3": {"bucket": BUCKET, "key": "novels/v1/", "endpoint": s3.endpoint}}
    inputs = [{"name": "corpus", "source": source, "secretName": "bucket-keys"}]
    place.apply_model(source, build={"inputs": inputs})

    place.wait_ready()

    assert place.vector("one") == [2.0, 1.0, 0.0]
    assert place.vector("two", protocol="grpc") == [0.0, 0.0, 1.0]
    assert SECRET not in place.kubectl("get", f"nlp/{MODEL}", "-o", "yaml")
    operator = service_account("nlp-system", "nlp-operator")
    entries = place.audit.entries()
    assert [one for one in entries if (one.user, one.resource) == (operator, "secrets")] == []
