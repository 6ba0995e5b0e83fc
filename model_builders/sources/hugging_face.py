"""A model repository of the Hugging Face hub at one commit: `huggingFace {repository, revision, include}`.

Two requests of the hub's API are used, the list of a revision's files and the bytes of one, so its client
library is not: that one follows redirects to anywhere, does not compare the bytes with the hub's own sha256,
and moves large files through a program in Rust, where our guard over addresses sees nothing.

The files' bytes are held against what the hub says of the revision: sha256 and size where it keeps them in
its large file storage, else Git's own name of them. Secret: `token`, and `ca.crt`.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

from model_builders.errors import Refused
from model_builders.messages import HuggingFaceSource
from model_builders.sources.credentials import Credentials
from model_builders.sources.remote import Kind, RemoteFile
from model_builders.sources.web import Answer, Body, Web, content_range_start, host_of, refuse_status

ENDPOINT = "https://huggingface.co"
"""The hub, unless HF_ENDPOINT names a mirror or a hub of one's own."""
HUB_HOSTS = ("*.huggingface.co", "*.hf.co")
"""Where the hub keeps large files. Both domains are Hugging Face's own."""
KEYS = ("token",)

DEFAULT_INCLUDE = (
    "config.json",
    "config_sentence_transformers.json",
    "generation_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.spm",
    "*.safetensors",
    "*.safetensors.index.json",
    "[0-9]_*/config.json",
    "[0-9]_*/*.safetensors",
    "LICENSE*",
)
"""What a model is made of: configuration, tokenizer, weights as safetensors, the modules of
sentence-transformers."""

SHA256 = re.compile(r"[0-9a-f]{64}")
SHA1 = re.compile(r"[0-9a-f]{40}")


class HuggingFaceRepository:
    kind: Kind = "Folder"

    def __init__(
        self, source: HuggingFaceSource, credentials: Credentials, redirect_hosts: Sequence[str]
    ) -> None:
        self._source, self._credentials = source, credentials
        self._endpoint = (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
        if not self._endpoint.startswith("https://"):
            raise Refused(
                "NetworkRefused",
                f"HF_ENDPOINT is {self._endpoint!r}; it must begin with https://. It is the operator's "
                "setting hugging-face-endpoint.",
            )
        of_hub = HUB_HOSTS if self._endpoint == ENDPOINT else ()
        self._web = Web(credentials, (*of_hub, *redirect_hosts))
        self.shown = f"{source.repository} at {source.revision[:12]}"

    def files(self) -> list[RemoteFile]:
        source = self._source
        url = f"{self._endpoint}/api/models/{source.repository}/revision/{source.revision}?blobs=true"
        with self._web.get(url, self._headers()) as answer:
            self._refuse(answer, f"revision {source.revision} of {source.repository}")
            listed = parse_listing(self._credentials.input, answer.read(), source.revision)
        include = source.include or DEFAULT_INCLUDE
        chosen = [file for file in listed if any(matches(file.path, pattern) for pattern in include)]
        if not chosen:
            names = ", ".join(repr(file.path) for file in listed[:8])
            raise Refused(
                "InputMissing",
                f"Input {self._credentials.input!r}: no file of {self.shown} matches include "
                f"({', '.join(include[:8])}{' ...' if len(include) > 8 else ''}); it holds "
                f"{names or 'nothing'}{' and more' if len(listed) > 8 else ''}.",
            )
        return chosen

    @contextmanager
    def read(self, file: RemoteFile, offset: int) -> Iterator[Body]:
        if file.size == 0 or offset == file.size:
            yield Body(offset, iter(()))
            return
        source = self._source
        url = f"{self._endpoint}/{source.repository}/resolve/{source.revision}/{quote(file.path)}"
        headers = self._headers() | ({"Range": f"bytes={offset}-"} if offset else {})
        with self._web.get(url, headers) as answer:
            self._refuse(answer, f"{file.path!r} in {self.shown}")
            yield Body(content_range_start(answer), answer.chunks)

    def _headers(self) -> dict[str, str]:
        token = self._credentials.get("token")
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _refuse(self, answer: Answer, what: str) -> None:
        # The hub answers 401 also for a repository that does not exist, and says which it is in a header.
        code = answer.headers.get("x-error-code", "")
        if answer.status in (401, 403, 404) and code in ("RepoNotFound", "RevisionNotFound", "EntryNotFound"):
            private = f" It may be private. {self._credentials.in_words(KEYS)}"
            raise Refused(
                "InputMissing",
                f"Input {self._credentials.input!r}: {host_of(answer.url)} has no {what} ({code})."
                f"{private if code == 'RepoNotFound' else ''}",
            )
        if answer.status in (401, 403) and code == "GatedRepo":
            raise Refused(
                "InputForbidden",
                f"Input {self._credentials.input!r}: {self._source.repository} is gated; accept its terms on "
                f"{host_of(answer.url)} and use a token of that account. {self._credentials.in_words(KEYS)}",
            )
        refuse_status(self._credentials.input, answer, what, self._credentials, KEYS)


def parse_listing(name: str, content: bytes, revision: str) -> list[RemoteFile]:
    """The files of a revision, from the hub's answer with `blobs=true`.

    Raises Refused when it is of another revision, or does not say how large a file is and what it hashes to.
    """
    try:
        answer = json.loads(content)
        sha, siblings = answer["sha"], answer["siblings"]
        files = [_remote_file(sibling) for sibling in siblings]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise Refused(
            "InputInvalid",
            f"Input {name!r}: the hub's list of files cannot be read ({type(error).__name__}: {error}). Is "
            "the operator's setting hugging-face-endpoint a Hugging Face hub?",
        ) from error
    if sha != revision:
        raise Refused(
            "HashMismatch",
            f"Input {name!r}: the hub answered with revision {sha!r}, not {revision}. Is the operator's "
            "setting hugging-face-endpoint a mirror that keeps one revision only?",
        )
    return files


def _remote_file(sibling: Any) -> RemoteFile:
    path, large = str(sibling["rfilename"]), sibling.get("lfs")
    if large:
        sha256 = str(large["sha256"])
        if not SHA256.fullmatch(sha256):
            raise ValueError(f"the sha256 of {path!r} is {sha256!r}")
        return RemoteFile(path, sha256, int(large["size"]), sha256=sha256)
    sha1 = str(sibling["blobId"])
    if not SHA1.fullmatch(sha1):
        raise ValueError(f"the blobId of {path!r} is {sha1!r}")
    return RemoteFile(path, sha1, int(sibling["size"]), git_sha1=sha1)


def matches(path: str, pattern: str) -> bool:
    """A glob whose `*` stays within a folder; `**` as a part of its own is any number of folders."""
    return _matches(path.split("/"), pattern.split("/"))


def _matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_matches(parts[skip:], patterns[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _matches(parts[1:], patterns[1:])
