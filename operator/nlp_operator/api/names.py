"""Every name this project gives in the API, spelled once."""

from __future__ import annotations

import hashlib

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
CONTAINER_PULL, CONTAINER_KEEP, CONTAINER_PUSH = "pull", "keep", "push"
"""Before, beside (of a build) and after the container of a Job, where the store is a bucket."""
LABEL_MODEL = f"{GROUP}/model"
LABEL_SERVER = f"{GROUP}/server"
LABEL_POOL = f"{GROUP}/pool"

ANNOTATION_HASH = f"{GROUP}/hash"
ANNOTATION_BUILD_KEY = f"{GROUP}/build-key"
ANNOTATION_CONFIG_HASH = f"{GROUP}/config-hash"
ANNOTATION_TEMPLATE = f"{GROUP}/template"
"""On server pods: which template they are of. A pod's own label pod-template-hash is the Deployment
controller's, and nothing that the operator reads says which of its values is the newest."""

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
