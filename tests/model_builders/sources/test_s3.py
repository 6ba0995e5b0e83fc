"""The s3 source against versitygw, a real S3 server that keeps its objects on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from localcluster.certificates import Authority, Pair
from model_builders.errors import Refused, TryAgain
from tests.model_builders.made import Jobs, make_novels
from tests.model_builders.sources.fetching import contents, fetch_here, left_in_store, request_of, sha256
from tests.model_builders.sources.servers import LOOPBACK, Asked, Reply, make_secret, serving
from tests.s3_server import ACCESS, SECRET, S3Server

pytestmark = pytest.mark.jobs

NOVELS = make_novels().encode()
KEYS = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}


@pytest.fixture(autouse=True)
def _no_credentials_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


@pytest.fixture(scope="module")
def client(s3: S3Server) -> Any:
    return s3.client()


@pytest.fixture
def bucket(client: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"bucket-{abs(hash(request.node.name)):x}"[:40]
    client.create_bucket(Bucket=name)
    yield name
    listed = client.list_objects_v2(Bucket=name).get("Contents", [])
    for one in listed:
        client.delete_object(Bucket=name, Key=one["Key"])
    client.delete_bucket(Bucket=name)


@pytest.fixture
def secret(tmp_path: Path, authority: Authority) -> str:
    return make_secret(tmp_path / "secret", authority, KEYS)


def s3_source(s3: S3Server, bucket: str, key: str, secret: str, pin: str = "") -> dict[str, Any]:
    source = {"bucket": bucket, "key": key, "region": "us-east-1", "endpoint": s3.endpoint}
    return request_of({"s3": source}, pin, secret)


def test_object_is_a_file(jobs: Jobs, s3: S3Server, client: Any, bucket: str, secret: str) -> None:
    client.put_object(Bucket=bucket, Key="corpora/v1/novels.tsv", Body=NOVELS)
    request = s3_source(s3, bucket, "corpora/v1/novels.tsv", secret, sha256(NOVELS))
    ran = jobs.run("fetch", request, NLP_FETCH_ALLOWED_NETWORKS=LOOPBACK)
    assert ran.code == 0, ran.log
    assert ran.result["inputs"][0]["sha256"] == sha256(NOVELS)
    assert contents(jobs, sha256(NOVELS)) == {"novels.tsv": NOVELS}
    assert SECRET not in ran.log


@pytest.mark.parametrize("key", ["corpora/", "corpora", ""])
def test_prefix_is_a_folder_with_the_digest_of_one(
    jobs: Jobs, s3: S3Server, client: Any, bucket: str, secret: str, key: str
) -> None:
    files = {"novels.tsv": NOVELS, "more/하나.txt": "기차".encode()}
    prefix = "corpora/" if key else ""
    for name, content in files.items():
        client.put_object(Bucket=bucket, Key=f"{prefix}{name}", Body=content)
        jobs.put(name, content)
    client.put_object(Bucket=bucket, Key=f"{prefix}empty/", Body=b"")

    found = fetch_here(jobs, s3_source(s3, bucket, key, secret))

    assert contents(jobs, found.sha256) == files
    assert jobs.fetch({"name": "corpus", "path": str(jobs.volumes / "corpus")}).result["inputs"][0] == {
        "name": "corpus",
        "sha256": found.sha256,
        "files": 2,
        "bytes": found.bytes,
    }


def test_changed_object_is_fetched_and_an_unchanged_one_is_not(
    jobs: Jobs, s3: S3Server, client: Any, bucket: str, secret: str
) -> None:
    request = s3_source(s3, bucket, "novels.tsv", secret)
    client.put_object(Bucket=bucket, Key="novels.tsv", Body=NOVELS)
    assert fetch_here(jobs, request).sha256 == sha256(NOVELS)
    source = jobs.store / "sources" / sha256(NOVELS)
    written = source.stat().st_ino
    assert fetch_here(jobs, request).sha256 == sha256(NOVELS)
    assert source.stat().st_ino == written
    client.put_object(Bucket=bucket, Key="novels.tsv", Body=NOVELS + NOVELS)
    assert fetch_here(jobs, request).sha256 == sha256(NOVELS + NOVELS)


def test_file_of_an_earlier_listing_does_not_stay(
    jobs: Jobs, s3: S3Server, client: Any, bucket: str, secret: str
) -> None:
    """A Job dies after one of two objects; then that one is removed from the bucket."""
    for name in ("a.txt", "b.txt"):
        client.put_object(Bucket=bucket, Key=f"c/{name}", Body=name.encode())
    client.put_object(Bucket=bucket, Key="c/z.txt", Body=b"\0")  # refused: what was fetched goes with it
    request = s3_source(s3, bucket, "c/", secret)
    with pytest.raises(Refused):
        fetch_here(jobs, request)
    assert left_in_store(jobs) == []
    client.delete_object(Bucket=bucket, Key="c/z.txt")
    client.delete_object(Bucket=bucket, Key="c/a.txt")
    assert contents(jobs, fetch_here(jobs, request).sha256) == {"b.txt": b"b.txt"}


def test_public_bucket_needs_no_secret(
    jobs: Jobs, s3: S3Server, client: Any, bucket: str, tmp_path: Path, authority: Authority
) -> None:
    client.put_object(Bucket=bucket, Key="novels.tsv", Body=NOVELS)
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
    }
    client.put_bucket_policy(
        Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )
    only_ca = make_secret(tmp_path / "ca", authority)
    assert fetch_here(jobs, s3_source(s3, bucket, "novels.tsv", only_ca)).sha256 == sha256(NOVELS)


def give_keys(asked: Asked) -> Reply:
    """What AWS's token service answers to who brings the token of a ServiceAccount."""
    query = parse_qs(urlsplit(asked.path).query) | parse_qs(asked.body.decode())
    if query["WebIdentityToken"] != ["of-the-account"]:
        error = "<ErrorResponse><Error><Code>InvalidIdentityToken</Code></Error></ErrorResponse>"
        return Reply(400, error.encode(), {"Content-Type": "text/xml"})
    keys = {
        "AccessKeyId": ACCESS,
        "SecretAccessKey": SECRET,
        "SessionToken": "",
        "Expiration": "2099-01-01T00:00:00Z",
    }
    text = "".join(f"<{key}>{value}</{key}>" for key, value in keys.items())
    action = "AssumeRoleWithWebIdentity"
    result = f"<{action}Result><Credentials>{text}</Credentials></{action}Result>"
    body = f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{result}</{action}Response>'
    return Reply(200, body.encode(), {"Content-Type": "text/xml"})


