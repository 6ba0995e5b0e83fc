"""Lets PyTorch's Linux wheel be imported without NVIDIA's libraries, 2.5 GB that a builder never calls.

    python3 cuda_stubs.py SITE_PACKAGES

The package index has PyTorch for Linux only as built for CUDA, and its libraries are linked against a dozen
of NVIDIA's: without them the loader refuses `import torch` on a machine that has no GPU and will have none.
This writes, beside PyTorch's own libraries, a library for each one that is missing: it has the name and
every symbol that is looked for, and each of these is one invalid instruction. So the loader is content, and
whatever should call CUDA all the same ends at once (SIGILL) instead of computing something else.

CUDA's runtime, libcudart, has to be there and real (2 MB): PyTorch asks it for devices at its import.

Only the standard library is needed, and no compiler. x86-64 only.
"""

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

DT_NULL, DT_NEEDED, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SYMENT, DT_SONAME = 0, 1, 4, 5, 6, 10, 11, 14
DT_VERSYM, DT_VERDEF, DT_VERDEFNUM = 0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD
SHT_DYNAMIC, SHT_DYNSYM, SHT_VERNEED, SHT_VERSYM = 6, 11, 0x6FFFFFFE, 0x6FFFFFFF
PT_LOAD, PT_DYNAMIC, PT_GNU_STACK = 1, 2, 0x6474E551
READ, WRITE, EXECUTE = 4, 2, 1
X86_64 = 62
PAGE = 0x1000
INVALID_INSTRUCTION = b"\x0f\x0b"

NVIDIAS = ("libcu", "libnccl", "libnv")
DRIVER = "libcuda.so.1"
"""Comes with a GPU; where it is found, PyTorch believes that there is one."""

Symbol = tuple[str, str]
"""Name and version; the version is empty where none is asked for."""


@dataclass
class Library:
    """What the loader would read of a shared library."""

    needed: list[str] = field(default_factory=list)
    undefined: list[tuple[Symbol, str]] = field(default_factory=list)
    """Each with the library that its version is of; empty without a version."""
    defined: set[str] = field(default_factory=set)


def read_library(path: Path) -> Library:
    """Raises ValueError for what is no 64-bit ELF file for x86-64."""
    with path.open("rb") as stream:
        header = stream.read(64)
        if header[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<H", header, 18)[0] != X86_64:
            raise ValueError(f"{path} is no shared library for x86-64")
        start, size, count = struct.unpack_from("<Q10xHH", header, 40)
        stream.seek(start)
        table = stream.read(size * count)
        sections = [struct.unpack_from("<IIQQQQIIQQ", table, size * index) for index in range(count)]

        def content(index: int) -> bytes:
            stream.seek(sections[index][4])
            return stream.read(sections[index][5])

        of_type = {section[1]: index for index, section in enumerate(sections)}
        if SHT_DYNSYM not in of_type:
            return Library()
        names = content(sections[of_type[SHT_DYNSYM]][6])
        dynamic, symbols = content(of_type[SHT_DYNAMIC]), content(of_type[SHT_DYNSYM])
        versions = content(of_type[SHT_VERSYM]) if SHT_VERSYM in of_type else b""
        needs = content(of_type[SHT_VERNEED]) if SHT_VERNEED in of_type else b""

    wanted = dict(_versions_needed(needs, names))
    library = Library()
    for tag, value in struct.iter_unpack("<QQ", dynamic):
        if tag == DT_NEEDED:
            library.needed.append(_text(names, value))
    for index, (name, _, _, section, _, _) in enumerate(struct.iter_unpack("<IBBHQQ", symbols)):
        if section:
            library.defined.add(_text(names, name))
        elif index:
            number = struct.unpack_from("<H", versions, 2 * index)[0] & 0x7FFF if versions else 0
            version, file = wanted.get(number, ("", ""))
            library.undefined.append(((_text(names, name), version), file))
    return library


def _versions_needed(needs: bytes, names: bytes) -> Iterator[tuple[int, tuple[str, str]]]:
    """The number of each version in the table of symbols, with its name and the library it is of."""
    at = 0
    while needs:
        _, count, file, first, following = struct.unpack_from("<HHIII", needs, at)
        entry = at + first
        for _ in range(count):
            _, _, number, name, step = struct.unpack_from("<IHHII", needs, entry)
            yield number, (_text(names, name), _text(names, file))
            entry += step
        if not following:
            return
        at += following


def _text(names: bytes, at: int) -> str:
    return names[at : names.index(b"\0", at)].decode()


def write_stub(path: Path, symbols: list[Symbol]) -> None:
    """A library of the file's name in which every symbol is an invalid instruction.

    headers, hash, symbols, names, versions, the instruction   | readable and executable
    dynamic section                                            | a page of its own, which the loader writes
    """
    names = bytearray(b"\0")

    def name_at(text: str) -> int:
        names.extend(text.encode() + b"\0")
        return len(names) - len(text) - 1

    soname = name_at(path.name)
    versions = [path.name, *sorted({version for _, version in symbols if version and version != path.name})]
    # Number 1 is the library itself; a version that is called like it gets a number of its own.
    versions += [path.name] if any(version == path.name for _, version in symbols) else []
    numbers = {version: number for number, version in enumerate(versions, start=1)} | {"": 1}
    definitions = b""
    for number, version in enumerate(versions, start=1):
        following = 28 if number < len(versions) else 0
        flags = 1 if number == 1 else 0  # the base
        definitions += struct.pack("<HHHHIII", 1, flags, number, 1, _hash(version), 20, following)
        definitions += struct.pack("<II", name_at(version), 0)

    count = len(symbols) + 1
    places = [name_at(name) for name, _ in symbols]
    version_table = struct.pack(f"<{count}H", 0, *(numbers[version] for _, version in symbols))
    hash_table = _hash_table([name for name, _ in symbols])

    programs = 64 + 4 * 56
    at_hash = programs
    at_symbols = _aligned(at_hash + len(hash_table), 8)
    at_names = at_symbols + 24 * count
    at_versions = _aligned(at_names + len(names), 8)
    at_definitions = _aligned(at_versions + len(version_table), 8)
    at_code = _aligned(at_definitions + len(definitions), 16)
    end = at_code + len(INVALID_INSTRUCTION)
    at_dynamic = _aligned(end, PAGE)

    table = bytes(24) + b"".join(
        struct.pack("<IBBHQQ", place, 0x12, 0, 1, at_code, len(INVALID_INSTRUCTION)) for place in places
    )
    entries = (
        (DT_SONAME, soname),
        (DT_HASH, at_hash),
        (DT_STRTAB, at_names),
        (DT_SYMTAB, at_symbols),
        (DT_STRSZ, len(names)),
        (DT_SYMENT, 24),
        (DT_VERSYM, at_versions),
        (DT_VERDEF, at_definitions),
        (DT_VERDEFNUM, len(versions)),
        (DT_NULL, 0),
    )
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in entries)

    def segment(kind: int, flags: int, at: int, size: int, align: int) -> bytes:
        return struct.pack("<IIQQQQQQ", kind, flags, at, at, at, size, size, align)

    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, X86_64, 1, 0, 64, 0, 0, 64, 56, 4, 64, 0, 0
    )
    header += segment(PT_LOAD, READ | EXECUTE, 0, end, PAGE)
    header += segment(PT_LOAD, READ | WRITE, at_dynamic, len(dynamic), PAGE)
    header += segment(PT_DYNAMIC, READ | WRITE, at_dynamic, len(dynamic), 8)
    header += segment(PT_GNU_STACK, READ | WRITE, 0, 0, 16)

    image = bytearray(at_dynamic + len(dynamic))
    for at, content in (
        (0, header),
        (at_hash, hash_table),
        (at_symbols, table),
        (at_names, bytes(names)),
        (at_versions, version_table),
        (at_definitions, definitions),
        (at_code, INVALID_INSTRUCTION),
        (at_dynamic, dynamic),
    ):
        image[at : at + len(content)] = content
    path.write_bytes(image)
    path.chmod(0o755)


