"""The oci source against distribution, a real registry: open, with a password, and with tokens."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from localcluster import binaries
from localcluster.certificates import Authority, Pair
from localcluster.progress import Progress
from model_builders.errors import Refused
from model_builders.sources.oci import TITLE, UNPACK, docker_login
from tests.model_builders.made import Jobs, make_novels
from tests.model_builders.sources.fetching import contents, fetch_here, left_in_store, request_of
from tests.model_builders.sources.servers import (
    LOOPBACK,
    Asked,
    Program,
    Reply,
    TlsServer,
    make_secret,
    registry,
    serving,
)

pytestmark = pytest.mark.jobs

NOVELS = make_novels().encode()
FILES = {"novels.tsv": NOVELS, "more/하나.txt": "기차".encode()}
REPOSITORY = "novels/corpus"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
PASSWORD = "막걸리-secret"
HTPASSWD = "kim:$2b$05$abcdefghijklmnopqrstuuEPbye4gRPVEJ52Uv439bAAw1lFlwtGG"
"""The password's bcrypt hash, as `htpasswd -B` makes it."""


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture(scope="session")
def binary() -> Path:
    return binaries.ensure(["registry"], Progress())["registry"]


@pytest.fixture(scope="session")
def open_registry(
    binary: Path, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Program]:
    with registry(binary, tmp_path_factory.mktemp("open"), authority) as program:
        yield program


def push_blob(registry: Program, content: bytes, login: Mapping[str, str]) -> dict[str, Any]:
    status, headers = registry.ask(f"/v2/{REPOSITORY}/blobs/uploads/", "POST", b"", **login)
    assert status == 202, status
    parts = urlsplit(headers["Location"])
    digest = digest_of(content)
    where = f"{parts.path}?{parts.query}&digest={digest}"
    status, _ = registry.ask(where, "PUT", content, Content_Type="application/octet-stream", **login)
    assert status == 201, status
    return {"mediaType": "application/octet-stream", "digest": digest, "size": len(content)}


def push(
    registry: Program,
    files: Mapping[str, bytes] = FILES,
    login: Mapping[str, str] | None = None,
    changes: Mapping[str, Any] | None = None,
    **of_layer: Any,
) -> str:
    """An artifact as `oras push` writes it; its digest. `of_layer` changes what is said of each layer."""
    login = login or {}
    layers = [
        {**push_blob(registry, content, login), "annotations": {TITLE: name}, **of_layer}
        for name, content in files.items()
    ]
    config = push_blob(registry, b"{}", login) | {"mediaType": "application/vnd.oci.empty.v1+json"}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": layers,
        **(changes or {}),
    }
    content = json.dumps(manifest).encode()
    media_type = str(manifest["mediaType"])
    path = f"/v2/{REPOSITORY}/manifests/{digest_of(content)}"
    status, _ = registry.ask(path, "PUT", content, Content_Type=media_type, **login)
    assert status == 201, status
    return digest_of(content)


def oci(registry: Program, digest: str, secret: str) -> dict[str, Any]:
    reference = f"{registry.host}/{REPOSITORY}"
    return request_of({"oci": {"reference": reference, "digest": digest}}, credentials=secret)


