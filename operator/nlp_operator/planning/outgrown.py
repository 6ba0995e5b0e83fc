"""What a model was found to take on pools where it does not run any more, told on its Service.

Agents measure where a model runs. A process that starts anew would know nothing of the pool that the model
had to leave, and send it back as soon as its new place is gone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, annotations_of
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
