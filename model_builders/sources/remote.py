"""What every source over the network is to the fetch: a list of files, and the bytes of each from anywhere
on."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from model_builders.sources.web import Body

Kind = Literal["File", "Folder"]


@dataclass(frozen=True)
class RemoteFile:
    path: str
    """What it will be called in the store: relative, with slashes. Not yet checked."""
    version: str
    """Equal versions are equal bytes, so that half a file may be completed: a digest, an ETag."""
    size: int | None = None
    """In bytes; `None`: only the answer will say."""
    sha256: str = ""
    """What the source says of the bytes; empty: nothing."""
    git_sha1: str = ""
    """Git's name of the bytes: sha1 of `blob <size>\\0` and them; empty: none is known."""


class Remote(Protocol):
    """Raises JobError, and Interrupted for what passes."""

    kind: Kind
    shown: str
    """How messages name it."""

    def files(self) -> list[RemoteFile]: ...

    def read(self, file: RemoteFile, offset: int) -> AbstractContextManager[Body]: ...