def test_layers_are_files_with_the_digest_of_their_folder(
    jobs: Jobs, open_registry: Program, secret: str
) -> None:
    request = oci(open_registry, push(open_registry), secret)
    ran = jobs.run("fetch", request, NLP_FETCH_ALLOWED_NETWORKS=LOOPBACK)
    assert ran.code == 0, ran.log
    (found,) = ran.result["inputs"]
    assert contents(jobs, found["sha256"]) == FILES
    for name, content in FILES.items():
        jobs.put(name, content)
    mounted = jobs.fetch({"name": "corpus", "path": str(jobs.volumes / "corpus")})
    assert mounted.result["inputs"] == [found]


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture(scope="session")
def password_registry(
    binary: Path, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("password")
    (folder / "htpasswd").write_text(HTPASSWD + "\n", encoding="utf-8")
    auth = {"htpasswd": {"realm": "novels", "path": str(folder / "htpasswd")}}
    with registry(binary, folder, authority, auth) as program:
        yield program


def docker_config(host: str, user: str, password: str) -> str:
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    return json.dumps({"auths": {f"https://{host}": {"auth": auth}, "other.example": {"auth": "bm86"}}})


def test_password_is_asked_for_and_given(
    jobs: Jobs, password_registry: Program, tmp_path: Path, authority: Authority
) -> None:
    digest = push(password_registry, login=basic("kim", PASSWORD))
    pair = make_secret(tmp_path / "pair", authority, {"username": "kim", "password": PASSWORD})
    assert contents(jobs, fetch_here(jobs, oci(password_registry, digest, pair)).sha256) == FILES
    config = docker_config(password_registry.host, "kim", PASSWORD)
    docker = make_secret(tmp_path / "docker", authority, {".dockerconfigjson": config})
    assert fetch_here(jobs, oci(password_registry, digest, docker)).files == 2

    wrong = make_secret(tmp_path / "wrong", authority, {"username": "kim", "password": "wrong"})
    none = make_secret(tmp_path / "none", authority)
    for secret in (wrong, none):
        with pytest.raises(Refused) as refused:
            fetch_here(jobs, {**oci(password_registry, digest, secret), "model": f"demo/{Path(secret).name}"})
        assert refused.value.reason == "InputForbidden"
        assert "Its Secret holds the keys ca.crt" in refused.value.message
        assert PASSWORD not in refused.value.message


# --- tokens: the registry trusts a server of ours that gives them


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class TokenServer:
    """Gives the registry's tokens (JWT, ES256) to who knows the password."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, key_id: str) -> None:
        self.key, self.key_id = key, key_id
        self.given = 0

    def __call__(self, asked: Asked) -> Reply:
        query = parse_qs(urlsplit(asked.path).query)
        if asked.headers.get("authorization") != basic("kim", PASSWORD)["Authorization"]:
            return Reply(401, b"{}")
        self.given += 1
        kind, name, actions = query["scope"][0].split(":")
        access = [{"type": kind, "name": name, "actions": actions.split(",")}]
        now = int(time.time())
        claims: dict[str, Any] = {"iss": "tests", "sub": "kim", "aud": query["service"][0], "access": access}
        claims |= {"iat": now, "nbf": now - 10, "exp": now + 300, "jti": str(self.given)}
        head = {"typ": "JWT", "alg": "ES256", "kid": self.key_id}
        signed = ".".join(base64url(json.dumps(part).encode()) for part in (head, claims))
        r, s = decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        token = f"{signed}.{base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"
        return Reply(200, json.dumps({"token": token}).encode())


@pytest.fixture(scope="session")
def tokens() -> TokenServer:
    return TokenServer(ec.generate_private_key(ec.SECP256R1()), "tests-1")


@pytest.fixture(scope="session")
def token_server(pair: Pair, tokens: TokenServer) -> Iterator[TlsServer]:
    with serving(pair, tokens) as server:
        yield server


@pytest.fixture(scope="session")
def token_registry(
    binary: Path,
    tmp_path_factory: pytest.TempPathFactory,
    authority: Authority,
    token_server: TlsServer,
    tokens: TokenServer,
) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("token")
    numbers = tokens.key.public_key().public_numbers()
    key = {
        "kty": "EC",
        "crv": "P-256",
        "use": "sig",
        "alg": "ES256",
        "kid": tokens.key_id,
        "x": base64url(numbers.x.to_bytes(32, "big")),
        "y": base64url(numbers.y.to_bytes(32, "big")),
    }
    (folder / "jwks.json").write_text(json.dumps({"keys": [key]}), encoding="utf-8")
    auth = {
        "token": {
            "realm": f"https://localhost:{token_server.port}/token",
            "service": "registry of tests",
            "issuer": "tests",
            "jwks": str(folder / "jwks.json"),
        }
    }
    with registry(binary, folder, authority, auth) as program:
        yield program


def test_token_is_fetched_where_the_registry_says_if_that_is_declared(
    jobs: Jobs, token_registry: Program, token_server: TlsServer, tmp_path: Path, authority: Authority
) -> None:
    ask = Asked(
        f"/token?service=registry%20of%20tests&scope=repository:{REPOSITORY}:pull,push",
        {"authorization": basic("kim", PASSWORD)["Authorization"]},
    )
    body = token_server.respond(ask).body
    assert isinstance(body, bytes)
    digest = push(token_registry, login={"Authorization": f"Bearer {json.loads(body)['token']}"})
    secret = make_secret(tmp_path / "s", authority, {"username": "kim", "password": PASSWORD})
    request = oci(token_registry, digest, secret)

    with pytest.raises(Refused) as refused:
        fetch_here(jobs, request)
    assert refused.value.reason == "NetworkRefused"
    assert f"sends logins to another host, 'localhost:{token_server.port}'" in refused.value.message
    assert token_server.asked == []

    found = fetch_here(jobs, request, hosts=(f"localhost:{token_server.port}",))
    assert contents(jobs, found.sha256) == FILES
    assert len(token_server.asked) == 1
    (asked,) = token_server.asked
    assert parse_qs(urlsplit(asked.path).query)["scope"] == [f"repository:{REPOSITORY}:pull"]


# --- what is refused


@pytest.mark.parametrize(
    ("of_layer", "reason", "sentence"),
    [
        pytest.param(
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"},
            "InputRefused",
            "layer 0 (novels.tsv) is an archive. Archives are not unpacked",
            id="a layer of an image",
        ),
        pytest.param(
            {"annotations": {TITLE: "folder", UNPACK: "true"}},
            "InputRefused",
            "layer 0 (folder) is an archive",
            id="a folder of oras",
        ),
        pytest.param({"annotations": {}}, "InputInvalid", f"has no annotation {TITLE}", id="no name"),
        pytest.param(
            {"annotations": {TITLE: "../novels.tsv"}},
            "InputRefused",
            "the path '../novels.tsv' is refused",
            id="a way out",
        ),
        pytest.param(
            {"annotations": {TITLE: "/etc/novels.tsv"}},
            "InputRefused",
            "must be relative",
            id="an absolute path",
        ),
        pytest.param(
            {"annotations": {TITLE: "model.pt"}},
            "InputRefused",
            "'model.pt' may hold a pickle",
            id="a pickle",
        ),
    ],
)
def test_artifact_that_cannot_be_taken_is_refused(
    jobs: Jobs, open_registry: Program, secret: str, of_layer: dict[str, Any], reason: str, sentence: str
) -> None:
    digest = push(open_registry, {"novels.tsv": NOVELS}, **of_layer)
    with pytest.raises(Refused) as refused:
        fetch_here(jobs, oci(open_registry, digest, secret))
    assert refused.value.reason == reason
    assert sentence in refused.value.message
    assert left_in_store(jobs) == []


def test_two_layers_of_one_name_are_refused(jobs: Jobs, open_registry: Program, secret: str) -> None:
    digest = push(open_registry, annotations={TITLE: "same.txt"})
    with pytest.raises(Refused, match=r"it holds 'same\.txt' twice"):
        fetch_here(jobs, oci(open_registry, digest, secret))


def test_index_is_refused(jobs: Jobs, open_registry: Program, secret: str) -> None:
    inner = push(open_registry)
    size = 1  # not looked at: the registry checks the digest
    entry = {"mediaType": MANIFEST, "digest": inner, "size": size}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
    content = json.dumps(index).encode()
    path = f"/v2/{REPOSITORY}/manifests/{digest_of(content)}"
    status, _ = open_registry.ask(path, "PUT", content, Content_Type=str(index["mediaType"]))
    assert status == 201
    with pytest.raises(Refused, match="index of several manifests; name the digest of one"):
        fetch_here(jobs, oci(open_registry, digest_of(content), secret))


def test_digest_that_is_not_there_is_told(jobs: Jobs, open_registry: Program, secret: str) -> None:
    with pytest.raises(Refused) as refused:
        fetch_here(jobs, oci(open_registry, "sha256:" + "a" * 64, secret))
    assert refused.value.reason == "InputMissing"
    assert "(HTTP 404)" in refused.value.message


def test_blob_changed_on_the_registrys_disk_is_refused(
    jobs: Jobs, open_registry: Program, secret: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = b"bytes that will be others"
    digest = push(open_registry, {"novels.txt": content})
    (blob,) = (
        path
        for path in tmp_path_factory.getbasetemp().glob("open0/registry/**/data")
        if path.is_file() and path.read_bytes() == content
    )
    blob.write_bytes(content.replace(b"others", b"no one"))
    with pytest.raises(Refused) as refused:
        fetch_here(jobs, oci(open_registry, digest, secret))
    assert refused.value.reason == "HashMismatch"
    assert f"not {hashlib.sha256(content).hexdigest()}" in refused.value.message


def test_registry_that_answers_with_another_manifest_is_refused(jobs: Jobs, pair: Pair, secret: str) -> None:
    with serving(pair, lambda asked: Reply(200, b'{"layers": []}')) as server:
        source = {"reference": f"{server.host}/a/b", "digest": "sha256:" + "a" * 64}
        with pytest.raises(Refused, match="answered with a manifest of the digest sha256:") as refused:
            fetch_here(jobs, request_of({"oci": source}, credentials=secret))
    assert refused.value.reason == "HashMismatch"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(b"layers", "is not JSON: Expecting value", id="no JSON"),
        pytest.param(b"[]", "is no manifest, but a JSON list.", id="a list"),
    ],
)
def test_what_is_no_manifest_is_refused(
    jobs: Jobs, pair: Pair, secret: str, content: bytes, sentence: str
) -> None:
    with serving(pair, lambda asked: Reply(200, content)) as server:
        source = {"reference": f"{server.host}/a/b", "digest": digest_of(content)}
        with pytest.raises(Refused) as refused:
            fetch_here(jobs, request_of({"oci": source}, credentials=secret))
    assert refused.value.reason == "InputInvalid"
    assert sentence in refused.value.message
    assert "Name the digest of an artifact's manifest, as oras push prints it." in refused.value.message


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"{}"], ids=["no JSON", "a list", "without one"])
def test_login_that_is_answered_without_a_token_is_told(
    jobs: Jobs, pair: Pair, tmp_path: Path, authority: Authority, answer: bytes
) -> None:
    def respond(asked: Asked) -> Reply:
        if asked.path.startswith("/token"):
            return Reply(200, answer)
        return Reply(401, b"", {"WWW-Authenticate": f'Bearer realm="https://{asked.headers["host"]}/token"'})

    secret = make_secret(tmp_path / "s", authority, {"username": "kim", "password": PASSWORD})
    with serving(pair, respond) as server:
        source = {"reference": f"{server.host}/a/b", "digest": "sha256:" + "a" * 64}
        with pytest.raises(Refused) as refused:
            fetch_here(jobs, request_of({"oci": source}, credentials=secret))
    assert refused.value.reason == "InputForbidden"
    assert refused.value.message.startswith(
        f"Input 'corpus': {server.host}, where {server.host} sends logins, answered without a token. "
        "Its Secret holds the keys ca.crt, password, username;"
    )
    assert PASSWORD not in refused.value.message


@pytest.mark.parametrize("config", ["{", '{"auths": 3}', '{"auths": {"registry.example": {"auth": "%"}}}'])
def test_docker_config_that_cannot_be_read_is_told_without_its_words(config: str) -> None:
    with pytest.raises(Refused, match="is not what kubectl create secret docker-registry makes"):
        docker_login("corpus", config, "registry.example")
