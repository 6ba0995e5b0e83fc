"""Programs that are not compiled here: which are taken, which are refused, and what is said of them."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from localcluster import binaries, releases
from localcluster.binaries import KUBERNETES_VERSION
from localcluster.errors import BuildFailed, NotPossible
from localcluster.progress import Progress
from localcluster.releases import assets, download, release_file, unfit

CONTENT = b"#!/bin/sh\necho Kubernetes " + KUBERNETES_VERSION.encode() + b"\n"


@pytest.fixture(autouse=True)
def no_word_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in (releases.ASSETS, releases.RELEASES):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def make_program(folder: Path, name: str, said: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{said}'\n")
    path.chmod(0o755)
    return path


# --- a folder the user names ---


def test_programs_of_the_folder_are_taken_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = make_program(tmp_path / "assets", "kube-apiserver", f"Kubernetes {KUBERNETES_VERSION}")
    etcd = make_program(tmp_path / "assets", "etcd", "etcd Version: 3.6.4")
    monkeypatch.setenv(releases.ASSETS, str(tmp_path / "assets"))
    said = io.StringIO()
    found = binaries.ensure(["kube-apiserver", "etcd"], Progress(stream=said))
    assert found == {"kube-apiserver": there, "etcd": etcd}
    assert f"kube-apiserver from KUBEBUILDER_ASSETS: Kubernetes {KUBERNETES_VERSION}" in said.getvalue()
    assert binaries.missing(["kube-apiserver", "etcd"]) == []


def test_what_the_folder_has_not_is_still_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_program(tmp_path / "assets", "etcd", "etcd Version: 3.6.4")
    monkeypatch.setenv(releases.ASSETS, str(tmp_path / "assets"))
    assert binaries.missing(["etcd", "kubectl"]) == ["kubectl"]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotPossible, match=r"KUBEBUILDER_ASSETS is '.*/none', which is no folder"):
        assets(["etcd"], KUBERNETES_VERSION, str(tmp_path / "none"))


def test_a_program_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    make_program(tmp_path, "kubectl", "Client Version: v1.31.0 Kustomize Version: v5.4.2")
    with pytest.raises(NotPossible) as refused:
        assets(["kubectl"], "v1.37.2", str(tmp_path))
    assert "kubectl (KUBEBUILDER_ASSETS) is v1.31.0; this checkout is made for v1.37." in str(refused.value)


@pytest.mark.parametrize(
    ("program", "said", "end"),
    [
        pytest.param("kube-apiserver", "Kubernetes v1.37.0", "", id="same minor"),
        pytest.param("kubectl", "Client Version: v1.37.5 Kustomize Version: v5.8.0", "", id="kubectl"),
        pytest.param(
            "kubelet", "Kubernetes v1.38.0", "is v1.38.0; this checkout is made for v1.37.", id="newer"
        ),
        pytest.param("etcd", "etcd Version: 3.5.21 Git SHA: a17edfd", "", id="oldest etcd"),
        pytest.param(
            "etcd", "etcd Version: 3.4.37", "is etcd 3.4.37; it must be 3.5 or newer", id="old etcd"
        ),
        pytest.param("etcd", "etcd Version: 4.0.0", "is etcd 4.0.0; it must be 3.5 or newer", id="new etcd"),
        pytest.param("kubectl", "", "does not tell its version; it says ''.", id="silent"),
    ],
)
def test_versions_are_judged(program: str, said: str, end: str) -> None:
    found = unfit(program, said, "v1.37.2")
    assert found.startswith(end)
    assert bool(found) == bool(end)


# --- release files ---


class Quiet(SimpleHTTPRequestHandler):
    redirect_to = ""

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.redirect_to:
            self.send_response(302)
            self.send_header("Location", self.redirect_to)
            self.end_headers()
        else:
            super().do_GET()


class Host:
    """A host of release files on loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.handler = type("Handler", (Quiet,), {})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(self.handler, directory=str(folder)))
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def publish(self, program: str, content: bytes, sha256: str | None = None) -> None:
        path = self.folder / release_file(program, KUBERNETES_VERSION)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.with_name(f"{program}.sha256").write_text(sha256 or hashlib.sha256(content).hexdigest())


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    (tmp_path / "host").mkdir()
    found = Host(tmp_path / "host")
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def test_release_files_are_downloaded_once_and_only_when_wanted(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.publish("kube-apiserver", CONTENT)
    monkeypatch.setenv(releases.RELEASES, host.address + "/")
    path = binaries.ensure(["kube-apiserver"])["kube-apiserver"]
    assert (path.read_bytes(), os.access(path, os.X_OK)) == (CONTENT, True)
    host.publish("kube-apiserver", b"changed")
    assert binaries.ensure(["kube-apiserver"])["kube-apiserver"].read_bytes() == CONTENT
    monkeypatch.delenv(releases.RELEASES)
    assert binaries.missing(["kube-apiserver"]) == ["kube-apiserver"]


def test_a_file_that_is_not_what_was_published_is_thrown_away(host: Host, tmp_path: Path) -> None:
    host.publish("kubectl", CONTENT, sha256="0" * 64)
    with pytest.raises(BuildFailed, match=r"has the sha256 [0-9a-f]{64}, but .*\.sha256 says '0{64}'"):
        download("kubectl", KUBERNETES_VERSION, host.address, tmp_path / "bin/kubectl")
    assert list((tmp_path / "bin").iterdir()) == []


def test_a_host_that_is_not_there_is_said_and_asked_once(monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
    compiled: list[str] = []

    def compile_(name: str, _go: object) -> Path:
        compiled.append(name)
        return Path(name)

    monkeypatch.setattr(binaries, "_compile", compile_)
    monkeypatch.setattr(binaries, "_find_go", lambda _progress: binaries.Go(Path("go"), "go1.26.6"))
    monkeypatch.setenv(releases.RELEASES, host.address)  # it has no files
    said = io.StringIO()
    binaries.ensure(["kubectl", "kubelet"], Progress(stream=said))
    assert compiled == ["kubectl", "kubelet"]
    assert said.getvalue().count("compiling instead: ") == 1
    assert f"{release_file('kubectl', KUBERNETES_VERSION)}: " in said.getvalue()


@pytest.mark.parametrize("address", ["http://files.example", "ftp://127.0.0.1", "dl", "https://"])
def test_an_address_without_tls_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(releases.RELEASES, address)
    with pytest.raises(NotPossible, match="it must begin with https://"):
        releases.address()


def test_a_redirect_away_from_tls_is_not_followed(host: Host, tmp_path: Path) -> None:
    host.handler.redirect_to = "http://files.example/kubectl"  # type: ignore[attr-defined]
    with pytest.raises(releases.Unreachable, match="a redirect away from TLS"):
        download("kubectl", KUBERNETES_VERSION, host.address, tmp_path / "kubectl")
