"""Whole objects under one prefix of an S3 bucket.

    BucketError
    ├── Absent        there is no such object
    ├── Denied        no such bucket, or the credentials are not good for it: only an administrator can help
    ├── Changed       a file is not, or not any more, what its writer says: nothing of it is stored
    └── Unreachable   no answer, or the server has a fault of its own: later it may work

Objects appear whole or not at all, which S3 promises of every upload; each carries the sha256 of its bytes as
metadata, so that a writer knows without reading whether it is there already. The texts of errors say the same
as long as the cause is the same: they end in a status, where every other text would be a change.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
)

from nlp_bucket.address import ACCESS_KEY, CA, SECRET_KEY, SESSION_TOKEN, Address

T = TypeVar("T")

PART_BYTES = 16 * 1024 * 1024
"""What one request carries at most, up or down: little is lost when one fails, and four are in memory."""
PARTS_AT_ONCE = 4
CONNECT_SECONDS = 5
SILENCE_SECONDS = 30
"""A server that sends nothing for so long does not answer."""
LONGEST_PAUSE = 15.0

SHA256_METADATA = "sha256"
"""The header x-amz-meta-sha256."""

WHOLE_BYTES = 4 * PART_BYTES
"""A file of fewer goes in one request."""


class BucketError(Exception):
    """A sentence of what went wrong, without the address."""


class Absent(BucketError):
    """There is no such object."""


class Denied(BucketError):
    """The bucket is not there, or these credentials may not do this."""


class Changed(BucketError):
    """The bytes of a file are not those of the sha256 that its writer gave."""


class Unreachable(BucketError):
    """The server gave no answer, or one that says it cannot work just now."""


class Bucket:
    """One client, for any number of threads.

    `patience_seconds`: how long a request is tried again while the server does not answer; 0 means once.
    Raises Denied when the credentials are not there.
    """

    def __init__(self, address: Address, patience_seconds: float = 0) -> None:
        self.address = address
        self._patience = patience_seconds
        self._client = _connect(address)

    def read(self, key: str, at_most: int) -> bytes:
        """A whole object. Raises ValueError when it has more bytes than that."""

        def get() -> bytes:
            found = self._client.get_object(**self._named(key))
            with found["Body"] as body:
                if found["ContentLength"] > at_most:
                    raise ValueError(
                        f"{key} has {found['ContentLength']:,} bytes; at most {at_most:,} are read"
                    )
                return bytes(body.read())

        return self._try(get)

    def parts(self, key: str, size: int, start: int = 0) -> Iterator[bytes]:
        """The bytes of an object from `start` to `size`, with a request for each PART_BYTES.

        An object that is shorter ends early: the reader has to check what it got.
        """
        while start < size:
            last = min(start + PART_BYTES, size) - 1
            part = self._try(partial(self._read_span, key, f"bytes={start}-{last}"))
            if not part:
                return
            yield part
            start += len(part)

    def _read_span(self, key: str, span: str) -> bytes:
        try:
            with self._client.get_object(**self._named(key), Range=span)["Body"] as body:
                return bytes(body.read())
        except ClientError as error:
            if error.response["Error"]["Code"] == "InvalidRange":  # it ends before the first of these bytes
                return b""
            raise

    def list(self, folder: str) -> dict[str, int]:
        """What lies below a folder: the bytes of each object by its path relative to it."""
        below = self._named(f"{folder}/")["Key"]

        def pages() -> dict[str, int]:
            found = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.address.bucket, Prefix=below
            )
            return {
                one["Key"].removeprefix(below): one["Size"]
                for page in found
                for one in page.get("Contents", ())
                if not one["Key"].endswith("/")  # folders that some servers list as objects
            }

        return self._try(pages)

    def sha256_of(self, key: str) -> str:
        """What its writer said of an object; empty when it said nothing."""
        head = self._try(lambda: self._client.head_object(**self._named(key)))
        return str(head["Metadata"].get(SHA256_METADATA, ""))

    def write(self, key: str, content: bytes | Path, sha256: str = "") -> None:
        """A large file goes in parts; what a killed writer leaves of these is no object.

        The sha256 of a file is that of the very bytes that are sent, whoever else writes to it meanwhile:
        others are not stored. Raises Changed.
        """
        metadata = {SHA256_METADATA: sha256} if sha256 else {}
        named = self._named(key)
        if isinstance(content, bytes):
            self._try(lambda: self._client.put_object(**named, Body=content, Metadata=metadata))
        else:
            self._try(lambda: self._send(named, content, sha256, metadata))

    def _send(self, named: dict[str, str], path: Path, sha256: str, metadata: dict[str, str]) -> None:
        with _open_plain(path) if sha256 else path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = cast(IO[bytes], _Proven(file, size, sha256)) if sha256 else file
            if size < WHOLE_BYTES:
                self._client.put_object(**named, Body=content.read(size), Metadata=metadata)
            else:
                self._send_in_parts(named, content, metadata)

    def _send_in_parts(self, named: dict[str, str], content: IO[bytes], metadata: dict[str, str]) -> None:
        # Takes a fifth of what there is to load, and few need it.
        from boto3.s3.inject import upload_fileobj
        from boto3.s3.transfer import TransferConfig

        parts = TransferConfig(
            multipart_threshold=WHOLE_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=PARTS_AT_ONCE
        )
        parts.max_in_memory_upload_chunks = PARTS_AT_ONCE
        more = {"ExtraArgs": {"Metadata": metadata}, "Config": parts}
        upload_fileobj(self._client, content, named["Bucket"], named["Key"], **more)

    def delete(self, keys: Sequence[str]) -> None:
        """An object that is gone already is no error.

        One by one: the request for many at once needs a checksum that not every server understands.
        """
        for key in keys:
            self._try(partial(self._client.delete_object, **self._named(key)))

    def _named(self, key: str) -> dict[str, str]:
        prefix = f"{self.address.prefix}/" if self.address.prefix else ""
        return {"Bucket": self.address.bucket, "Key": f"{prefix}{key}"}

    def _try(self, call: Callable[[], T]) -> T:
        """The one place that waits for a server to come back."""
        deadline, pause = time.monotonic() + self._patience, 0.5
        while True:
            try:
                with _explained(self.address):
                    return call()
            except Unreachable:
                if time.monotonic() + pause > deadline:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)


class _Proven(io.RawIOBase):
    """Reads a file once, from its begin to its end, and does not give the last byte unless all have this
    sha256. An upload in parts that cannot read its last one is given up, and is no object."""

    def __init__(self, file: IO[bytes], size: int, sha256: str) -> None:
        self._file = file
        self._size = size
        self._sha256 = sha256
        self._read = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True  # so that its size is asked for, and is nobody's guess

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        wanted = self._size - self._file.tell() if size < 0 else size
        content = self._file.read(wanted)
        self._read.update(content)
        is_last = len(content) < wanted or self._file.tell() >= self._size
        if is_last and (self._file.tell() != self._size or self._read.hexdigest() != self._sha256):
            raise Changed("A file is not, or not any more, what it is said to be.")
        return content


def _open_plain(path: Path) -> IO[bytes]:
    """No link is followed, and nothing waits for who might write into a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise Changed(f"A file cannot be read any more: {error.strerror}.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Changed("A file is none any more.")
    return os.fdopen(descriptor, "rb")


def _connect(address: Address) -> Any:
    known: dict[str, Any] = {}
    if address.credentials is not None:
        known["aws_access_key_id"] = _secret(address.credentials, ACCESS_KEY)
        known["aws_secret_access_key"] = _secret(address.credentials, SECRET_KEY)
        if (address.credentials / SESSION_TOKEN).is_file():
            known["aws_session_token"] = _secret(address.credentials, SESSION_TOKEN)
        if (address.credentials / CA).is_file():
            known["verify"] = str(address.credentials / CA)
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=SILENCE_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 2},
        max_pool_connections=4 * PARTS_AT_ONCE,
        # The server checks the sha256 of what it is sent. Checksums of AWS's own are left away: not every
        # server that speaks S3 knows them.
        s3={"payload_signing_enabled": True, "addressing_style": "path" if address.endpoint else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return botocore.session.Session().create_client(
        "s3", region_name=address.region, endpoint_url=address.endpoint or None, config=config, **known
    )


def _secret(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Denied(
            f"The Secret with the store's credentials has no readable key {name}; "
            f"it needs {ACCESS_KEY} and {SECRET_KEY}."
        ) from error


@contextmanager
def _explained(address: Address) -> Iterator[None]:
    try:
        yield
    except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
        raise Denied(
            "There are no credentials for it: name a Secret, or a ServiceAccount that brings some."
        ) from error
    except (ClientError, BotoCoreError) as error:
        raise _judged(address, error) from error


_CAUSES: tuple[tuple[type[Exception], str], ...] = (
    (SSLError, "its certificate is not trusted; a CA of your own goes into the Secret as ca.crt"),
    (ConnectTimeoutError, "it cannot be connected to"),
    (EndpointConnectionError, "it cannot be connected to"),
    (ReadTimeoutError, f"it has been silent for {SILENCE_SECONDS} s"),
)


def _judged(address: Address, error: Exception) -> BucketError:
    if not isinstance(error, ClientError):
        why = next((words for kind, words in _CAUSES if isinstance(error, kind)), "the connection broke")
        return Unreachable(f"The server does not answer: {why}.")
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "NoSuchBucket":
        return Denied(f"There is no bucket {address.bucket!r}.")
    if code in ("NoSuchKey", "404"):  # the answer to a HEAD has no more than its status
        return Absent("There is no such object.")
    if status >= 500 or status in (408, 429) or code in ("RequestTimeout", "SlowDown"):
        return Unreachable(f"The server cannot work just now: it answers {code or status}.")
    return Denied(f"The server refuses the request: {code or status}.")
