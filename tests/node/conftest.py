"""A real node for the tests in this folder. There is one on a machine, so all tests share it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import cluster as local
from localcluster import debian
from localcluster.cluster import Cluster, UpOptions
from localcluster.containerd import write_image
from localcluster.progress import Progress

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.node)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster of `up`. One that runs already is used and left as it is; else it is ended afterwards."""
    running = local.find()
    yield running or local.up(UpOptions(yes=True), Progress())
    if running is None:
        local.down(Progress())


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh namespace in which Pod Security enforces and warns about `restricted`."""
    name = f"test-{secrets.token_hex(4)}"
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    cluster.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": levels}})
    yield name
    cluster.api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def toolbox(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The reference of an image with a shell, wget and nslookup: busybox, and nothing else."""
    programs = debian.unpack(["busybox-static"], ["busybox"])
    busybox = programs.find("busybox")
    assert busybox is not None
    archive = tmp_path_factory.mktemp("toolbox") / "toolbox.tar"
    # Busybox looks at the name it is called by; under `sh` it is a shell that finds its other tools itself.
    reference = write_image("toolbox", {"bin/sh": busybox.read_bytes()}, ["/bin/sh", "-c"], archive)
    if not cluster.containerd.has_image(reference):
        cluster.containerd.import_image(archive)
    return reference
