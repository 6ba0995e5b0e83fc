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
ACTIVATOR = ("-n", "nlp-system", "deployment/nlp-operator-activator")


def install(cluster: Cluster) -> None:
    """The three images in the node's containerd, and `kubectl apply -k` of an overlay that names them."""
    apply_overlay(cluster, "default")
    cluster.apply(make_pool(POOL))


def apply_overlay(cluster: Cluster, base: str) -> None:
    images = build_images(progress=Progress())
    for image in images.values():
        if not cluster.containerd.has_image(image.reference):
            cluster.containerd.import_image(image.archive)
    # Only the tests of models that need it build and import the image with torch; its name is known before.
    references = {name: image.reference for name, image in images.items()}
    references["builder-torch"] = image_of("builder-torch").reference
    with overlay(references, base) as folder:
        cluster.kubectl("apply", "-k", folder)
    cluster.kubectl("rollout", "status", *OPERATOR, "--timeout=180s")


@contextmanager
def letting_sleep(cluster: Cluster) -> Iterator[None]:
    """With the activator, as `manifests/with-activator` has it."""
    apply_overlay(cluster, "with-activator")
    cluster.kubectl("rollout", "status", *ACTIVATOR, "--timeout=180s")
    try:
        yield
    finally:
        apply_overlay(cluster, "default")
        named = ("-l", "app.kubernetes.io/name=nlp-operator-activator")
        kinds = "deployment,service,configmap,serviceaccount,role,rolebinding,poddisruptionbudget"
        cluster.kubectl("-n", "nlp-system", "delete", kinds, *named)
        cluster.kubectl("delete", "clusterrole,clusterrolebinding", *named)


@contextmanager
def set_for_a_while(cluster: Cluster, **settings: str) -> Iterator[None]:
    """The operator, as if an administrator had set its variables so."""

    def restart(*changes: str) -> None:
        cluster.kubectl("set", "env", *OPERATOR, *changes)
        cluster.kubectl("rollout", "status", *OPERATOR, "--timeout=120s")

    restart(*(f"{name}={value}" for name, value in settings.items()))
    try:
        yield
    finally:
        restart(*(f"{name}-" for name in settings))


@contextmanager
def measuring_by(cluster: Cluster, signals: str, **more: str) -> Iterator[None]:
    """The operator measures so for a while, and answers load by replicas alone: what sleeps has room for more
    instances in every slot. `more`: other variables."""
    settings = {"NLP_OPERATOR_SIGNALS": signals, "NLP_OPERATOR_MOST_INSTANCES": "1", **more}
    with set_for_a_while(cluster, **settings):
        yield


def make_place(cluster: Cluster) -> Place:
    name = f"models-{secrets.token_hex(4)}"
    modes = ("enforce", "warn", "audit")
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in modes}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    return Place(cluster, name)
