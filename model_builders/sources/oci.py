"""An artifact of an OCI registry, by digest: `oci {reference, digest}`.

As `oras push` writes it: every layer is one file, named by its annotation `org.opencontainers.image.title`.
The manifest is held against the digest, every layer against the manifest. Layers that are archives (a folder
pushed by oras, a layer of an image) are refused. Secret: `.dockerconfigjson` as kubectl makes it, or
`username` and `password`, or `token`; and `ca.crt`.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

from model_builders.errors import Refused
from model_builders.messages import OciSource
from model_builders.sources.credentials import Credentials
from model_builders.sources.remote import Kind, RemoteFile
from model_builders.sources.web import (
    Answer,
    Body,
    Web,
    basic,
    content_range_start,
    host_of,
    is_declared,
    refuse_status,
)

TITLE = "org.opencontainers.image.title"
UNPACK = "io.deis.oras.content.unpack"
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.artifact.manifest.v1+json",
)
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
KEYS = (".dockerconfigjson", "username", "password", "token")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
ARCHIVE = re.compile(r"(tar|zip)([+.]|$)|\+(gzip|zstd)$", re.IGNORECASE)

_CHALLENGE = re.compile(r'([a-zA-Z]+)="([^"]*)"')


class OciArtifact:
    kind: Kind = "Folder"

    def __init__(self, source: OciSource, credentials: Credentials, redirect_hosts: Sequence[str]) -> None:
        self._source, self._credentials = source, credentials
        self._web, self._redirect_hosts = Web(credentials, redirect_hosts), tuple(redirect_hosts)
        self._registry, _, self._repository = source.reference.partition("/")
        self._login: dict[str, str] = {}
        self.shown = f"{source.reference}@{source.digest[:19]}"

    def files(self) -> list[RemoteFile]:
        return parse_layers(self._credentials.input, self._manifest())

    @contextmanager
    def read(self, file: RemoteFile, offset: int) -> Iterator[Body]:
        if offset == file.size:
            yield Body(offset, iter(()))
            return
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self._get(f"blobs/sha256:{file.sha256}", headers, f"{file.path!r} in {self.shown}") as answer:
            yield Body(content_range_start(answer), answer.chunks)

    def _manifest(self) -> Mapping[str, Any]:
        name, digest = self._credentials.input, self._source.digest
        accept = {"Accept": ", ".join((*MANIFESTS, *INDEXES))}
        with self._get(f"manifests/{digest}", accept, self.shown) as answer:
            content = answer.read()
        found = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if found != digest:
            raise Refused(
                "HashMismatch",
                f"Input {name!r}: {self._registry} answered with a manifest of the digest {found}, not "
                f"{digest}.",
            )
        try:
            manifest = json.loads(content)
        except ValueError as error:
            raise Refused(
                "InputInvalid",
                f"Input {name!r}: {self.shown} is not JSON: {error}. Name the digest of an artifact's "
                "manifest, as oras push prints it.",
            ) from error
        if not isinstance(manifest, dict):
            raise Refused(
                "InputInvalid",
                f"Input {name!r}: {self.shown} is no manifest, but a JSON {type(manifest).__name__}. Name "
                "the digest of an artifact's manifest, as oras push prints it.",
            )
        return manifest

    @contextmanager
    def _get(self, path: str, headers: Mapping[str, str], what: str) -> Iterator[Answer]:
        """Asks as it is logged in, and after a 401 once more, logged in as the registry asks for: at the
        beginning, and when a token has expired."""
        url = f"https://{self._registry}/v2/{self._repository}/{path}"
        with self._web.get(url, {**headers, **self._login}) as answer:
            if answer.status != 401:
                refuse_status(self._credentials.input, answer, what, self._credentials, KEYS)
                yield answer
                return
            challenge = answer.headers.get("www-authenticate", "")
        self._login = self._log_in(challenge)
        with self._web.get(url, {**headers, **self._login}) as answer:
            refuse_status(self._credentials.input, answer, what, self._credentials, KEYS)
            yield answer

    def _log_in(self, challenge: str) -> dict[str, str]:
        """The header that a `WWW-Authenticate` asks for (RFC 7235; the registry's token protocol)."""
        scheme, _, rest = challenge.partition(" ")
        pair = self._pair()
        if scheme.lower() == "basic":
            return basic(*pair) if pair else {}
        if scheme.lower() != "bearer":
            return {}
        if self._credentials.get("token"):
            return {"Authorization": f"Bearer {self._credentials.get('token')}"}
        fields = dict(_CHALLENGE.findall(rest))
        realm = self._checked_realm(fields.get("realm", ""))
        scope = fields.get("scope") or f"repository:{self._repository}:pull"
        query = urlencode({"service": fields.get("service", ""), "scope": scope})
        with self._web.get(f"{realm}?{query}", basic(*pair) if pair else {}) as answer:
            refuse_status(self._credentials.input, answer, "a token", self._credentials, KEYS)
            content = answer.read()
        try:
            given = json.loads(content)
            token = given.get("token") or given["access_token"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Refused(
                "InputForbidden",
                f"Input {self._credentials.input!r}: {host_of(realm)}, where {self._registry} sends logins, "
                f"answered without a token. {self._credentials.in_words(KEYS)}",
            ) from error
        return {"Authorization": f"Bearer {token}"}

    def _checked_realm(self, realm: str) -> str:
        """Where the registry wants the password sent: to itself, or to a host that is declared."""
        host = host_of(realm)
        if realm.startswith("https://") and (
            host == self._registry.lower() or is_declared(host, self._redirect_hosts)
        ):
            return realm
        raise Refused(
            "NetworkRefused",
            f"Input {self._credentials.input!r}: {self._registry} sends logins to another host, "
            f"{host or realm!r}. The administrator can add the host to the operator's setting "
            "fetch-redirect-hosts.",
        )

    def _pair(self) -> tuple[str, str] | None:
        """User and password of the Secret."""
        config = self._credentials.get(".dockerconfigjson")
        if config:
            return docker_login(self._credentials.input, config, self._registry)
        return self._credentials.pair("username", "password")


def docker_login(name: str, config: str, registry: str) -> tuple[str, str] | None:
    """User and password for a registry in a `.dockerconfigjson`; None when it has none for this one.

    Raises Refused when it cannot be read; the text holds no secret.
    """
    try:
        auths = json.loads(config)["auths"]
        for server, entry in auths.items():
            host = urlsplit(server if "//" in server else f"//{server}").netloc
            if host.lower() != registry.lower():
                continue
            if entry.get("username"):
                return str(entry["username"]), str(entry["password"])
            user, colon, password = base64.b64decode(entry["auth"]).decode("utf-8").partition(":")
            if not colon:
                raise ValueError
            return user, password
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(
            "CredentialsInvalid",
            f"Input {name!r}: the key '.dockerconfigjson' of its Secret is not what kubectl create secret "
            "docker-registry makes.",
        ) from error
    return None


def parse_layers(name: str, manifest: Mapping[str, Any]) -> list[RemoteFile]:
    """The files of an artifact. Raises Refused for an index, an image, a folder, or a layer without a
    name."""
    kind = str(manifest.get("mediaType") or MANIFESTS[0])
    if kind in INDEXES or "manifests" in manifest:
        raise Refused(
            "InputInvalid",
            f"Input {name!r}: the digest is that of an index of several manifests; name the digest of one.",
        )
    layers = manifest.get("layers") or manifest.get("blobs")
    if kind not in MANIFESTS or not isinstance(layers, list) or not layers:
        raise Refused(
            "InputInvalid",
            f"Input {name!r}: the manifest ({kind}) has no layers to take files from. Push files as one with "
            "them: oras push REGISTRY/NAME FILE...",
        )
    return [_layer(name, number, layer) for number, layer in enumerate(layers)]


def _layer(name: str, number: int, layer: Any) -> RemoteFile:
    try:
        digest, size, kind = str(layer["digest"]), int(layer["size"]), str(layer["mediaType"])
        annotations = dict(layer.get("annotations") or {})
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Refused(
            "InputInvalid",
            f"Input {name!r}: the manifest does not say of layer {number} its digest, size and mediaType "
            f"({type(error).__name__}: {error}). Push the files again: oras push REGISTRY/NAME FILE...",
        ) from error
    title = str(annotations.get(TITLE, ""))
    if ARCHIVE.search(kind) or annotations.get(UNPACK) == "true":
        raise Refused(
            "InputRefused",
            f"Input {name!r}: layer {number} ({title or kind}) is an archive. Archives are not unpacked; "
            "push the files themselves: oras push REGISTRY/NAME FILE...",
        )
    if not title:
        raise Refused(
            "InputInvalid",
            f"Input {name!r}: layer {number} ({kind}) has no annotation {TITLE} that says what its file is "
            "called.",
        )
    if not DIGEST.fullmatch(digest):
        raise Refused(
            "InputInvalid",
            f"Input {name!r}: layer {number} ({title}) has the digest {digest!r}; it must be sha256: and 64 "
            "hexadecimal digits in lower case.",
        )
    return RemoteFile(title, digest, size, sha256=digest.removeprefix("sha256:"))
