"""Where a bucket is and who may use it, from the environment of a pod (docs/architecture.md, section 2).

NLP_STORE              s3://bucket/prefix; anything else is a folder, and no business of this package
NLP_STORE_ENDPOINT     https://host:port of an S3-compatible server; empty means AWS
NLP_STORE_REGION       us-east-1 when unset
NLP_STORE_CREDENTIALS  a folder with one file a key, as a Secret is mounted; empty means what the pod's
                       ServiceAccount brings (web identity, as AWS's SDKs find it)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SCHEME = "s3://"
BUCKET = re.compile(r"[a-z0-9][-a-z0-9.]{1,61}[a-z0-9]")
PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
ENDPOINT = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/?|https?://\[[0-9a-fA-F:.]+\](:[0-9]{1,5})?/?")
DEFAULT_REGION = "us-east-1"

ACCESS_KEY = "AWS_ACCESS_KEY_ID"
SECRET_KEY = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 - the name of a file
SESSION_TOKEN = "AWS_SESSION_TOKEN"  # noqa: S105
CA = "ca.crt"


class AddressInvalid(ValueError):
    """The environment does not say where the bucket is; the text names every wrong variable."""


@dataclass(frozen=True)
class Address:
    bucket: str
    prefix: str = ""
    endpoint: str = ""
    region: str = DEFAULT_REGION
    credentials: Path | None = None
    """Read anew whenever the bucket is opened: a rotated Secret needs no new pod."""

    def __str__(self) -> str:
        where = f" at {self.endpoint}" if self.endpoint else ""
        return f"{SCHEME}{self.bucket}{'/' if self.prefix else ''}{self.prefix}{where}"


def address_in(environment: Mapping[str, str]) -> Address | None:
    """The bucket that NLP_STORE names; None when it names a folder. Raises AddressInvalid."""
    store = environment.get("NLP_STORE", "")
    if not store.startswith(SCHEME):
        return None
    endpoint = environment.get("NLP_STORE_ENDPOINT", "")
    folder = environment.get("NLP_STORE_CREDENTIALS", "")
    bucket, _, prefix = store.removeprefix(SCHEME).rstrip("/").partition("/")
    wrong = []
    if not BUCKET.fullmatch(bucket) or (prefix and not PREFIX.fullmatch(prefix)):
        wrong.append(f"NLP_STORE is {store!r}; it must be s3://bucket/prefix")
    if endpoint and not ENDPOINT.fullmatch(endpoint):
        wrong.append(f"NLP_STORE_ENDPOINT is {endpoint!r}; it must be https://host or https://host:port")
    if folder and not folder.startswith("/"):
        wrong.append(f"NLP_STORE_CREDENTIALS is {folder!r}; it must be an absolute path")
    if wrong:
        raise AddressInvalid("; ".join(wrong) + ".")
    return Address(
        bucket,
        prefix,
        endpoint.rstrip("/"),
        environment.get("NLP_STORE_REGION", "") or DEFAULT_REGION,
        Path(folder) if folder else None,
    )
