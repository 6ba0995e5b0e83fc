"""Which files are taken: real pickles, archives and models, under right and wrong names."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from model_builders.errors import Refused
from model_builders.trust import (
    FORMATS,
    FileCheck,
    Trust,
    check_name,
    check_paths,
    check_zip,
    is_pickle,
    what_is,
)
from tests.model_builders.made import Jobs


def make_zip(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def make_tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return out.getvalue()


def make_npz(*arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez(out, *arrays, allow_pickle=True)
    return out.getvalue()


def make_safetensors(header_bytes: int = 64) -> bytes:
    header = json.dumps({"__metadata__": {"format": "pt"}}).encode().ljust(header_bytes)
    return len(header).to_bytes(8, "little") + header


WEIGHTS = OrderedDict(w=[1.0] * 100)
TORCH = make_zip({"archive/version": b"3\n", "archive/data.pkl": pickle.dumps(WEIGHTS, 2)})
"""The layout of a checkpoint that torch.save writes."""


def check(path: str, content: bytes, trust: Trust = Trust.ALLOWED_ONLY) -> None:
    """As a download does it, in chunks."""
    check_name("weights", path, trust)
    looking = FileCheck("weights", path, trust)
    for start in range(0, len(content), 100):
        looking.feed(content[start : start + 100])
    looking.close()


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("novels.tsv", "document\ttext\n운수 좋은 날\t기차\n".encode()),
        ("novels.txt", "기차".encode("cp949")),
        ("novels.txt", "기차".encode("utf-16")),
        ("a.txt", b"PK is a beginning, MZ and BZh too\n"),
        ("MZ.txt", b"MZ begins this text"),
        ("vectors.vec", b"2 2\na 1 2\nb 3 4\n"),
        ("model.safetensors", make_safetensors()),
        ("model.safetensors", make_safetensors(0x0480)),  # its length begins as a pickle of protocol 4 does
        ("model.onnx", b"\x08\x0a" + bytes(100)),
        ("spiece.model", b"\x0a\x0e" + bytes(100)),
        ("config.json", b'{"model_type": "bert"}'),
        ("modules.json", b'[{"type": "sentence_transformers.models.Pooling"}]'),
        ("LICENSE", b"Apache"),
        ("README.md", b""),
    ],
)
def test_file_of_an_allowed_format_is_taken(path: str, content: bytes) -> None:
    check(path, content)


PICKLES = {f"protocol {number}": pickle.dumps(WEIGHTS, number) for number in (2, 3, 4, 5)}
HARMFUL = {
    **PICKLES,
    "torch": TORCH,
    "npz": make_npz(np.array([{}], dtype=object)),
    "zip": make_zip({"a.txt": b"a"}),
    "gzip": gzip.compress(b"a" * 1000),
    "tar": make_tar(),
    "program": b"\x7fELF\x02\x01\x01" + bytes(600),
    "array": b"\x93NUMPY\x01\0" + bytes(200),
    "pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:"
    + b"0" * 64
    + b"\nsize 9\n",
}


@pytest.mark.parametrize("name", sorted(FORMATS))
@pytest.mark.parametrize("content", HARMFUL.values(), ids=HARMFUL)
def test_harmful_bytes_are_refused_under_every_allowed_name(name: str, content: bytes) -> None:
    with pytest.raises(Refused) as refused:
        check(f"model{name}", content)
    assert refused.value.reason == "InputRefused"


@pytest.mark.parametrize(
    "path",
    ["model.bin", "model.pt", "a/model.PKL", "x.py", "x.tar.gz", "x.npz", "x.h5", "x", ".env", "x.exe"],
)
def test_name_of_another_format_is_refused(path: str) -> None:
    with pytest.raises(Refused, match=path.rpartition("/")[2]):
        check_name("weights", path, Trust.ALLOWED_ONLY)


def test_old_torch_file_and_joblib_are_known_as_pickles() -> None:
    assert is_pickle(pickle.dumps(0x1950A86A20F9469CFC6C, 2))  # how torch before 1.6 begins
    assert not is_pickle(b"\x80\x04")
    assert not is_pickle("기차".encode("cp949"))
    assert what_is(b"\x80\x02}q\x00.") == "a pickle, which runs code when it is loaded"


@pytest.mark.parametrize(
    "paths",
    [
        pytest.param(["a/../../b.txt"], id="a way out"),
        pytest.param(["/a.txt"], id="absolute"),
        pytest.param(["a//b.txt"], id="an empty part"),
        pytest.param(["a/./b.txt"], id="a dot"),
        pytest.param(["a\0b.txt"], id="NUL"),
        pytest.param(["a\nb.txt"], id="a line break"),
        pytest.param(["a\\b.txt"], id="a backslash"),
        pytest.param(["d/" * 40 + "a.txt"], id="too deep"),
        pytest.param(["x" * 256], id="too long"),
        pytest.param(["Config.json", "config.json"], id="case"),
        pytest.param(["A/x.txt", "a/y.txt"], id="case of a folder"),
        pytest.param(["caf\u00e9.txt", "cafe\u0301.txt"], id="Unicode forms"),
        pytest.param(["가.txt", "\u1100\u1161.txt"], id="Hangul in two forms"),
        pytest.param(["a", "a/b.txt"], id="a file and a folder"),
        pytest.param(["a.txt", "a.txt"], id="twice"),
    ],
)
def test_paths_that_cannot_lie_beside_each_other_are_refused(paths: list[str]) -> None:
    with pytest.raises(Refused) as refused:
        check_paths("weights", paths)
    assert refused.value.reason == "InputRefused"


def test_too_many_files_are_refused() -> None:
    with pytest.raises(Refused) as refused:
        check_paths("weights", (f"{number}.txt" for number in range(100_001)))
    assert refused.value.reason == "InputTooLarge"


@pytest.mark.parametrize("name", ["TORCH", "npz"])
def test_zip_with_a_pickle_is_refused_whatever_it_is_called(name: str) -> None:
    with pytest.raises(Refused, match="is a zip file with a pickle in it"):
        check_zip("weights", "corpus.txt", io.BytesIO(TORCH if name == "TORCH" else HARMFUL["npz"]))


def test_zip_without_a_pickle_and_half_a_zip_pass() -> None:
    for content in (make_zip({"a.txt": b"a"}), make_npz(np.zeros(3)), TORCH[:100]):
        check_zip("weights", "corpus.zip", io.BytesIO(content))


# --- what is mounted


@pytest.mark.jobs
@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        pytest.param({"corpus.txt": PICKLES["protocol 4"]}, "'corpus.txt' is a pickle", id="a pickle"),
        pytest.param(
            {"a.tsv": b"x", "old.bin": TORCH}, "'old.bin' is a zip file with a pickle", id="a checkpoint"
        ),
        pytest.param(
            {"config.json": b'{"auto_map": {}}', "model.safetensors": make_safetensors()},
            "'config.json' has an auto_map",
            id="auto_map",
        ),
        pytest.param(
            {"m/config.json": b"{}", "m/modeling.py": b"import os"},
            "'m/modeling.py' is code",
            id="code of a model",
        ),
    ],
)
def test_mounted_input_with_code_is_refused(jobs: Jobs, files: dict[str, bytes], sentence: str) -> None:
    for name, content in files.items():
        jobs.put(name, content)
    ran = jobs.fetch({"name": "corpus", "path": str(jobs.volumes / "corpus")})
    assert (ran.code, ran.result["reason"]) == (10, "InputRefused")
    assert sentence in ran.result["message"]
    assert list((jobs.store / "sources").iterdir()) == []


@pytest.mark.jobs
def test_mounted_folder_may_hold_what_is_not_read(jobs: Jobs) -> None:
    beside = {
        "notes.pdf": b"%PDF-1.7\0",
        "make.py": b"print()",
        "old.zip": make_zip({"a.txt": b"a"}),
        "LIESMICH": b"x",
    }
    for name, content in {**beside, "novels.txt": "기차".encode()}.items():
        jobs.put(name, content)
    ran = jobs.fetch({"name": "corpus", "path": str(jobs.volumes / "corpus")})
    assert ran.code == 0, ran.log
    assert ran.result["inputs"][0]["files"] == 5
