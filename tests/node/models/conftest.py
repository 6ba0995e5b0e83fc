"""The operator, installed as a user installs it, on the node of `tests/node`: real Jobs, real servers, real
answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from localcluster.cluster import Cluster
from localcluster.images import build_images
from localcluster.progress import Progress
from tests.node.models.install import install, make_place
from tests.node.models.place import Place


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> Cluster:
    install(cluster)
    return cluster


@pytest.fixture
def with_torch(installed: Cluster) -> Cluster:
    """The operator was told the image's name; here it comes into the node's containerd."""
    (image,) = build_images(["builder-torch"], Progress()).values()
    if not installed.containerd.has_image(image.reference):
        installed.containerd.import_image(image.archive)
    return installed


@pytest.fixture
def place(installed: Cluster) -> Iterator[Place]:
    """A fresh namespace that enforces Pod Security `restricted`, warns of it and audits it."""
    place = make_place(installed)
    yield place
    installed.api.delete(f"/api/v1/namespaces/{place.namespace}")


@pytest.fixture(scope="module")
def serving(installed: Cluster) -> Iterator[Place]:
    """A namespace in which the sample of the README is Ready; tests leave it serving."""
    place = make_place(installed)
    place.apply_sample()
    place.wait_ready()
    yield place
    installed.api.delete(f"/api/v1/namespaces/{place.namespace}")
