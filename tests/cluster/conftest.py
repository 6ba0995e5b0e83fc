"""A real Kubernetes API server for the tests in this folder. `docs/local-cluster.md` shows what it can do."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster.control_plane import ControlPlane
from localcluster.progress import Progress

_HERE = Path(__file__).parent
_CRDS = _HERE.parent.parent / "crds"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """One for the whole run: controllers, scheduler and kwok, with our CRDs. Tests share it by namespaces.

    A test that takes parts of it away starts one of its own.
    """
    with ControlPlane.start(controllers=True, scheduler=True, kwok=True, progress=Progress()) as cluster:
        if any(_CRDS.glob("*.yaml")):
            cluster.apply_crds(_CRDS)
        yield cluster


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A fresh namespace in which Pod Security enforces and warns about `restricted`."""
    name = f"test-{secrets.token_hex(4)}"
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    control_plane.api.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": levels}}
    )
    yield name
    # Nobody waits for it: the controllers take it away while the next test runs.
    control_plane.api.delete(f"/api/v1/namespaces/{name}")
