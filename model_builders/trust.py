"""Which files are taken, by name and by content. Nothing that runs code when it is loaded enters the store.

What comes from the network (`Trust.ALLOWED_ONLY`) must be of a format on the list below, by its name and by
its bytes: the two agree, or the file is refused. Archives are not on it, because what is in them would be
looked at by nobody.

What is mounted, a PersistentVolumeClaim or a ConfigMap (`Trust.NO_CODE`), was put there by somebody who may
write to the namespace, and lies beside things that are no business of ours. There files of any format are
taken, but for pickles, also inside a zip file (PyTorch, NumPy), and in a folder of a model (one that holds
`config.json`) for Python code and configurations that ask for some (`auto_map`).

The builders open files of the first list only; so this is the first of two locks.
"""

import io
import json
import pickletools
import unicodedata
import zipfile
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import PurePosixPath
from typing import IO, Any

from model_builders.errors import Refused

MAX_DEPTH = 32
MAX_FILES = 100_000
"""The manifest lists every file; more belong into one larger file."""
MAX_NAME_BYTES = 255
"""What file systems take for one part of a path."""
MAX_CONFIG_BYTES = 16 << 20
"""Larger than any configuration; a tokenizer's with all its added tokens has 1 MB."""


class Trust(Enum):
    ALLOWED_ONLY = "from the network"
    NO_CODE = "mounted"


class Format(Enum):
    TEXT = "text"
    SAFETENSORS = "safetensors"
    ONNX = "an ONNX model"
    SENTENCEPIECE = "a sentencepiece model"


FORMATS: Mapping[str, Format] = {
    ".csv": Format.TEXT,
    ".json": Format.TEXT,
    ".jsonl": Format.TEXT,
    ".md": Format.TEXT,
    ".tsv": Format.TEXT,
    ".txt": Format.TEXT,
    ".vec": Format.TEXT,
    ".safetensors": Format.SAFETENSORS,
    ".onnx": Format.ONNX,
    ".model": Format.SENTENCEPIECE,
    ".spm": Format.SENTENCEPIECE,
}
TEXT_NAMES = ("LICENSE", "NOTICE", "README")
"""Beginnings of names without an ending."""