def _aligned(at: int, step: int) -> int:
    return -(-at // step) * step


def _hash(name: str) -> int:
    """The hash of System V's ABI."""
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ (high >> 24)) & ~high & 0xFFFFFFFF
    return value


def _hash_table(names: list[str]) -> bytes:
    """Buckets and chains of System V's ABI; symbol 0 is none."""
    size = max(1, len(names))
    buckets, chains = [0] * size, [0] * (len(names) + 1)
    for index, name in enumerate(names, start=1):
        bucket = _hash(name) % size
        chains[index], buckets[bucket] = buckets[bucket], index
    return struct.pack(f"<II{size}I{len(chains)}I", size, len(chains), *buckets, *chains)


def stubs_for(libraries: dict[str, Library]) -> dict[str, list[Symbol]]:
    """The NVIDIA libraries that are needed and not there, each with the symbols it has to have.

    A symbol that asks for no version belongs to the library whose name it begins with.
    """
    needed = {name for library in libraries.values() for name in library.needed}
    missing = sorted(name for name in needed - set(libraries) if name.startswith(NVIDIAS))
    found: dict[str, set[Symbol]] = {name: set() for name in missing if name != DRIVER}
    defined = {name for library in libraries.values() for name in library.defined}
    # cublasLtCreate begins as both libcublas and libcublasLt do: the longer one is meant.
    stems = sorted(((_stem(name), name) for name in found), key=lambda pair: -len(pair[0]))
    for library in libraries.values():
        for symbol, file in library.undefined:
            if file in found:
                found[file].add(symbol)
            elif not file and symbol[0] not in defined:
                owner = next((name for stem, name in stems if symbol[0].lower().startswith(stem)), None)
                if owner is not None:
                    found[owner].add(symbol)
    return {name: sorted(symbols) for name, symbols in found.items()}


def _stem(name: str) -> str:
    """`libnvshmem_host.so.3` holds what begins with `nvshmem`, libcufile what begins with `cuFile`."""
    return name.split(".")[0].removeprefix("lib").split("_")[0].lower()


def main(site_packages: Path) -> None:
    folder = site_packages / "torch/lib"
    paths = [*folder.glob("*.so*"), *site_packages.glob("nvidia/*/lib/*.so*")]
    libraries = {path.name: read_library(path) for path in paths}
    for name, symbols in stubs_for(libraries).items():
        write_stub(folder / name, symbols)
        print(f"{name}: {len(symbols)} symbols")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
