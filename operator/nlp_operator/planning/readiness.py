"""When a model is Ready: a chain of named checks over what a pass found out. Their order is the explanation
the user gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from nlp_operator.api.conditions import READY, find, read_conditions
from nlp_operator.api.objects import Obj, generation, number
from nlp_operator.api.spec import ModelSpec
from nlp_operator.planning.artifact import ArtifactPlan
from nlp_operator.planning.back_offs import BackOff
from nlp_operator.planning.placement import NotPlaced, Placed
from nlp_operator.planning.rollout import Rollout
from nlp_operator.planning.scaling import Aside
from nlp_operator.planning.servers import (
    Server,
    ServerObjects,
    deployment_trouble,
    proven_by,
    settled,
    whole,
)
from nlp_operator.planning.sleep import AWAKE, Sleep
from nlp_operator.planning.together import Share
from nlp_operator.planning.violations import Violation


@dataclass(frozen=True)
class Facts:
    """What a pass found out, for the checks and the conditions."""

    spec: ModelSpec
    artifact: ArtifactPlan
    share: Share | None
    """What the plan over all models holds for it; `None`: nothing was asked, or not planned yet."""
    placement: Placed | NotPlaced | None
    """`None`: not decided before there is an artifact, nor for a first server while suspended."""
    rollout: Rollout
    """Which artifact which pods are to serve."""
    wanted: tuple[ServerObjects, ...]
    """Empty while nothing can be served yet, or nowhere."""
    servers: tuple[Server, ...]
    """The wanted ones first, in the order of `wanted`, then those they replace."""
    service: Obj | None = None
    """The manifest of the model's Service; `None` without a wanted server."""
    name_taken: Violation | None = None
    service_taken: bool = False
    """A Service of the model's name is another's: whoever asks there does not ask this model."""
    store_binding: str = ""
    """What to say with the pool of a store that only one node can mount."""
    sleep: Sleep = AWAKE
    aside: Aside | None = None
    refused: Mapping[str, BackOff] = field(default_factory=dict)
    """As in the snapshot."""
    held_back: bool = False
    """spec.suspend keeps changes from being written."""
    was_ready: bool = False
    """`says_ready` of the model."""
    measured: Mapping[str, int] = field(default_factory=dict)
    """By pool: mebibytes that a replica of the artifact was seen to take there."""

    @property
    def digest(self) -> str:
        """The artifact to serve: the last good one, whatever becomes of a newer; or the one before, while
        that waits or was taken back."""
        return self.rollout.aim

    @property
    def serving(self) -> tuple[Server, ...]:
        """The wanted servers as they are."""
        return self.servers[: len(self.wanted)]

    @property
    def replicas(self) -> int:
        """Of them, as far as this pass decides it."""
        return sum(one.replicas for one in self.serving)

    @property
    def whole(self) -> bool:
        """Every wanted replica takes requests and serves the artifact."""
        return bool(self.serving) and all(whole(one, self.digest) for one in self.serving)

    @property
    def keeps_ready(self) -> bool:
        """A move that the user did not ask for, during which as many replicas serve the artifact as are
        wanted, takes nothing away: it is Ready all the while."""
        moving = len(self.servers) > len(self.wanted) > 0
        return moving and self.was_ready and self._proven >= self.replicas

    @property
    def proven(self) -> tuple[Server, ...]:
        """Those of the servers, also of those it moves away from, that serve the artifact."""
        return tuple(one for one in self.servers if proven_by(one.ready, self.digest))

    @property
    def _proven(self) -> int:
        return sum(len(proven_by(one.ready, self.digest)) for one in self.servers)

    @property
    def settled(self) -> bool:
        """Every wanted server is there as it is wanted, and its controller is done with it."""
        return all(settled(one, wanted) for one, wanted in zip(self.serving, self.wanted, strict=True))


def says_ready(model: Obj) -> bool:
    """Whether the status says that the model is Ready, as its spec is now."""
    ready = find(read_conditions(model), READY)
    told = number(model, "status", "observedGeneration") == generation(model)
    return told and ready is not None and ready.status == "True"


