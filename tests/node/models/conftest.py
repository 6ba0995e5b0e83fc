"""The operator, installed as a user installs it, on the node of `tests/node`: real Jobs, real servers, real
answers."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from localcluster.cluster import Cluster
from localcluster.demo.flow import overlay
from localcluster.images import build_images, image_of
from localcluster.progress import Progress
from tests.node.models.place import POOL, Place, make_pool


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> Cluster:
    """The three images in the node's containerd, and `kubectl apply -k` of an overlay that names them."""
    images = build_images(progress=Progress())
    for image in images.values():
        if not cluster.containerd.has_image(image.reference):
            cluster.containerd.import_image(image.archive)
    # Only the tests of models that need it build and import the image with torch; its name is known before.
    references = {name: image.reference for name, image in images.items()}
    references["builder-torch"] = image_of("builder-torch").reference
    with overlay(references) as folder:
        cluster.kubectl("apply", "-k", folder)
    cluster.kubectl("rollout", "status", "-n", "nlp-system", "deployment/nlp-operator", "--timeout=180s")
    cluster.apply(make_pool(POOL))
    return cluster


@pytest.fixture
def with_torch(installed: Cluster) -> Cluster:
    """The operator was told the image's name; here it comes into the node's containerd."""
    (image,) = build_images(["builder-torch"], Progress()).values()
    if not installed.containerd.has_image(image.reference):
        installed.containerd.import_image(image.archive)
    return installed


def make_place(cluster: Cluster) -> Place:
    name = f"models-{secrets.token_hex(4)}"
    modes = ("enforce", "warn", "audit")
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in modes}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    return Place(cluster, name)


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
