"""What all our objects have in common: owner, labels, and the hash that says a write would change nothing."""

from __future__ import annotations

import hashlib
import json
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


def child_labels(model: str, component: str, **more: str) -> dict[str, str]:
    """`more` are `server` and `pool`."""
    own = {
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_COMPONENT: component,
        names.LABEL_MODEL: model,
    }
    if "server" in more:
        own[names.LABEL_SERVER] = more["server"]
    if "pool" in more:
        own[names.LABEL_POOL] = more["pool"]
    return own


def child_metadata(
    model: Obj, child: str, labels: dict[str, str], extra: dict[str, str] | None = None
) -> Obj:
    """Metadata of a child of `model`, with the controller reference the garbage collector works by.

    Nothing of the model's own labels and annotations is copied: they are its user's tools' business.
    """
    metadata: Obj = {
        "name": child,
        "namespace": namespace(model),
        "labels": labels,
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": names.MODEL_KIND,
                "name": name(model),
                "uid": uid(model),
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    if extra:
        metadata["annotations"] = dict(extra)
    return metadata


def sealed(manifest: Obj) -> Obj:
    """The manifest with its own hash in an annotation."""
    digest = sha256_of(canonical_json(manifest))[:HASH_DIGITS]
    metadata = dict(manifest["metadata"])
    metadata["annotations"] = {**metadata.get("annotations", {}), names.ANNOTATION_HASH: digest}
    return {**manifest, "metadata": metadata}


def seal_of(obj: Obj) -> str:
    """The hash an object carries; empty when it carries none."""
    return annotations_of(obj).get(names.ANNOTATION_HASH, "")
