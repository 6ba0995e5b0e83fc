"""An object, or all objects below a prefix, of an S3-compatible bucket: `s3 {bucket, key, region, endpoint}`.

A key that names an object is a file; one that ends in a slash, is empty, or names no object but begins
others is a folder of what lies below it. Credentials are those of the Secret (the keys below, and `ca.crt`),
else those a ServiceAccount brings (web identity, EKS Pod Identity), else none: then the request is not
signed, for public buckets. A node's own role is never used: it is not the user's.
"""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    SSLError,
)
from botocore.response import StreamingBody
from urllib3.exceptions import HTTPError

from model_builders.digests import CHUNK_BYTES
from model_builders.errors import Refused
from model_builders.messages import S3Source
from model_builders.sources.credentials import CA, Credentials
from model_builders.sources.remote import Kind, RemoteFile
from model_builders.sources.web import (
    CONNECT_SECONDS,
    SILENCE_SECONDS,
    Body,
    Interrupted,
    job_error_in,
    short,
    verification_words,
)

ACCESS_KEY, SECRET_KEY, SESSION_TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
KEYS = (ACCESS_KEY, SECRET_KEY, SESSION_TOKEN)
DEFAULT_REGION = "us-east-1"

_WHEN_REQUIRED = "when_required"
"""AWS's newer checksums, which other servers do not all know; what was fetched is hashed by us in any
case."""


