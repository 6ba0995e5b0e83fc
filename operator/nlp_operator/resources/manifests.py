"""What all our objects have in common: owner, labels, and the hash that says a write would change nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, annotations_of, name, namespace, uid

HASH_DIGITS = 16
"""Hex digits of a manifest hash: 64 bits tell versions of one object apart; nobody gains by a collision."""


def canonical_json(value: Any) -> str:
    """Sorted keys, no blanks, UTF-8 as it is: equal values give equal text."""
    return _encode(value)


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Members:
    """Who owns the objects of a shared server: the models in it, none of them alone. The last one's deletion
    takes the objects along."""

    namespace: str
    models: tuple[Obj, ...]


Owner = Obj | Members
"""A model, or the members of a shared server."""


def label_of(owner: Owner) -> str:
    """Value of the model's label; empty where there is none, since nobody says once and for all who is in a
    shared server."""
    return "" if isinstance(owner, Members) else name(owner)


def namespace_of(owner: Owner) -> str:
    return owner.namespace if isinstance(owner, Members) else namespace(owner)


def child_labels(model: str, component: str, **more: str) -> dict[str, str]:
    """`more` are `server` and `pool`."""
    own = {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_COMPONENT: component}
    if model:
        own[names.LABEL_MODEL] = model
    if "server" in more:
        own[names.LABEL_SERVER] = more["server"]
    if "pool" in more:
        own[names.LABEL_POOL] = more["pool"]
    return own


def child_metadata(
    owner: Owner, child: str, labels: dict[str, str], extra: dict[str, str] | None = None
) -> Obj:
    """Metadata of a child, with the references the garbage collector works by.

    Nothing of the model's own labels and annotations is copied: they are its user's tools' business.
    """
    metadata: Obj = {
        "name": child,
        "namespace": namespace_of(owner),
        "labels": labels,
        "ownerReferences": [_reference(one) for one in owner.models]
        if isinstance(owner, Members)
        else [_reference(owner) | {"controller": True, "blockOwnerDeletion": True}],
    }
    if extra:
        metadata["annotations"] = dict(extra)
    return metadata


def _reference(model: Obj) -> Obj:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.MODEL_KIND,
        "name": name(model),
        "uid": uid(model),
    }


def sealed(manifest: Obj) -> Obj:
    """The manifest with its own hash in an annotation."""
    digest = sha256_of(canonical_json(manifest))[:HASH_DIGITS]
    metadata = dict(manifest["metadata"])
    metadata["annotations"] = {**metadata.get("annotations", {}), names.ANNOTATION_HASH: digest}
    return {**manifest, "metadata": metadata}


def seal_of(obj: Obj) -> str:
    """The hash an object carries; empty when it carries none."""
    return annotations_of(obj).get(names.ANNOTATION_HASH, "")