@pytest.mark.parametrize("token", ["of-the-account", "of-another"])
def test_service_account_brings_keys_by_web_identity(
    jobs: Jobs,
    s3: S3Server,
    client: Any,
    bucket: str,
    tmp_path: Path,
    authority: Authority,
    pair: Pair,
    token: str,
) -> None:
    """The environment is what AWS's webhook puts into a pod with such an account."""
    client.put_object(Bucket=bucket, Key="novels.tsv", Body=NOVELS)
    (tmp_path / "token").write_text(token, encoding="utf-8")
    request = s3_source(s3, bucket, "novels.tsv", make_secret(tmp_path / "ca", authority))
    with serving(pair, give_keys) as sts:
        environment = {
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/reader",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
            "AWS_ENDPOINT_URL_STS": f"https://{sts.host}",
            "AWS_CA_BUNDLE": str(authority.certificate),
        }
        ran = jobs.run("fetch", request, NLP_FETCH_ALLOWED_NETWORKS=LOOPBACK, **environment)
    if token == "of-the-account":
        assert (ran.code, ran.result["inputs"][0]["sha256"]) == (0, sha256(NOVELS)), ran.log
    else:
        assert (ran.code, ran.result["reason"]) == (10, "InputForbidden"), ran.log
        assert "InvalidIdentityToken" in ran.result["message"]


def test_role_of_the_node_is_never_asked_for(
    jobs: Jobs, s3: S3Server, bucket: str, tmp_path: Path, authority: Authority, pair: Pair
) -> None:
    """A metadata service that would give keys stands ready, and its network is allowed."""
    request = s3_source(s3, bucket, "novels.tsv", make_secret(tmp_path / "ca", authority))
    with serving(pair, lambda asked: Reply(200, b"node-role")) as metadata:
        environment = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"https://{metadata.host}/"}
        ran = jobs.run("fetch", request, NLP_FETCH_ALLOWED_NETWORKS=LOOPBACK, **environment)
        assert metadata.asked == []
    assert (ran.code, ran.result["reason"]) == (10, "InputForbidden"), ran.log


