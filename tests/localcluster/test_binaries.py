"""What decides that a program is compiled again, and that the pins agree with each other."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from localcluster import binaries, environments
from localcluster.binaries import MODULES, Module, module_key, new_enough, parse_go_version

MODULE = Module("sample", (("sample", "."),))


def test_key_stays_when_nothing_changed() -> None:
    files = {"go.mod": b"module x", "go.sum": b"a b"}
    assert module_key(MODULE, "go1.26.8", files) == module_key(
        MODULE, "go1.26.8", dict(reversed(files.items()))
    )


@pytest.mark.parametrize(
    ("go_version", "files", "module"),
    [
        pytest.param("go1.26.9", {"go.mod": b"module x"}, MODULE, id="another Go"),
        pytest.param("go1.26.8", {"go.mod": b"module y"}, MODULE, id="another pin"),
        pytest.param("go1.26.8", {"go.mod": b"module x", "main.go": b""}, MODULE, id="another file"),
        pytest.param("go1.26.8", {"go.mod": b"module x"}, Module("sample", (), "-s"), id="other flags"),
    ],
)
def test_key_changes_when_an_input_changes(go_version: str, files: dict[str, bytes], module: Module) -> None:
    assert module_key(module, go_version, files) != module_key(MODULE, "go1.26.8", {"go.mod": b"module x"})


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("go version go1.26.8 linux/amd64\n", "go1.26.8"),
        ("go1.27\n", "go1.27"),
        ("go: cannot find GOROOT directory", None),
        ("", None),
    ],
)
def test_go_version_is_read_from_what_go_prints(output: str, version: str | None) -> None:
    assert parse_go_version(output) == version


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("go1.25.9", False),
        ("go1.26", True),
        ("go1.26.8", True),
        ("go1.27.3", True),
        ("go2.0", True),
        (None, False),
    ],
)
def test_go_is_new_enough_from_the_minimum_on(version: str | None, enough: bool) -> None:
    assert new_enough(version) is enough


def test_kubernetes_version_is_the_one_that_is_compiled() -> None:
    go_mod = (Path(binaries.__file__).parent / "go/kubernetes/go.mod").read_text()
    pinned = re.search(r"k8s\.io/kubernetes (v\S+)", go_mod)
    assert pinned is not None
    assert pinned.group(1) == binaries.KUBERNETES_VERSION


@pytest.mark.parametrize("name", ["coredns", "kwok"])
def test_versions_are_those_of_kubernetes_so_that_what_is_shared_is_compiled_once(name: str) -> None:
    """Half a cold start's time was two more copies of Kubernetes' client, in other versions."""
    ours, kubernetes = (_required(module) for module in (name, "kubernetes"))
    shared = ours.keys() & kubernetes.keys()
    assert {"k8s.io/api", "k8s.io/client-go", "google.golang.org/protobuf"} <= shared
    behind = {path for path in shared if ours[path] != kubernetes[path]}
    assert behind <= NOT_IN_CLIENT_GO


NOT_IN_CLIENT_GO = {"github.com/go-errors/errors"}
"""Nothing that takes long to compile stands on these."""


def _required(module: str) -> dict[str, str]:
    """Path and version of each module that go.mod asks for, after its replacements."""
    text = (Path(binaries.__file__).parent / "go" / module / "go.mod").read_text()
    required = dict(
        re.findall(r"^(?:require )?\s*(\S+\.\S+/\S+) (v\S+)(?: // indirect)?$", text, re.MULTILINE)
    )
    replaced = dict(re.findall(r"^(?:replace )?\s*(\S+) => \S+ (v\S+)$", text, re.MULTILINE))
    return required | {path: version for path, version in replaced.items() if path in required}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_module_asks_for_no_newer_go_than_the_wheel_and_the_minimum(module: Module) -> None:
    line = re.search(r"^go (\d+)\.(\d+)", (module.folder / "go.mod").read_text(), re.MULTILINE)
    assert line is not None
    assert (int(line.group(1)), int(line.group(2))) <= binaries.GO_MINIMUM
    assert new_enough("go" + binaries.GO_WHEEL.split("==")[1])


def test_wheel_of_go_is_the_one_pinned_by_hash() -> None:
    pinned = environments.shipped(binaries.GO_CONSTRAINTS).read_text()
    assert re.findall(r"^\S+==\S+", pinned, re.MULTILINE) == [binaries.GO_WHEEL]
    assert "--hash=sha256:" in pinned


@pytest.mark.jobs
def test_machine_without_go_compiles_with_the_one_of_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_go = Path(shutil.which("go") or "/none").parent
    rest = [folder for folder in os.environ["PATH"].split(":") if Path(folder) != with_go]
    monkeypatch.setenv("PATH", ":".join(rest))
    assert shutil.which("go") is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pause = binaries.ensure(["pause"])["pause"]
    assert pause.is_relative_to(tmp_path)
    assert os.access(pause, os.X_OK)
    # The second time nothing is fetched or compiled.
    monkeypatch.setattr(binaries, "unpack_wheels", None)
    assert binaries.ensure(["pause"])["pause"] == pause


def test_unknown_program_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValueError, match="kube-apiserver"):
        binaries.ensure(["kubeadm"])
