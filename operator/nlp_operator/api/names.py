"""Every name this project gives in the API, spelled once."""

from __future__ import annotations

import hashlib
import re

GROUP = "nlp-operator.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FIELD_MANAGER = "nlp-operator"

MODEL_KIND, MODEL_PLURAL = "NLPModel", "nlpmodels"
POOL_KIND, POOL_PLURAL = "DevicePool", "devicepools"

LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "nlp-operator"
LABEL_COMPONENT = "app.kubernetes.io/component"
COMPONENT_FETCH, COMPONENT_BUILD, COMPONENT_SERVER = "fetch", "build", "server"
COMPONENT_JOBS = "jobs"
"""On the NetworkPolicy of a model's Jobs only; no pod carries it."""
COMPONENT_ACTIVATOR = "activator"
"""On the EndpointSlice that leads to it; no pod of a model carries it."""
CONTAINER_PULL, CONTAINER_KEEP, CONTAINER_PUSH = "pull", "keep", "push"
CONTAINER_STORE = "store"
"""Before, beside (of a build) and after the container of a Job, where the store is a bucket."""
LABEL_MODEL = f"{GROUP}/model"
LABEL_SERVER = f"{GROUP}/server"
LABEL_POOL = f"{GROUP}/pool"

LABEL_SERVICE = "kubernetes.io/service-name"
"""On an EndpointSlice: of which Service it is."""
LABEL_SLICE_OF = "endpointslice.kubernetes.io/managed-by"
"""On an EndpointSlice: who writes it. Kubernetes leaves those of others alone."""

ANNOTATION_HASH = f"{GROUP}/hash"
ANNOTATION_BUILD_KEY = f"{GROUP}/build-key"
ANNOTATION_CONFIG_HASH = f"{GROUP}/config-hash"
ANNOTATION_SWITCHED = f"{GROUP}/switched"
"""On a Service: when it was last led to another server. Clients that were connected before may still ask at
the old one."""
ANNOTATION_OUTGROWN = f"{GROUP}/outgrown"
"""On a Service: what its model was found to take on pools where it does not run any more."""
ANNOTATION_TEMPLATE = f"{GROUP}/template"
"""On server pods: which template they are of. A pod's own label pod-template-hash is the Deployment
controller's, and nothing that the operator reads says which of its values is the newest."""

ANNOTATION_ASLEEP = f"{GROUP}/asleep"
ANNOTATION_WOKEN = f"{GROUP}/woken"
"""On the EndpointSlice by which a model's Service leads to the activator: which sleep it is in, by when that
began."""

ANNOTATION_VERSION = f"{GROUP}/version"
"""On server pods that were made for the sake of a new version, and on all that came after them."""

ARCHITECTURES_WITH_TORCH = frozenset(
    {"HuggingFace", "SentenceEncoder", "Seq2SeqAttention", "TextClassifier", "Transformer", "Word2Vec"}
)
"""Those that the builder image with torch builds; the others need it not, and it is eight times as large."""

SERVER_CONFIG_KEY = "server.json"
HTTP_PORT, GRPC_PORT, METRICS_PORT, AGENT_PORT = 8000, 8001, 8002, 8003


def hash8(*parts: str) -> str:
    """Eight hex digits over the parts; the parts are kept apart, so ("a", "bc") and ("ab", "c") differ."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode()
        digest.update(f"{len(raw)}:".encode() + raw)
    return digest.hexdigest()[:8]


def child_name(model: str, role: str, *parts: str) -> str:
    """`<model>-<role>-<hash8>`. A model's name has at most 40 characters, so a child's has at most 56 (63
    allowed)."""
    return f"{model}-{role}-{hash8(*parts)}"


def server_name(model: str, pool: str) -> str:
    """Name of the Deployment, ConfigMap, PodDisruptionBudget and NetworkPolicy of a model's server on a
    pool."""
    return child_name(model, COMPONENT_SERVER, pool)


SHARED_PREFIX = "nlp-"
"""Of the objects of a shared server: `nlp-shared-0`. Children of a model end in a hash, so none has such a
name."""


def shared_name(of_plan: str) -> str:
    """Name of the objects of a shared server; in the plan it is `<namespace>/shared-0`."""
    return SHARED_PREFIX + of_plan.partition("/")[2]


def shared_in_plan(namespace: str, server: str) -> str:
    return f"{namespace}/{server.removeprefix(SHARED_PREFIX)}"


SHARED_NAME = re.compile(SHARED_PREFIX + r"shared(-[0-9a-f]{8})?(-x\d+)?-\d+")


def is_shared_name(server: str) -> bool:
    return SHARED_NAME.fullmatch(server) is not None


ACTIVATOR_PORTS = range(10_000, 20_000)
"""Below what Linux gives to outgoing connections."""
