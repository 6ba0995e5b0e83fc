"""The huggingFace source against a hub with real TLS; the hub's own client says whether the hub is one."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster.certificates import Authority, Pair
from model_builders.errors import Refused
from model_builders.sources.hugging_face import DEFAULT_INCLUDE, matches, parse_listing
from tests.model_builders.made import Jobs
from tests.model_builders.sources.fetching import contents, fetch_here, left_in_store, request_of, sha256
from tests.model_builders.sources.hub import REPOSITORY, REVISION, Hub
from tests.model_builders.sources.servers import LOOPBACK, TlsServer, make_secret, serving

pytestmark = pytest.mark.jobs


def make_safetensors(size: int) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + os.urandom(size)


CONFIG = json.dumps({"model_type": "bert", "hidden_size": 8}).encode()
MODEL = {
    "config.json": CONFIG,
    "model.safetensors": make_safetensors(3000),
    "tokenizer.json": json.dumps({"added_tokens": ["한국어"] * 100}).encode(),
    "vocab.txt": "[PAD]\n막걸리\n".encode(),
    "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
    "special_tokens_map.json": b"{}",
}
BESIDE = {
    "README.md": b"# Encoder",
    ".gitattributes": b"*.bin filter=lfs",
    "pytorch_model.bin": b"\x80\x02}q\x00." + bytes(2000),
    "modeling.py": b"import os",
    "onnx/model.onnx": b"\x08\x07" + bytes(2000),
    "onnx/config.json": b"{}",
}


@pytest.fixture
def hub() -> Hub:
    return Hub(MODEL | BESIDE)


@pytest.fixture
def server(pair: Pair, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsServer]:
    with serving(pair, hub) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"https://{server.host}")
        yield server


@pytest.fixture
def secret(tmp_path: Path, authority: Authority) -> str:
    return make_secret(tmp_path / "secret", authority, {"token": "hf_t0k3n"})


def model(
    secret: str, repository: str = REPOSITORY, revision: str = REVISION, **more: object
) -> dict[str, object]:
    source = {"repository": repository, "revision": revision, **more}
    return request_of({"huggingFace": source}, credentials=secret, name="weights")


def test_model_is_taken_and_what_lies_beside_it_is_left(
    jobs: Jobs, server: TlsServer, hub: Hub, secret: str
) -> None:
    hub.token = "hf_t0k3n"
    ran = jobs.run("fetch", model(secret), NLP_FETCH_ALLOWED_NETWORKS=LOOPBACK)
    assert ran.code == 0, ran.log
    (found,) = ran.result["inputs"]
    assert contents(jobs, found["sha256"]) == MODEL
    assert (found["files"], found["bytes"]) == (6, sum(map(len, MODEL.values())))
    assert "hf_t0k3n" not in ran.log


def test_hub_is_one_for_the_hubs_own_client(
    server: TlsServer, hub: Hub, pair: Pair, authority: Authority, tmp_path: Path
) -> None:
    """In a process of its own: the client reads its environment when it is imported."""
    with serving(pair, hub) as storage:
        hub.storage = f"https://localhost:{storage.port}"
        _read_with_the_hubs_client(hub, authority, tmp_path)


def _read_with_the_hubs_client(hub: Hub, authority: Authority, tmp_path: Path) -> None:
    hub.token = "hf_t0k3n"
    script = (
        "from huggingface_hub import HfApi, snapshot_download as get\n"
        f"get({REPOSITORY!r}, revision={REVISION!r}, local_dir={str(tmp_path / 'client')!r})\n"
        f"info = HfApi().model_info({REPOSITORY!r}, revision={REVISION!r}, files_metadata=True)\n"
        "print(sorted((s.rfilename, s.size, s.blob_id, s.lfs and s.lfs.sha256) for s in info.siblings))"
    )
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_TOKEN": "hf_t0k3n",
        "SSL_CERT_FILE": str(authority.certificate),
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    got = {
        str(path.relative_to(tmp_path / "client")): path.read_bytes()
        for path in (tmp_path / "client").rglob("*")
        if path.is_file() and ".cache" not in path.parts
    }
    assert got == MODEL | BESIDE
    ours = parse_listing("weights", json.dumps(hub.listing()).encode(), REVISION)
    theirs = ast.literal_eval(done.stdout)
    assert [(f.path, f.size, f.git_sha1, f.sha256) for f in ours] == [
        (path, size, "" if sha256 else blob, sha256 or "") for path, size, blob, sha256 in theirs
    ]


def test_include_chooses_other_files(jobs: Jobs, server: TlsServer, secret: str) -> None:
    found = fetch_here(jobs, model(secret, include=["**/config.json", "onnx/*.onnx"]))
    assert sorted(contents(jobs, found.sha256)) == [
        "1_Pooling/config.json",
        "config.json",
        "onnx/config.json",
        "onnx/model.onnx",
    ]


def test_finished_fetch_ends_at_once(jobs: Jobs, server: TlsServer, secret: str) -> None:
    first = fetch_here(jobs, model(secret))
    asked = len(server.asked)
    assert fetch_here(jobs, model(secret)) == first
    assert len(server.asked) == asked + 1  # the list of files


def test_large_files_from_another_host_need_its_declaration(
    jobs: Jobs, server: TlsServer, hub: Hub, pair: Pair, secret: str
) -> None:
    with serving(pair, hub) as storage:
        hub.storage = f"https://localhost:{storage.port}"
        with pytest.raises(Refused) as refused:
            fetch_here(jobs, model(secret))
        assert refused.value.reason == "NetworkRefused"
        assert f"redirects to another host, localhost:{storage.port}" in refused.value.message

        found = fetch_here(jobs, model(secret), hosts=(f"localhost:{storage.port}",))
        assert contents(jobs, found.sha256) == MODEL
        assert all("authorization" not in asked.headers for asked in storage.asked)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        pytest.param("model.safetensors", make_safetensors(3000), "not {sha256}", id="a large file"),
        pytest.param("config.json", CONFIG.replace(b"8", b"9"), "has Git's sha1", id="a small file"),
        pytest.param(
            "vocab.txt", b"longer than promised, much longer", "has more than the 16 bytes", id="longer"
        ),
        pytest.param("vocab.txt", b"short", "has 5 bytes, 16 were promised", id="shorter"),
    ],
)
def test_bytes_that_are_not_of_the_revision_are_refused(
    jobs: Jobs, server: TlsServer, hub: Hub, secret: str, name: str, content: bytes, sentence: str
) -> None:
    hub.stored[name] = content
    with pytest.raises(Refused) as refused:
        fetch_here(jobs, model(secret))
    assert refused.value.reason == "HashMismatch"
    assert sentence.format(sha256=sha256(MODEL[name])) in refused.value.message
    assert left_in_store(jobs) == []


@pytest.mark.parametrize(
    ("more", "reason", "sentence"),
    [
        pytest.param(
            {"repository": "novels/other"}, "InputMissing", "It may be private.", id="no repository"
        ),
        pytest.param({"revision": "f" * 40}, "InputMissing", "has no revision " + "f" * 40, id="no revision"),
        pytest.param(
            {"include": ["*.gguf"]},
            "InputMissing",
            "no file of novels/encoder at 0123456789ab matches",
            id="no file",
        ),
        pytest.param(
            {"include": ["*.bin"]}, "InputRefused", "'pytorch_model.bin' may hold a pickle", id="a pickle"
        ),
        pytest.param(
            {"include": ["*.py", "config.json"]}, "InputRefused", "'modeling.py' is code", id="code"
        ),
        pytest.param({"include": [".gitattributes"]}, "InputRefused", "is of no format", id="another format"),
    ],
)
def test_what_cannot_be_taken_is_told(
    jobs: Jobs, server: TlsServer, secret: str, more: dict[str, str], reason: str, sentence: str
) -> None:
    with pytest.raises(Refused) as refused:
        fetch_here(jobs, model(secret, **more))
    assert refused.value.reason == reason
    assert sentence in refused.value.message


def test_gated_model_says_what_to_do(jobs: Jobs, server: TlsServer, hub: Hub, secret: str) -> None:
    hub.token, hub.gated = "another", True
    with pytest.raises(Refused, match="is gated; accept its terms on") as refused:
        fetch_here(jobs, model(secret))
    assert refused.value.reason == "InputForbidden"
    assert "Its Secret holds the keys ca.crt, token; token are read." in refused.value.message


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        pytest.param(
            "config.json",
            b'{"auto_map": {"AutoModel": "modeling.Encoder"}}',
            "has an auto_map",
            id="auto_map",
        ),
        pytest.param(
            "tokenizer_config.json",
            b'{"a": [{"auto_map": {}}]}',
            "has an auto_map",
            id="auto_map of a tokenizer",
        ),
        pytest.param(
            "modules.json",
            b'[{"type": "sentence_transformers.models.Transformer"}, {"type": "mine.Module"}]',
            "names the module 'mine.Module'",
            id="a module of its own",
        ),
        pytest.param(
            "model.safetensors",
            b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x05posix\x94." + bytes(2000),
            "is not safetensors, as its name says, but a pickle",
            id="a pickle with another name",
        ),
        pytest.param(
            "spiece.model", b"PK\x03\x04" + bytes(2000), "but a zip file", id="a zip with another name"
        ),
        pytest.param(
            "CONFIG.JSON.safetensors/../config.json", b"{}", "is refused; it must be relative", id="a way out"
        ),
        pytest.param("Config.json", b"{}", "are the same name where case does not count", id="the same name"),
        pytest.param("config.json/x.json", b"{}", "is a file and a folder at once", id="a file and a folder"),
    ],
)
def test_repository_that_means_harm_is_refused(
    jobs: Jobs, server: TlsServer, hub: Hub, secret: str, name: str, content: bytes, sentence: str
) -> None:
    hub.files = {**MODEL, name: content}
    with pytest.raises(Refused) as refused:
        fetch_here(jobs, model(secret, include=["**"]))
    assert refused.value.reason == "InputRefused"
    assert sentence in refused.value.message
    assert left_in_store(jobs) == []


def test_size_is_known_before_a_byte_comes(jobs: Jobs, server: TlsServer, secret: str) -> None:
    with pytest.raises(Refused) as refused:
        fetch_here(jobs, model(secret), max_bytes=4000)
    assert refused.value.reason == "InputTooLarge"
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("a/b.json", "*.json", False),
        ("b.json", "*.json", True),
        ("a/b.json", "*/*.json", True),
        ("a/b/c.json", "**/*.json", True),
        ("c.json", "**/*.json", True),
        ("a/b", "**", True),
        ("a.json.bak", "*.json", False),
    ],
)
def test_star_stays_in_its_folder(path: str, pattern: str, fits: bool) -> None:
    assert matches(path, pattern) is fits


def test_default_takes_what_a_sentence_encoder_needs() -> None:
    beside = [path for path in BESIDE if any(matches(path, pattern) for pattern in DEFAULT_INCLUDE)]
    assert beside == []
