"""Digests of files and folders that a user can recompute with a shell.

Of a file: `sha256sum FILE`. Of a folder, in it:

    find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class FileDigest:
    """`path` is relative to the folder, with slashes."""

    path: str
    size: int
    sha256: str

    def to_json(self) -> dict[str, object]:
        return {"path": self.path, "size": self.size, "sha256": self.sha256}


def digest_of_folder(files: Iterable[FileDigest]) -> str:
    """sha256 of the lines that sha256sum would print for the files, in the order of `LC_ALL=C sort`.

    Holds for names without backslash and control characters, which sha256sum would escape; inputs with such
    names are refused.
    """
    lines = (f"{file.sha256}  {file.path}\n" for file in in_order(files))
    return hashlib.sha256("".join(lines).encode("utf-8")).hexdigest()


def in_order(files: Iterable[FileDigest]) -> list[FileDigest]:
    return sorted(files, key=lambda file: file.path.encode("utf-8"))


def digest_of_file(path: Path, relative: str) -> FileDigest:
    sha256, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            sha256.update(chunk)
            size += len(chunk)
    return FileDigest(relative, size, sha256.hexdigest())


def digests_in(folder: Path) -> list[FileDigest]:
    """Every regular file below a folder that we wrote ourselves. Raises OSError; links are not followed."""
    found = [
        digest_of_file(path, path.relative_to(folder).as_posix())
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    ]
    return in_order(found)
