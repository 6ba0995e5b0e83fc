"""What the work queue holds."""

from __future__ import annotations

from typing import NamedTuple

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, labels, name, namespace
from nlp_operator.cluster.kinds import MODEL, POOL


class Key(NamedTuple):
    """One NLPModel, one DevicePool (whose namespace is empty) or one shared server."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {where}"


def model_key(of_namespace: str, of_name: str) -> Key:
    return Key(MODEL.name, of_namespace, of_name)


def pool_key(of_name: str) -> Key:
    return Key(POOL.name, "", of_name)


SERVER = "Server"
"""Kind of the keys of shared servers, each known by the name of its objects."""


def server_key(of_namespace: str, of_name: str) -> Key:
    return Key(SERVER, of_namespace, of_name)


def key_of_label(obj: Obj) -> Key:
    """Of the model that an object says it is of."""
    return model_key(namespace(obj), labels(obj).get(names.LABEL_MODEL, ""))


def key_of_object(obj: Obj) -> Key:
    return Key(obj["kind"], namespace(obj), name(obj))