Check = Callable[[Facts], Violation | None]


def artifact_not_built(facts: Facts) -> Violation | None:
    return facts.artifact.violation


def name_taken(facts: Facts) -> Violation | None:
    return facts.name_taken


def not_placed(facts: Facts) -> Violation | None:
    return facts.placement.violation if isinstance(facts.placement, NotPlaced) else None


def changes_held_back(facts: Facts) -> Violation | None:
    if not facts.held_back:
        return None
    return Violation(
        "Suspended",
        "spec.suspend is true: changes wait until it is false, and what serves keeps serving.",
        False,
    )


def no_server(facts: Facts) -> Violation | None:
    """Every check of a server passes where there is none; this one does not."""
    if facts.serving:
        return None
    if facts.spec.suspend:
        return Violation(
            "Suspended",
            "spec.suspend is true and there is no server: none starts until it is false.",
            stalled=False,
        )
    return Violation("NoServer", "There is no server yet.", stalled=False)


def not_rolled_out(facts: Facts) -> Violation | None:
    return facts.rollout.violation


def _first(found: Iterable[Violation | None]) -> Violation | None:
    return next((one for one in found if one is not None), None)


def artifact_refused(facts: Facts) -> Violation | None:
    """While another artifact is in the making, the last one is no longer what is waited for."""
    if facts.artifact.violation is not None:
        return None
    return _first(one.refused for one in facts.serving)


def pods_held_up(facts: Facts) -> Violation | None:
    return None if facts.keeps_ready else _first(one.held_up for one in facts.serving)


def deployment_in_trouble(facts: Facts) -> Violation | None:
    return None if facts.keeps_ready else _first(deployment_trouble(one) for one in facts.serving)


def in_the_way_of_a_move(facts: Facts) -> Violation | None:
    """What would make it not Ready did its old places not serve on."""
    return _first((one.held_up or deployment_trouble(one)) for one in facts.serving)


def agents_silent(facts: Facts) -> Violation | None:
    silent = sorted(report.pod for server in facts.servers for report in server.ready if report.silent)
    if not silent:
        return None
    return Violation(
        "AgentSilent",
        f"The agent of {', '.join(silent)} does not answer the operator; what it serves is not known. "
        "Check that the operator can reach port 8003 of the pod.",
        stalled=False,
    )


def server_not_there(facts: Facts) -> Violation | None:
    if facts.keeps_ready:
        return None
    if facts.sleep.asleep:
        return None  # its last pod may still be ending
    for server, wanted in zip(facts.serving, facts.wanted, strict=True):
        if not settled(server, wanted):
            return Violation(
                "Starting", f"Server {server.name} starts or changes on pool {server.pool}.", stalled=False
            )
    return None


def not_loaded(facts: Facts) -> Violation | None:
    if facts.keeps_ready:
        return None
    for server in facts.serving:
        if not whole(server, facts.digest):
            return Violation(
                "Loading",
                f"Artifact {facts.digest[:12]} is not proven on every replica of server {server.name} yet.",
                stalled=False,
            )
    return None


def old_server_left(facts: Facts) -> Violation | None:
    left = facts.servers[len(facts.wanted) :]
    if not facts.wanted or not left or facts.keeps_ready:
        return None
    old = ", ".join(f"{server.name} on pool {server.pool}" for server in left)
    return Violation("Moving", f"The model has moved; {old} ends.", stalled=False)


READINESS: tuple[Check, ...] = (
    artifact_not_built,
    name_taken,
    not_placed,
    changes_held_back,
    not_rolled_out,
    artifact_refused,
    pods_held_up,
    deployment_in_trouble,
    agents_silent,
    server_not_there,
    not_loaded,
    old_server_left,
    no_server,
)


def violations(facts: Facts) -> list[Violation]:
    """All that is in the way, what waits for the user first."""
    found = [violation for violation in (check(facts) for check in READINESS) if violation is not None]
    return sorted(found, key=lambda violation: not violation.stalled)
