"""Inputs that are artifacts of other NLPModels: which artifact each of them is now, or why there is none.

    words ──artifact──> novels ──artifact──> reviews        built in this order, and again in this order

A source is only followed while it has an artifact of its present spec. One that is being built again, has
failed or is gone takes nothing away from a model that was built from its last artifact: that one stays as it
is and says so. A model that has yet to be built from it waits.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nlp_operator.api.conditions import BUILT
from nlp_operator.api.objects import Obj, deleting, dig, generation, listed, name, number, text
from nlp_operator.api.spec import Build, Input
from nlp_operator.planning.violations import Violation
from nlp_operator.resources.jobs import FetchedInput, inputs_hash

SHA256 = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True)
class Resolution:
    build: Build
    """The build of the spec, with every input that is an artifact pinned to the digest it stands for. Where
    `violation` is set, some of them have none."""
    violation: Violation | None = None
    """Why the inputs cannot be fetched now."""
    note: str = ""
    """What to say of a model that stands on an artifact its source does not have any more."""


@dataclass(frozen=True)
class _Unresolved:
    violation: Violation
    note: str


def resolve(
    model: Obj, build: Build, fetched: Sequence[FetchedInput], fetched_for: str, sources: Mapping[str, Obj]
) -> Resolution:
    """`fetched` and `fetched_for`: the inputs of the last fetch and their hash. `sources`: the models this
    one takes inputs from, directly or through others, by name; one that does not exist is left out."""
    wanted = [one for one in build.inputs if one.source.nlp_model is not None]
    if not wanted:
        return Resolution(build)
    ring = find_ring(name(model), _graph(model, sources))
    if ring:
        return Resolution(build, _ring_violation(ring))
    digests: dict[str, str] = {}
    unresolved: dict[str, _Unresolved] = {}
    for one in wanted:
        found = _artifact_of(one, sources)
        if isinstance(found, str):
            digests[one.name] = found
        else:
            unresolved[one.name] = found
    if not unresolved:
        return Resolution(_pinned(build, digests))
    last = {one.name: one.sha256 for one in fetched if one.name in unresolved}
    as_it_was = _pinned(build, digests | last)
    if last.keys() == unresolved.keys() and inputs_hash(as_it_was) == fetched_for:
        return Resolution(as_it_was, note=" ".join(one.note for one in unresolved.values()))
    violations = sorted((one.violation for one in unresolved.values()), key=lambda one: not one.stalled)
    return Resolution(build, violations[0])


def artifact_of(model: Obj) -> str:
    """The digest of the artifact of a model's present spec; empty while it has none."""
    built = _built(model)
    current = number(built, "observedGeneration") == generation(model)
    digest = text(model, "status", "artifact", "digest")
    right = text(built, "status") == "True" and current and not deleting(model)
    return digest if right and SHA256.match(digest) else ""


def sources_of(model: Obj) -> tuple[str, ...]:
    """The NLPModels of its namespace that a model takes inputs from, as its spec names them."""
    named = (text(one, "source", "nlpModel", "name") for one in listed(model, "spec", "build", "inputs"))
    return tuple(dict.fromkeys(one for one in named if one))


def as_source(model: Obj | None) -> object:
    """All that models which take inputs from this one see of it: equal means that nothing changed for
    them."""
    if model is None or deleting(model):
        return None
    return artifact_of(model), _has_failed(model) and text(_built(model), "reason"), sources_of(model)


def find_ring(start: str, graph: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The shortest way from `start` along the edges of `graph` back to it, without the repeated end; empty
    when there is none.

    Of several that are equally short the one whose edges are named first.
    """
    came_from: dict[str, str] = {}
    ahead = deque([start])
    while ahead:
        here = ahead.popleft()
        for there in graph.get(here, ()):
            if there == start:
                return _way(start, here, came_from)
            if there not in came_from:
                came_from[there] = here
                ahead.append(there)
    return ()


def _way(start: str, end: str, came_from: Mapping[str, str]) -> tuple[str, ...]:
    way = [end]
    while way[-1] != start:
        way.append(came_from[way[-1]])
    return tuple(reversed(way))


def _graph(model: Obj, sources: Mapping[str, Obj]) -> dict[str, tuple[str, ...]]:
    return {one: sources_of(source) for one, source in sources.items()} | {name(model): sources_of(model)}


def _pinned(build: Build, digests: Mapping[str, str]) -> Build:
    inputs = [
        one.model_copy(update={"sha256": digests[one.name]}) if one.name in digests else one
        for one in build.inputs
    ]
    return build.model_copy(update={"inputs": inputs})


def _built(model: Obj) -> Obj:
    return next((one for one in listed(model, "status", "conditions") if text(one, "type") == BUILT), {})


def _has_failed(model: Obj) -> bool:
    built = _built(model)
    return text(built, "status") == "False" and number(built, "observedGeneration") == generation(model)


def _artifact_of(one: Input, sources: Mapping[str, Obj]) -> str | _Unresolved:
    assert one.source.nlp_model is not None, "asked only of such inputs"
    source = one.source.nlp_model.name
    model = sources.get(source)
    what = f"Input {one.name!r} is the artifact of NLPModel {source!r}"
    if model is None or deleting(model):
        return _Unresolved(
            Violation(
                "DependencyMissing",
                f"{what}, which does not exist in this namespace. Create it, or name another; this model "
                "goes on by itself.",
                stalled=False,
            ),
            f"{what}, which is gone: this model stays as it is until that one is back.",
        )
    digest = artifact_of(model)
    if not digest:
        return _Unresolved(
            _not_built(what, model),
            f"{what}, which has no artifact of its present spec: this model stays as it is until it has one.",
        )
    if one.sha256 not in ("", digest):
        return _Unresolved(
            Violation(
                "HashMismatch",
                f"{what}, which is {digest} now, but its sha256 pins {one.sha256}. Change the pin, or take "
                "it away to follow that model.",
            ),
            f"{what}, which has another one by now: the pin of its sha256 keeps this model as it is.",
        )
    return digest


def _not_built(what: str, model: Obj) -> Violation:
    if _has_failed(model):
        return Violation(
            "DependencyFailed",
            f"{what}, which cannot be built ({dig(_built(model), 'reason', default='no reason given')}): its "
            "condition Built says what to do. This model goes on by itself when that one is built.",
        )
    return Violation(
        "DependencyPending",
        f"{what}, which is not built yet. This model is built after it.",
        stalled=False,
    )


def _ring_violation(ring: tuple[str, ...]) -> Violation:
    if len(ring) == 1:
        return Violation(
            "DependencyCycle",
            f"An input of NLPModel {ring[0]!r} is the artifact of this model itself. Take it from another "
            "model, or from elsewhere.",
        )
    return Violation(
        "DependencyCycle",
        f"The inputs of these NLPModels need one another, so that none of them can be built first: "
        f"{' -> '.join((*ring, ring[0]))}. Take an input of one of them from elsewhere.",
    )
