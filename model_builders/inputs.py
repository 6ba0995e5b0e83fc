"""Reads what the user mounted, and nothing beside it.

The folder belongs to somebody else: it can hold links to anywhere, pipes that never end, files that change
while they are read. So every file is opened component by component relative to its folder with O_NOFOLLOW,
and only regular files are taken.

Links. A link anywhere below the input is refused, with one exception: the kubelet's own layout of ConfigMap
volumes,

    novels.tsv -> ..data/novels.tsv      ..data -> ..2026_11_25_00_00_00.123/
    ..2026_11_25_00_00_00.123/novels.tsv

The path of the input itself may lead through links (`current -> v3`) as long as it ends inside the volume.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from model_builders.errors import JobError, Refused, TryAgain
from model_builders.trust import MAX_DEPTH, MAX_FILES

KUBELET_DATA = "..data"
LOST_AND_FOUND = "lost+found"
"""The folder that ext4 keeps at the root of every volume, readable by root alone: never part of an input."""

Kind = Literal["File", "Folder"]


@dataclass(frozen=True)
class Entry:
    """One regular file: `path` as it is called in the store, relative and with slashes."""

    path: str
    size: int


@dataclass(frozen=True)
class Input:
    """An input that exists: where it really lies, and under which names its files are kept."""

    name: str
    kind: Kind
    shown: str
    """The path as the user gave it, for messages."""
    root: Path
    """The folder that holds the entries, free of links."""
    entries: tuple[Entry, ...]
    real_names: tuple[str, ...]
    """Path of each entry below `root`; differs from its name in the store for a single file behind a link."""

    @property
    def is_model(self) -> bool:
        """Whether it is the folder of a model as Hugging Face lays it out, or has one in it."""
        return any(PurePosixPath(entry.path).name == "config.json" for entry in self.entries)

    @property
    def bytes(self) -> int:
        return sum(entry.size for entry in self.entries)

    @contextmanager
    def open(self, index: int) -> Iterator[int]:
        """A file descriptor of one entry's bytes.

        Raises JobError when it is no longer a readable regular file.
        """
        with self._explained(index):
            descriptor = _open_below(self.root, self.real_names[index])
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise changed_while_read(self.name, self.shown_path(index))
            yield descriptor
        finally:
            os.close(descriptor)

    def shown_path(self, index: int) -> str:
        """How the user knows an entry: by its path in the input, or by the path of the input when that is the
        file."""
        return self.shown if self.kind == "File" else self.entries[index].path

    @contextmanager
    def _explained(self, index: int) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise changed_while_read(self.name, self.shown_path(index)) from error
        except OSError as error:
            raise self.explain(error, index) from error

    def explain(self, error: OSError, index: int) -> JobError:
        return explain(error, self.name, self.shown_path(index), self.root / self.real_names[index])


def changed_while_read(name: str, relative: str) -> TryAgain:
    return TryAgain(
        "InputUnreadable",
        f"Input {name!r}: {relative!r} changed while it was read. It is read again; "
        "write inputs elsewhere and move them into place when they are complete.",
    )


def find_input(name: str, path: str, volumes: Path, max_bytes: int) -> Input:
    """Look at an input without reading its bytes.

    `volumes` is the folder in which every input's volume is mounted under the input's name (`/inputs` in a
    Job). A path outside of it is taken as it is: a run on the user's own machine, where path and volume are
    the same. Raises JobError for whatever cannot be an input.
    """
    given = PurePosixPath(path)
    if not given.is_absolute() or ".." in given.parts:
        raise Refused(
            "InputRefused",
            f"Input {name!r}: the path {path!r} is refused; it must be absolute and without '..' in it.",
        )
    volume = volumes / name
    volume = volume if given.is_relative_to(volume) else Path(path)
    shown = str(given.relative_to(volumes / name)) if given.is_relative_to(volumes / name) else path
    real, real_volume = _resolve(name, shown, Path(path), volume)

    with _explained_for(name, shown, real):
        mode = real.lstat().st_mode
        if stat.S_ISREG(mode):
            entries: tuple[Entry, ...] = (Entry(PurePosixPath(path).name, real.lstat().st_size),)
            _check_name(name, entries[0].path)
            found = Input(name, "File", shown, real.parent, entries, (real.name,))
        elif stat.S_ISDIR(mode):
            root = _kubelet_data(real) or real
            files = tuple(_walk(name, root, at_volume_root=root == real_volume))
            entries = tuple(sorted(files, key=lambda entry: entry.path.encode("utf-8")))
            found = Input(name, "Folder", shown, root, entries, tuple(entry.path for entry in entries))
        else:
            raise _not_a_file(name, shown, mode)

    if not found.bytes:
        what = (
            "is an empty file"
            if found.kind == "File"
            else f"holds {len(entries)} {'file' if len(entries) == 1 else 'files'}, none with a byte in it"
        )
        raise Refused(
            "InputEmpty", f"Input {name!r}: {in_quotes(shown)} {what}; there is nothing to build from."
        )
    if found.bytes > max_bytes:
        raise Refused(
            "InputTooLarge",
            f"Input {name!r}: {in_quotes(shown)} holds {found.bytes:,} bytes; at most {max_bytes:,} are "
            "fetched. Point the source at less.",
        )
    return found


def in_quotes(shown: str) -> str:
    """How messages name a path below the volume; the volume itself has none that the user gave."""
    return "the volume" if shown == "." else repr(shown)


def _resolve(name: str, shown: str, path: Path, volume: Path) -> tuple[Path, Path]:
    """The real path of input and volume.

    Raises Refused when the input lies outside of its volume or does not exist.
    """
    with _explained_for(name, shown, path):
        real_volume = volume.resolve(strict=False)
        try:
            # Path.resolve says of a loop of links something else in each version of Python.
            real = Path(os.path.realpath(path, strict=True))
        except FileNotFoundError as error:
            raise _missing(name, shown, path, volume) from error
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise Refused(
                "InputRefused",
                f"Input {name!r}: {shown!r} leads through a link that leads back to itself. Put the data "
                "there instead of the link.",
            ) from error
    if path != volume and not real.is_relative_to(real_volume):
        raise Refused(
            "InputRefused",
            f"Input {name!r}: {shown!r} leads out of its volume, to {str(real)!r}. Only what "
            f"lies in the volume is read; "
            "put the data there instead of a link.",
        )
    return real, real_volume


def _missing(name: str, shown: str, path: Path, volume: Path) -> Refused:
    """Say up to where the path exists and what lies there: the mistake is mostly one letter."""
    if path.is_symlink():
        target = str(path.readlink())
        return Refused(
            "InputMissing", f"Input {name!r}: {shown!r} is a link to {target!r}, which does not exist."
        )
    parent = path.parent
    while parent != volume and not parent.exists() and parent.parent != parent:
        parent = parent.parent
    try:
        names = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith(".."))
    except OSError:
        return Refused(
            "InputMissing", f"Input {name!r}: {shown!r} does not exist, nor does the folder it should lie in."
        )
    where = str(parent.relative_to(volume)) if parent.is_relative_to(volume) else str(parent)
    listed = ", ".join(repr(entry) for entry in names[:8]) + (
        f" and {len(names) - 8} more" if len(names) > 8 else ""
    )
    return Refused(
        "InputMissing",
        f"Input {name!r}: {shown!r} does not exist; {in_quotes(where)} holds {listed or 'nothing'}.",
    )


def _kubelet_data(folder: Path) -> Path | None:
    """Where the kubelet keeps the files of a ConfigMap volume, or None when the folder is not one.

    The link must lead to a folder beside it whose name starts with two dots, as the kubelet's does; any other
    is the user's.
    """
    link = folder / KUBELET_DATA
    if not link.is_symlink():
        return None
    target = str(link.readlink())
    if "/" in target or not target.startswith("..") or target in ("..", KUBELET_DATA):
        return None
    real = folder / target
    return real if real.is_dir() and not real.is_symlink() else None


def _walk(name: str, root: Path, at_volume_root: bool) -> Iterator[Entry]:
    """Every regular file below a folder.

    Raises Refused for links, devices, pipes, sockets and names that cannot be kept.
    """
    count = 0
    pending = [PurePosixPath()]
    while pending:
        folder = pending.pop()
        if len(folder.parts) > MAX_DEPTH:
            raise Refused(
                "InputRefused", f"Input {name!r}: {str(folder)!r} lies deeper than {MAX_DEPTH} folders."
            )
        with _explained_for(name, str(folder), root / folder):
            descriptor = _open_below(root, str(folder), os.O_DIRECTORY)
            try:
                listed = [(entry.name, entry.stat(follow_symlinks=False)) for entry in os.scandir(descriptor)]
            finally:
                os.close(descriptor)
        for entry_name, status in listed:
            relative = folder / entry_name
            if at_volume_root and str(relative) == LOST_AND_FOUND and stat.S_ISDIR(status.st_mode):
                continue
            _check_name(name, str(relative))
            if stat.S_ISDIR(status.st_mode):
                pending.append(relative)
                continue
            if stat.S_ISLNK(status.st_mode):
                target = str((root / relative).readlink())
                raise Refused(
                    "InputRefused",
                    f"Input {name!r}: {str(relative)!r} is a symbolic link to {target!r}. "
                    "Links are not followed; replace it by the file it points to.",
                )
            if not stat.S_ISREG(status.st_mode):
                raise _not_a_file(name, str(relative), status.st_mode)
            count += 1
            if count > MAX_FILES:
                raise Refused(
                    "InputTooLarge",
                    f"Input {name!r}: it holds more than {MAX_FILES:,} files. "
                    "Gather them in fewer files, for example one line a document in a .tsv.",
                )
            yield Entry(str(relative), status.st_size)


def _check_name(name: str, relative: str) -> None:
    try:
        relative.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Refused(
            "InputEncoding",
            f"Input {name!r}: the file name {os.fsencode(relative)!r} is not UTF-8. Rename the file.",
        ) from error
    if "\\" in relative or any(ord(character) < 32 or ord(character) == 127 for character in relative):
        raise Refused(
            "InputRefused",
            f"Input {name!r}: the file name {relative!r} holds a backslash or a control "
            f"character. Rename the file.",
        )


def _not_a_file(name: str, relative: str, mode: int) -> Refused:
    kinds = (
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISLNK, "a symbolic link"),
    )
    kind = next((text for test, text in kinds if test(mode)), "a special file")
    return Refused(
        "InputRefused",
        f"Input {name!r}: {relative!r} is {kind}. Only regular files and folders are taken; remove it.",
    )


def _open_below(root: Path, relative: str, last_flags: int = 0) -> int:
    """Open a path below a folder without following a link in any component.

    O_NONBLOCK: opening a named pipe that took the file's place would otherwise wait for a writer for ever.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    parts = PurePosixPath(relative).parts
    descriptor = os.open(root, flags | os.O_DIRECTORY)
    for index, part in enumerate(parts):
        above = descriptor
        is_last = index == len(parts) - 1
        try:
            descriptor = os.open(part, flags | (last_flags if is_last else os.O_DIRECTORY), dir_fd=above)
        finally:
            os.close(above)
    return descriptor


@contextmanager
def _explained_for(name: str, relative: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explain(error, name, relative, path) from error


def explain(error: OSError, name: str, relative: str, path: Path) -> JobError:
    """The sentence for a file of the user's that could not be read."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return Refused(
            "InputUnreadable",
            f"Input {name!r}: {relative!r} cannot be read by {_who()}{_owner(path)}. {_PERMIT}",
        )
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return Refused(
            "InputRefused",
            f"Input {name!r}: {relative!r} leads through a link or a file. Links are not followed.",
        )
    if error.errno == errno.ENAMETOOLONG:
        return Refused(
            "InputRefused", f"Input {name!r}: the path {relative[:80]!r}… is too long for a file system."
        )
    return TryAgain("InputUnreadable", f"Input {name!r}: {relative!r} could not be read: {error.strerror}.")


_PERMIT = "Let everybody read it: chmod -R o+rX on the volume."


def _who() -> str:
    return f"user {os.geteuid()} of group {os.getegid()}"


def _owner(path: Path) -> str:
    try:
        status = path.lstat()
    except OSError:
        return ""
    return f" (it belongs to {status.st_uid}:{status.st_gid}, mode {stat.S_IMODE(status.st_mode):04o})"
