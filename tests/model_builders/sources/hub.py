"""The parts of the Hugging Face hub's API that a download uses, spoken by a local TLS server.

What it answers is held against the hub's own client in `test_hugging_face.py`, so that both sides of a test
cannot be wrong in the same way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.model_builders.sources.servers import Asked, Reply, file_reply

REVISION = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "novels/encoder"
LARGE_BYTES = 1000
"""Files of this size and more are in large file storage, as `.gitattributes` would say."""


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Hub:
    files: Mapping[str, bytes]
    token: str = ""
    """Asked for when it is not empty."""
    storage: str = ""
    """`https://host` that the bytes of large files are on; empty: the hub itself."""
    gated: bool = False
    stored: dict[str, bytes] = field(default_factory=dict)

    def __call__(self, asked: Asked) -> Reply:
        path = asked.path.partition("?")[0]
        if path.startswith("/storage/"):
            return file_reply(asked, self.content(path.removeprefix("/storage/")))
        if self.token and asked.headers.get("authorization") != f"Bearer {self.token}":
            return Reply(401, b"{}", {"X-Error-Code": "GatedRepo" if self.gated else "RepoNotFound"})
        if not path.startswith((f"/api/models/{REPOSITORY}", f"/{REPOSITORY}/")):
            return Reply(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        if REVISION not in path and not path.endswith(REPOSITORY):
            return Reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if path.startswith(f"/api/models/{REPOSITORY}/tree/"):
            return Reply(200, json.dumps(self.tree()).encode(), {"Content-Type": "application/json"})
        if path.startswith("/api/"):
            return Reply(200, json.dumps(self.listing()).encode(), {"Content-Type": "application/json"})
        return self.resolve(asked, path.partition(f"/resolve/{REVISION}/")[2])

    def content(self, name: str) -> bytes:
        return self.stored.get(name, self.files[name])

    def listing(self) -> dict[str, object]:
        return {
            "id": REPOSITORY,
            "sha": REVISION,
            "siblings": [self.sibling(name, content) for name, content in sorted(self.files.items())],
        }

    def sibling(self, name: str, content: bytes) -> dict[str, object]:
        found: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": git_sha1(content)}
        if len(content) >= LARGE_BYTES:
            digest = hashlib.sha256(content).hexdigest()
            found["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 135}
        return found

    def tree(self) -> list[dict[str, object]]:
        """The same files as the hub's own client lists them today."""
        entries = []
        for name, content in sorted(self.files.items()):
            entry = {"type": "file", "path": name, "size": len(content), "oid": git_sha1(content)}
            if len(content) >= LARGE_BYTES:
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 135}
            entries.append(entry)
        return entries

    def resolve(self, asked: Asked, name: str) -> Reply:
        if name not in self.files:
            return Reply(404, b"", {"X-Error-Code": "EntryNotFound"})
        content = self.files[name]
        headers = {"X-Repo-Commit": REVISION}
        if len(content) < LARGE_BYTES:
            reply = file_reply(asked, self.content(name))
            return Reply(
                reply.status, reply.body, {**reply.headers, **headers, "ETag": f'"{git_sha1(content)}"'}
            )
        headers |= {
            "X-Linked-Size": str(len(content)),
            "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
            "Location": f"{self.storage}/storage/{name}",
        }
        return Reply(302, b"", headers)