@pytest.mark.parametrize(
    ("key", "keys", "reason", "sentence"),
    [
        pytest.param(
            "novel.tsv", KEYS, "InputMissing", "the bucket holds 'corpora/', 'novels.tsv'.", id="a letter off"
        ),
        pytest.param(
            "corpora/x/", KEYS, "InputMissing", "corpora/ holds 'corpora/novels.tsv'.", id="no such folder"
        ),
        pytest.param(
            "novels.tsv",
            KEYS | {"AWS_SECRET_ACCESS_KEY": "wrong"},
            "InputForbidden",
            "Its Secret holds the keys AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, ca.crt;",
            id="a wrong key",
        ),
        pytest.param(
            "novels.tsv",
            {"AWS_ACCESS_KEY_ID": ACCESS},
            "CredentialsInvalid",
            "holds the key 'AWS_ACCESS_KEY_ID' but nothing under 'AWS_SECRET_ACCESS_KEY'",
            id="half a pair",
        ),
        pytest.param("novels.tsv", {}, "InputForbidden", "serviceAccountName", id="no keys"),
    ],
)
def test_what_cannot_be_read_is_told(
    jobs: Jobs,
    s3: S3Server,
    client: Any,
    bucket: str,
    tmp_path: Path,
    authority: Authority,
    key: str,
    keys: dict[str, str],
    reason: str,
    sentence: str,
) -> None:
    for name in ("novels.tsv", "corpora/novels.tsv"):
        client.put_object(Bucket=bucket, Key=name, Body=NOVELS)
    secret = make_secret(tmp_path / "secret", authority, keys)
    with pytest.raises(Refused) as refused:
        fetch_here(jobs, s3_source(s3, bucket, key, secret))
    assert refused.value.reason == reason
    assert sentence in refused.value.message
    assert SECRET not in refused.value.message


def test_bucket_that_does_not_exist_is_named(jobs: Jobs, s3: S3Server, secret: str) -> None:
    with pytest.raises(Refused, match="there is no bucket 'nothing-here'") as refused:
        fetch_here(jobs, s3_source(s3, "nothing-here", "a/", secret))
    assert refused.value.reason == "InputMissing"


def test_pin_that_differs_names_both(jobs: Jobs, s3: S3Server, client: Any, bucket: str, secret: str) -> None:
    client.put_object(Bucket=bucket, Key="novels.tsv", Body=NOVELS)
    with pytest.raises(Refused) as refused:
        fetch_here(jobs, s3_source(s3, bucket, "novels.tsv", secret, "a" * 64))
    assert refused.value.reason == "HashMismatch"
    assert f"has the sha256 {sha256(NOVELS)}, but the spec pins {'a' * 64}" in refused.value.message
    assert left_in_store(jobs) == []


@pytest.mark.parametrize(
    ("key", "content", "reason", "sentence"),
    [
        pytest.param(
            "m/model.pt", b"PK\x03\x04", "InputRefused", "'model.pt' may hold a pickle", id="a pickle"
        ),
        pytest.param("m/a\\b.txt", b"x", "InputRefused", "holds a backslash", id="a backslash"),
        pytest.param(
            "m/large.txt", b"x" * 2000, "InputTooLarge", "at most 1,000 are fetched", id="too large"
        ),
        pytest.param("m/empty.txt", b"", "InputEmpty", "holds not a byte", id="nothing"),
    ],
)
def test_what_may_not_be_taken_is_refused(
    jobs: Jobs,
    s3: S3Server,
    client: Any,
    bucket: str,
    secret: str,
    key: str,
    content: bytes,
    reason: str,
    sentence: str,
) -> None:
    client.put_object(Bucket=bucket, Key=key, Body=content)
    with pytest.raises(Refused) as refused:
        fetch_here(jobs, s3_source(s3, bucket, "m/", secret), max_bytes=1000)
    assert refused.value.reason == reason
    assert sentence in refused.value.message
    assert left_in_store(jobs) == []


def test_private_endpoint_is_refused_by_address(jobs: Jobs, s3: S3Server, secret: str) -> None:
    """boto3 wraps what the guard raises; the sentence has to come through."""
    with pytest.raises(Refused) as refused:
        fetch_here(jobs, s3_source(s3, "b", "novels.tsv", secret), allowed="")
    assert refused.value.reason == "NetworkRefused"
    assert "leads to the address 127.0.0.1" in refused.value.message


def test_endpoint_with_an_unknown_authority_is_refused(jobs: Jobs, s3: S3Server, tmp_path: Path) -> None:
    secret = make_secret(tmp_path / "secret", values=KEYS)
    with pytest.raises(Refused, match=r"put its certificate under the key 'ca\.crt'") as refused:
        fetch_here(jobs, s3_source(s3, "b", "novels.tsv", secret))
    assert refused.value.reason == "InputUnreachable"


def test_endpoint_that_does_not_answer_is_tried_again(jobs: Jobs, secret: str) -> None:
    source = {"bucket": "b", "key": "novels.tsv", "endpoint": "https://127.0.0.1:1"}
    with pytest.raises(TryAgain) as failed:
        fetch_here(jobs, request_of({"s3": source}, credentials=secret))
    assert failed.value.reason == "InputUnreachable"