_PICKLES = (
    "may hold a pickle, which runs code when it is loaded. Leave it out, or convert weights to safetensors"
)
_ARCHIVES = "is an archive. Archives are not unpacked; bring the files themselves"
_CODE = "is code. A model's code is the builder's, never the repository's"
WHY_NOT: Mapping[str, str] = {
    **dict.fromkeys(
        (".bin", ".ckpt", ".joblib", ".npy", ".npz", ".ot", ".pickle", ".pkl", ".pt", ".pth"), _PICKLES
    ),
    **dict.fromkeys((".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".whl", ".xz", ".zip", ".zst"), _ARCHIVES),
    **dict.fromkeys((".dll", ".dylib", ".exe", ".jar", ".py", ".pyc", ".sh", ".so"), _CODE),
}

_HEAD_BYTES = 512
_ARCHIVE_MAGIC: Mapping[bytes, str] = {
    b"PK\x03\x04": "a zip file",
    b"PK\x05\x06": "a zip file",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "a 7z file",
    b"Rar!": "a rar file",
}
_OTHER_MAGIC: Mapping[bytes, str] = {
    b"\x7fELF": "a program",
    b"MZ": "a program",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF model",
    b"%PDF": "a PDF",
    b"version https://git-lfs.github.com/": "a pointer of Git LFS, which stands for the file",
}


def check_paths(name: str, paths: Iterable[str]) -> None:
    """Whether files of these paths can lie beside each other in a folder, on any file system.

    Raises Refused for a path that leads elsewhere, for names that differ only in case or in the way Unicode
    spells them, and for too many files.
    """
    spelled: dict[str, str] = {}
    files: set[str] = set()
    folders: set[str] = set()
    for path in paths:
        _check_path(name, path)
        if path in files:
            raise Refused("InputRefused", f"Input {name!r}: it holds {path!r} twice.")
        if len(files) == MAX_FILES:
            raise Refused("InputTooLarge", f"Input {name!r}: it holds more than {MAX_FILES:,} files.")
        files.add(path)
        above = [str(parent) for parent in PurePosixPath(path).parents if str(parent) != "."]
        folders.update(above)
        for one in (path, *above):
            folded = unicodedata.normalize("NFC", one).casefold()
            if spelled.setdefault(folded, one) != one:
                raise Refused(
                    "InputRefused",
                    f"Input {name!r}: {spelled[folded]!r} and {one!r} are the same name where case does not "
                    "count. Rename one.",
                )
    both = sorted(files & folders)
    if both:
        raise Refused("InputRefused", f"Input {name!r}: {both[0]!r} is a file and a folder at once.")


def _check_path(name: str, path: str) -> None:
    parts = path.split("/")
    if path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise Refused(
            "InputRefused",
            f"Input {name!r}: the path {path!r} is refused; it must be relative, without '.', '..' and empty "
            "parts.",
        )
    if len(parts) > MAX_DEPTH + 1:
        raise Refused("InputRefused", f"Input {name!r}: {path!r} lies deeper than {MAX_DEPTH} folders.")
    if any(len(part.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES for part in parts):
        raise Refused(
            "InputRefused", f"Input {name!r}: the path {path[:80]!r}… is too long for a file system."
        )
    if not path.isprintable() or "\\" in path:
        raise Refused(
            "InputRefused",
            f"Input {name!r}: the file name {path!r} holds a backslash or a control character.",
        )


def format_of(path: str) -> Format | None:
    """By the name; `None` when it is of no format that is taken from the network."""
    file = PurePosixPath(path)
    if not file.suffix or file.stem.startswith(TEXT_NAMES):
        return Format.TEXT if file.name.startswith(TEXT_NAMES) else None
    return FORMATS.get(file.suffix.lower())


def check_name(name: str, path: str, trust: Trust, in_model: bool = True) -> None:
    """Raises Refused for a file whose name alone rules it out. `in_model`: `config.json` lies beside it."""
    suffix = PurePosixPath(path).suffix.lower()
    if trust is Trust.NO_CODE:
        if in_model and suffix in (".py", ".pyc"):
            raise Refused("InputRefused", f"Input {name!r}: {path!r} {_CODE}; remove it.")
        return
    if format_of(path) is None:
        why = WHY_NOT.get(suffix, f"is of no format that is taken; those are {', '.join(sorted(FORMATS))}")
        raise Refused("InputRefused", f"Input {name!r}: {path!r} {why}.")


class FileCheck:
    """Looks at one file's bytes as they pass. Raises Refused as soon as they are not what may be taken."""

    def __init__(self, name: str, path: str, trust: Trust, in_model: bool = True) -> None:
        self._name, self._path, self._trust = name, path, trust
        self._format = format_of(path) if trust is Trust.ALLOWED_ONLY else None
        file = PurePosixPath(path).name
        self._is_config = in_model and (file.endswith("config.json") or file == "modules.json")
        self._head = b""
        self._config = b""
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if len(self._head) < _HEAD_BYTES:
            self._head += chunk[: _HEAD_BYTES - len(self._head)]
            if len(self._head) == _HEAD_BYTES:
                self._check_head()
        if (
            self._format is Format.TEXT
            and b"\0" in chunk
            and not self._head.startswith((b"\xff\xfe", b"\xfe\xff"))
        ):
            self._check_head()  # which knows better words for some
            raise self._refused("is no text: it holds zero bytes")
        if self._is_config:
            self._config += chunk
            if len(self._config) > MAX_CONFIG_BYTES:
                raise self._refused(f"has more than {MAX_CONFIG_BYTES:,} bytes, which no configuration has")

    def close(self) -> None:
        if self._size < _HEAD_BYTES:
            self._check_head()
        if self._is_config:
            self._check_config()

    def _check_head(self) -> None:
        head = self._head
        if self._trust is Trust.NO_CODE:
            if not _is_safetensors(head) and is_pickle(head):
                raise self._refused(f"is a pickle, which runs code when it is loaded. {_REMOVE}")
            return
        fits = {
            Format.TEXT: lambda: what_is(head) == "",
            Format.SAFETENSORS: lambda: _is_safetensors(head),
            Format.ONNX: lambda: head.startswith(b"\x08"),  # field 1, ir_version
            Format.SENTENCEPIECE: lambda: head.startswith(b"\x0a"),  # field 1, the first piece
        }
        assert self._format is not None, "check_name came before"
        if head and not fits[self._format]():
            found = what_is(head) or f"something that begins with {head[:8]!r}"
            raise self._refused(f"is not {self._format.value}, as its name says, but {found}")

    def _check_config(self) -> None:
        try:
            config = json.loads(self._config)
        except ValueError:
            return  # the builder says so in better words
        if _holds_key(config, "auto_map"):
            raise self._refused(
                "has an auto_map: the model needs Python code of its repository, which is never run. Use a "
                "model of an architecture that transformers knows, or remove auto_map if it does"
            )
        foreign = sorted(_module_types(config)) if PurePosixPath(self._path).name == "modules.json" else []
        if foreign:
            raise self._refused(
                f"names the module {foreign[0]!r}, which is none of sentence-transformers' own"
            )

    def _refused(self, what: str) -> Refused:
        return Refused("InputRefused", f"Input {self._name!r}: {self._path!r} {what.rstrip('.')}.")


_REMOVE = "Remove it, or convert weights to safetensors"


def check_zip(name: str, path: str, stream: IO[bytes]) -> None:
    """Refuse a zip file, whatever it is called, that holds a pickle: of PyTorch, or an array of objects.

    Reads the list of its members and the first bytes of arrays. What is not a whole zip file passes.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            for member in archive.infolist():
                with archive.open(member) as content:
                    head = content.read(_HEAD_BYTES)
                if is_pickle(head) or (head.startswith(b"\x93NUMPY") and b"|O" in head):
                    raise Refused(
                        "InputRefused",
                        f"Input {name!r}: {path!r} is a zip file with a pickle in it ({member.filename!r}), "
                        f"which runs code when it is loaded. {_REMOVE}.",
                    )
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError):
        return  # encrypted, damaged, of a method Python does not know: nothing that could be loaded


def is_zip(head: bytes) -> bool:
    return what_is(head) == "a zip file"


def what_is(head: bytes) -> str:
    """What a file is that is no text, in words; empty when it may be text."""
    if is_pickle(head):
        return "a pickle, which runs code when it is loaded"
    for magic, words in (*_ARCHIVE_MAGIC.items(), *_OTHER_MAGIC.items()):
        # Letters alone may begin a text; behind these a program or a model has zero bytes.
        if head.startswith(magic) and (not magic.isalpha() or b"\0" in head):
            return words
    if head[257:262] == b"ustar":
        return "a tar file"
    return ""


def is_pickle(head: bytes) -> bool:
    """Whether bytes begin as a pickle of protocol 2 or newer, which all of today's are.

    The old textual protocols cannot be told from text; a file that is only ever read as text does no harm.
    """
    if len(head) < 2 or head[0] != 0x80 or not 2 <= head[1] <= 5:
        return False
    operations = 0
    try:
        for _ in pickletools.genops(io.BytesIO(head)):
            operations += 1
    except Exception:  # noqa: S110 - cut off in the middle, or no pickle at all: what counts is how far it went
        pass
    return operations >= 2


def _is_safetensors(head: bytes) -> bool:
    """Eight bytes with the length of the header, and a header in JSON."""
    return len(head) >= 9 and int.from_bytes(head[:8], "little") <= 100_000_000 and head[8:9] == b"{"


def _holds_key(value: Any, key: str) -> bool:
    if isinstance(value, dict):
        return key in value or any(_holds_key(inner, key) for inner in value.values())
    return isinstance(value, list) and any(_holds_key(inner, key) for inner in value)


def _module_types(modules: Any) -> set[str]:
    """Classes in a modules.json that are not sentence-transformers' own."""
    listed = modules if isinstance(modules, list) else []
    types = {str(one.get("type", "")) for one in listed if isinstance(one, dict)}
    return {one for one in types if not one.startswith("sentence_transformers.")}
