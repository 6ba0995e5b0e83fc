"""What a model was found to take: told in its status where it runs, and on its Service where, or as what, it
runs no more.

Agents measure where a model runs. A process that starts anew would know nothing of the pool that the model
had to leave, and send it back as soon as its new place is gone; nor would `nlpctl why`, which asks no agent,
say what the operator says.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, annotations_of, generation, listed, number, text
from nlp_operator.api.spec import parse_model
from nlp_operator.errors import SpecInvalid
from nlp_operator.planning.agent_report import MOST_MEBIBYTES
from nlp_operator.planning.measured import MOST_SETUPS, Known, Setup, Took, as_wanted, noted
from nlp_operator.planning.scaling.observed import readable_pools
from nlp_operator.resources.manifests import canonical_json


def to_tell(known: Known, running: Collection[Setup]) -> str:
    """The annotation; empty: there is nothing to tell. `running`: where it is planned, and as what: of that
    its pods tell."""
    left = [
        {
            "pool": setup.pool,
            "maxBatchSize": setup.max_batch_size,
            "copies": setup.copies,
            "mebibytes": took.mebibytes,
            "ownMebibytes": took.own_mebibytes,
            "estimated": took.estimated,
        }
        for setup, took in known.took
        if setup not in running
    ]
    return canonical_json({"digest": known.digest, "measured": left}) if left else ""


def told_by(service: Obj | None, digest: str) -> tuple[tuple[Setup, Took], ...]:
    """Of this artifact; what is not in the form that we write says nothing."""
    try:
        told = json.loads(annotations_of(service or {}).get(names.ANNOTATION_OUTGROWN, "{}"))
        if told["digest"] != digest:
            return ()
        return tuple(_read(one) for one in told["measured"][:MOST_SETUPS])
    except (ValueError, TypeError, KeyError, AttributeError):
        return ()


def _read(told: Obj) -> tuple[Setup, Took]:
    setup = Setup(text(told, "pool"), number(told, "maxBatchSize"), number(told, "copies"))
    took = Took(number(told, "mebibytes"), number(told, "ownMebibytes"), told["estimated"] is True)
    counts = (took.mebibytes, took.own_mebibytes)
    if not setup.pool or min(setup.max_batch_size, setup.copies, max(counts)) <= 0 or min(counts) < 0:
        raise ValueError("nobody measured that")
    if max(*counts, setup.max_batch_size, setup.copies) > MOST_MEBIBYTES:
        raise ValueError("nobody has that")
    return setup, took


def in_status(model: Obj, pools: Sequence[Obj]) -> tuple[tuple[Setup, Took], ...]:
    """Of the artifact in the status, and measured as the spec's isolation measures: nothing while the status
    is of another spec."""
    if number(model, "status", "observedGeneration") != generation(model):
        return ()
    try:
        spec, known = parse_model(model), readable_pools(pools)
    except SpecInvalid:
        return ()
    shared, found = spec.serving.isolation == "Shared", []
    for one in listed(model, "status", "servers"):
        pool, there = known.get(text(one, "pool")), min(number(one, "memoryMebibytes"), MOST_MEBIBYTES)
        if pool is not None and there > 0:
            took = Took(0, there) if shared else Took(there)
            found.append((as_wanted(spec, text(one, "pool"), pool), took))
    return tuple(found)


def known_of(model: Obj, service: Obj | None, pools: Sequence[Obj]) -> Known:
    """All that is told of it."""
    digest = text(model, "status", "artifact", "digest")
    return noted(Known(), digest, (*told_by(service, digest), *in_status(model, pools)))
