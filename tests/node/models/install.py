"""The operator on a node, installed as a user installs it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from localcluster.cluster import Cluster
from localcluster.demo.flow import overlay
from localcluster.images import build_images, image_of
from localcluster.progress import Progress
from tests.node.models.place import POOL, Place, make_pool

OPERATOR = ("-n", "nlp-system", "deployment/nlp-operator")


def install(cluster: Cluster) -> None:
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
    cluster.kubectl("rollout", "status", *OPERATOR, "--timeout=180s")
    cluster.apply(make_pool(POOL))


@contextmanager
def measuring_by(cluster: Cluster, signals: str) -> Iterator[None]:
    """The operator measures so for a while, as if an administrator had set it."""

    def restart(setting: str) -> None:
        cluster.kubectl("set", "env", *OPERATOR, setting)
        cluster.kubectl("rollout", "status", *OPERATOR, "--timeout=120s")

    restart(f"NLP_OPERATOR_SIGNALS={signals}")
    try:
        yield
    finally:
        restart("NLP_OPERATOR_SIGNALS-")


def make_place(cluster: Cluster) -> Place:
    name = f"models-{secrets.token_hex(4)}"
    modes = ("enforce", "warn", "audit")
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in modes}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    return Place(cluster, name)