class S3Objects:
    kind: Kind

    def __init__(self, source: S3Source, credentials: Credentials) -> None:
        self._source, self._credentials = source, credentials
        self.shown = f"s3://{source.bucket}/{source.key}"
        self.kind = "Folder"
        with self._explained(""):
            self._client = connect(source, credentials)

    def files(self) -> list[RemoteFile]:
        key = self._source.key
        if key and not key.endswith("/"):
            found = self._head(key)
            if found is not None:
                self.kind = "File"
                return [_remote_file(key.rpartition("/")[2], found["ContentLength"], found)]
            key += "/"
        self.kind = "Folder"
        files = [
            _remote_file(one["Key"].removeprefix(key), one["Size"], one)
            for one in self._list(key)
            if not one["Key"].endswith("/")  # what some tools write to show a folder
        ]
        if not files:
            raise self._missing()
        return files

    @contextmanager
    def read(self, file: RemoteFile, offset: int) -> Iterator[Body]:
        if offset == file.size:
            yield Body(offset, iter(()))
            return
        span = {"Range": f"bytes={offset}-"} if offset else {}
        with self._explained(file.path):
            # IfMatch: an object that was replaced since it was listed is an error and not a mixture.
            found = self._client.get_object(
                Bucket=self._source.bucket, Key=self._key(file), IfMatch=file.version, **span
            )
        with closing(found["Body"]) as body:
            yield Body(offset if "ContentRange" in found else 0, self._chunks(file, body))

    def _key(self, file: RemoteFile) -> str:
        key = self._source.key
        if self.kind == "File":
            return key
        return f"{key}{'' if not key or key.endswith('/') else '/'}{file.path}"

    def _chunks(self, file: RemoteFile, body: StreamingBody) -> Iterator[bytes]:
        with self._explained(file.path):
            yield from body.iter_chunks(CHUNK_BYTES)

    def _head(self, key: str) -> dict[str, Any] | None:
        with self._explained(key):
            try:
                return dict(self._client.head_object(Bucket=self._source.bucket, Key=key))
            except ClientError as error:
                if _status(error) == 404:
                    return None
                raise

    def _list(self, prefix: str) -> Iterator[dict[str, Any]]:
        with self._explained(prefix):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._source.bucket, Prefix=prefix):
                yield from page.get("Contents", ())

    def _missing(self) -> Refused:
        """Say what lies in the folder of the key: the mistake is mostly one letter."""
        folder = self._source.key.rstrip("/").rpartition("/")[0]
        prefix = f"{folder}/" if folder else ""
        with self._explained(prefix):
            page = self._client.list_objects_v2(
                Bucket=self._source.bucket, Prefix=prefix, Delimiter="/", MaxKeys=8
            )
        found = [one["Key"] for one in page.get("Contents", ())]
        found += [one["Prefix"] for one in page.get("CommonPrefixes", ())]
        holds = ", ".join(repr(one) for one in sorted(found)) or "nothing"
        return Refused(
            "InputMissing",
            f"Input {self._credentials.input!r}: {self.shown} is neither an object nor the beginning of any; "
            f"{prefix or 'the bucket'} holds {holds}.",
        )

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError, HTTPError) as error:
            raise self._explain(error, what) from error

    def _explain(self, error: Exception, what: str) -> Exception:
        ours = job_error_in(error)
        if ours is not None:
            return ours
        name, where = self._credentials.input, self._source.endpoint or "AWS"
        if isinstance(error, ClientError):
            return self._answered(error, what)
        if isinstance(error, CredentialRetrievalError | NoCredentialsError):
            return self._forbidden(short(error))
        if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
            return Refused(
                "InputUnreachable",
                f"Input {name!r}: the certificate of {where} is not trusted: {verification_words(error)}. "
                f"For an authority of your own, put its certificate under the key {CA!r} of the input's "
                "Secret.",
            )
        return Interrupted(f"{where} does not answer: {short(error)}")

    def _answered(self, error: ClientError, what: str) -> Exception:
        name, bucket = self._credentials.input, self._source.bucket
        code, status = error.response.get("Error", {}).get("Code", ""), _status(error)
        if code == "NoSuchBucket":
            return Refused("InputMissing", f"Input {name!r}: there is no bucket {bucket!r}.")
        if status == 412 or code == "PreconditionFailed":
            return Interrupted(f"s3://{bucket}/{what} was replaced while it was read")
        if status == 404:
            return Interrupted(f"s3://{bucket}/{what} was removed while it was read")
        if status in (429, 408) or status >= 500 or code in ("SlowDown", "RequestTimeout"):
            return Interrupted(f"S3 answered {code or status}")
        # 400 too: ExpiredToken, AuthorizationHeaderMalformed (another region) and their like.
        return self._forbidden(code or f"HTTP {status}")

    def _forbidden(self, why: str) -> Refused:
        return Refused(
            "InputForbidden",
            f"Input {self._credentials.input!r}: S3 refuses to give {self.shown}: {why.rstrip('.')}. "
            f"{self._credentials.in_words(KEYS)} A ServiceAccount named in "
            "spec.build.pod.serviceAccountName can bring credentials instead.",
        )


def connect(source: S3Source, credentials: Credentials) -> Any:
    """A client of S3. Raises Refused when the Secret holds one half of a key pair."""
    # The node's role would let every user of the cluster read what the node may.
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    pair = credentials.pair(ACCESS_KEY, SECRET_KEY)
    known: dict[str, Any] = {}
    if pair:
        known = {"aws_access_key_id": pair[0], "aws_secret_access_key": pair[1]}
        known["aws_session_token"] = credentials.get(SESSION_TOKEN) or None
    session = boto3.session.Session(**known)
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=SILENCE_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 2},
        proxies={},
        s3={"addressing_style": "path" if source.endpoint else "auto"},
        request_checksum_calculation=_WHEN_REQUIRED,
        response_checksum_validation=_WHEN_REQUIRED,
        signature_version=None if session.get_credentials() else UNSIGNED,
    )
    return session.client(
        "s3",
        region_name=source.region or DEFAULT_REGION,
        endpoint_url=source.endpoint or None,
        verify=str(credentials.ca_file) if credentials.ca_file else None,
        config=config,
    )


def _remote_file(path: str, size: int, answer: dict[str, Any]) -> RemoteFile:
    return RemoteFile(path, str(answer["ETag"]), int(size))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
