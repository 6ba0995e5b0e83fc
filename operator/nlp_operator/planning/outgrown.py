"""What a model was found to take: told in its status where it runs, and on its Service where it runs no more.

Agents measure where a model runs. A process that starts anew would know nothing of the pool that the model
had to leave, and send it back as soon as its new place is gone; nor would `nlpctl why`, which asks no agent,
say what the operator says.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, annotations_of, generation, listed, number, text
from nlp_operator.resources.manifests import canonical_json


def to_tell(measured: Mapping[str, int], running: Collection[str], digest: str, *, shared: bool) -> str:
    """The annotation; empty: there is nothing to tell. `measured`: mebibytes by pool, of this artifact;
    `running`: pools where it is planned."""
    left = {pool: mebibytes for pool, mebibytes in measured.items() if pool not in running}
    return canonical_json({"digest": digest, "shared": shared, "mebibytes": left}) if left else ""


def told_by(service: Obj | None, digest: str, *, shared: bool) -> dict[str, int]:
    """Mebibytes by pool, of this artifact and measured as this isolation measures; what is not in the form
    that we write says nothing."""
    try:
        told = json.loads(annotations_of(service or {}).get(names.ANNOTATION_OUTGROWN, "{}"))
        if (told["digest"], told["shared"]) != (digest, shared):
            return {}
        return {str(pool): int(mebibytes) for pool, mebibytes in told["mebibytes"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def in_status(model: Obj) -> dict[str, int]:
    """Mebibytes by pool, of the artifact in the status and measured as the spec's isolation measures: nothing
    while the status is of another spec."""
    if number(model, "status", "observedGeneration") != generation(model):
        return {}
    servers = listed(model, "status", "servers")
    return {text(one, "pool"): there for one in servers if (there := number(one, "memoryMebibytes")) > 0}


def known_of(model: Obj, service: Obj | None) -> dict[str, int]:
    """All that is told of it, as `in_status`."""
    shared = text(model, "spec", "serving", "isolation") == "Shared"
    digest = text(model, "status", "artifact", "digest")
    return told_by(service, digest, shared=shared) | in_status(model)
