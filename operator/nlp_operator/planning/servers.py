"""The server objects of a model, and what its pods do.

A Dedicated model has a server on each pool it uses, all behind its one Service. While it moves to another
pool the old server stays: it goes when the new ones are whole. A new artifact is a new line in `server.json`;
it replaces no pod.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from nlp_operator.api import names
from nlp_operator.api.conditions import LOADED, find, read_conditions
from nlp_operator.api.objects import (
    Obj,
    annotations_of,
    deleting,
    dig,
    generation,
    kind,
    labels,
    listed,
    name,
    namespace,
    number,
    text,
    uid,
)
from nlp_operator.api.spec import ModelSpec
from nlp_operator.planning.agent_report import AgentReport
from nlp_operator.planning.devices import devices_of_deployment
from nlp_operator.planning.placement import Place
from nlp_operator.planning.plan import Annotation, Deletion, Placement, PlanSettings
from nlp_operator.planning.pods import (
    condition_field,
    condition_status,
    held_up,
    is_over,
    is_ready,
    quote,
    with_label,
)
from nlp_operator.planning.snapshot import ModelSnapshot
from nlp_operator.planning.stores import PASSES_BY_ITSELF, store_away
from nlp_operator.planning.violations import Violation
from nlp_operator.resources.manifests import seal_of
from nlp_operator.resources.policies import build_server_policy
from nlp_operator.resources.server import (
    ServedModel,
    build_config_map,
    build_deployment,
    config_hash,
    instances_on,
    server_config,
    template_of,
)
from nlp_operator.resources.services import build_disruption_budget

SERVER_KINDS = ("Deployment", "PodDisruptionBudget", "ConfigMap", "NetworkPolicy")
"""The objects that share a server's name."""


@dataclass(frozen=True)
class PodReport:
    """What one ready pod is known to serve."""

    pod: str
    serving: str
    """Digest; empty when it is not known, or none."""
    current: bool
    """It has read the configuration as it is now, as far as is known."""
    silent: bool = False


@dataclass(frozen=True)
class Server:
    """One server as it is."""

    name: str
    pool: str
    deployment: Obj | None
    replicas: int
    """Wanted, as far as this pass decides it."""
    pods: tuple[Obj, ...]
    ready: tuple[PodReport, ...]
    held_up: Violation | None
    """Why a pod of the newest template does not run, or learns nothing from the store."""
    refused: Violation | None = None
    """Why one of these, ready or not, does not serve what it was told to, in the words of its agent."""

    @property
    def digest(self) -> str:
        """What every ready pod serves; empty when they differ or it is not known."""
        serving = {report.serving for report in self.ready}
        return serving.pop() if len(serving) == 1 else ""


@dataclass(frozen=True)
class ServerObjects:
    """The manifests of one wanted server, in the order to write them, and what follows from them."""

    manifests: tuple[Obj, ...]
    name: str
    pool: str
    replicas: int
    config: str

    @property
    def config_hash(self) -> str:
        return config_hash(self.config)

    def of_kind(self, kind_: str) -> Obj | None:
        return next((one for one in self.manifests if kind(one) == kind_), None)


def wanted_servers(
    model: Obj, spec: ModelSpec, places: Sequence[Place], digest: str, settings: PlanSettings
) -> tuple[ServerObjects, ...]:
    return tuple(_wanted_objects(model, spec, place, digest, settings) for place in places)


def _wanted_objects(
    model: Obj, spec: ModelSpec, place: Place, digest: str, settings: PlanSettings
) -> ServerObjects:
    server = names.server_name(name(model), place.pool)
    devices = spec.serving.devices_per_replica
    served = ServedModel(
        name=name(model),
        digest=digest,
        max_batch_size=spec.serving.max_batch_size,
        instances=instances_on(place.spec, devices),
    )
    config = server_config(server, namespace(model), place.pool, place.spec, devices, [served])
    manifests = [
        build_server_policy(model, server, place.pool, settings),
        build_config_map(model, server, place.pool, config),
        build_deployment(model, spec, server, place.pool, place.spec, place.replicas, settings),
    ]
    if place.replicas > 1:
        manifests.append(build_disruption_budget(model, server, place.pool))
    return ServerObjects(tuple(manifests), server, place.pool, place.replicas, config)


def server_deployments(seen: ModelSnapshot) -> list[Obj]:
    return sorted(
        (child for child in seen.children if kind(child) == "Deployment" and not deleting(child)), key=name
    )


def last_pool(seen: ModelSnapshot) -> str:
    """The pool the model runs on: of several, the one the status names first, else the one with most ready
    pods. Empty when it runs on none."""
    known = [text(one, "name") for one in _status_servers(seen.model)]
    deployments = server_deployments(seen)
    if not deployments:
        return text(next(iter(_status_servers(seen.model)), None), "pool")

    def rank(deployment: Obj) -> tuple[int, int, str]:
        place_in_status = known.index(name(deployment)) if name(deployment) in known else len(known)
        return (place_in_status, -number(deployment, "status", "readyReplicas"), name(deployment))

    return labels(min(deployments, key=rank)).get(names.LABEL_POOL, "")


def _status_servers(model: Obj) -> list[Obj]:
    return listed(model, "status", "servers")


def _replicas(deployment: Obj) -> int:
    return number(deployment, "spec", "replicas")


def observe_servers(
    seen: ModelSnapshot, wanted: Sequence[ServerObjects], settings: PlanSettings, now: datetime
) -> tuple[Server, ...]:
    """The wanted ones first, then those they are to replace."""
    deployments = {name(one): one for one in server_deployments(seen)}
    found = [
        _observe(seen, one.name, one.pool, deployments.get(one.name), one.replicas, one, settings, now)
        for one in wanted
    ]
    for deployment in deployments.values():
        if all(name(deployment) != one.name for one in wanted):
            pool = labels(deployment).get(names.LABEL_POOL, "")
            replicas = _replicas(deployment)
            found.append(_observe(seen, name(deployment), pool, deployment, replicas, None, settings, now))
    return tuple(found)


def _observe(
    seen: ModelSnapshot,
    server: str,
    pool: str,
    deployment: Obj | None,
    replicas: int,
    wanted: ServerObjects | None,
    settings: PlanSettings,
    now: datetime,
) -> Server:
    pods = sorted(with_label(seen.pods, names.LABEL_SERVER, server), key=name)
    alive = [pod for pod in pods if not deleting(pod) and not is_over(pod)]
    before = next((one for one in _status_servers(seen.model) if text(one, "name") == server), None)
    remembered = text(before, "digest")
    believed = wanted is None or _still_loaded(seen, wanted)
    ready = [
        _pod_report(
            pod, name(seen.model), seen.agents.get(uid(pod)), remembered, believed, wanted, settings, now
        )
        for pod in alive
        if is_ready(pod)
    ]
    newest = _of_newest_template(alive, deployment, wanted)
    waiting = [found for pod in newest if not is_ready(pod) if (found := _waits_for(seen, pod, now))]
    refusals = [found for pod in newest if (found := _refusal(seen, pod, wanted, settings, now))]
    return Server(
        server,
        pool,
        deployment,
        replicas,
        tuple(alive),
        tuple(ready),
        next(iter(waiting), None),
        next(iter(refusals), None),
    )


def _of_newest_template(pods: list[Obj], deployment: Obj | None, wanted: ServerObjects | None) -> list[Obj]:
    """The pods whose trouble is that of the spec as it is; a pod on its way out may have had another cause.

    Empty while the template is about to change, or has changed and no pod was made from it yet.
    """
    manifest = wanted.of_kind("Deployment") if wanted is not None else deployment
    template = template_of(dig(manifest, "spec", "template") or {}) if manifest is not None else ""
    return [pod for pod in pods if template_of(pod) == template]


def _controller_has_seen(deployment: Obj) -> bool:
    return number(deployment, "status", "observedGeneration") >= generation(deployment)


def _as_wanted(deployment: Obj, wanted: ServerObjects) -> bool:
    manifest = wanted.of_kind("Deployment")
    return manifest is not None and seal_of(deployment) == seal_of(manifest)


def _refusal(
    seen: ModelSnapshot, pod: Obj, wanted: ServerObjects | None, settings: PlanSettings, now: datetime
) -> Violation | None:
    """What an agent that has read the newest configuration has against the artifact in it. A pod that is not
    ready may still be at it, so there only a quarantine counts."""
    report = seen.agents.get(uid(pod))
    if wanted is None or report is None or report.config_hash != wanted.config_hash:
        return None
    ours = report.of(name(seen.model))
    if ours is None or not ours.reason or ours.serving == ours.wanted:
        return None
    if not is_ready(pod) and (ours.state != "Quarantined" or _silent(report, settings, now)):
        return None
    return Violation(
        ours.reason,
        f"Pod {name(pod)} does not serve artifact {ours.wanted[:12]}: {ours.message}",
        stalled=ours.reason not in PASSES_BY_ITSELF,
    )


def _waits_for(seen: ModelSnapshot, pod: Obj, now: datetime) -> Violation | None:
    report = seen.agents.get(uid(pod))
    return held_up(pod, now) or store_away(pod, report.of(name(seen.model)) if report is not None else None)


def _still_loaded(seen: ModelSnapshot, wanted: ServerObjects) -> bool:
    """The status says that every replica had the configuration, and it has not changed since."""
    loaded = find(read_conditions(seen.model), LOADED)
    if loaded is None or loaded.status != "True":
        return False
    if number(seen.model, "status", "observedGeneration") != generation(seen.model):
        return False
    manifest = wanted.of_kind("ConfigMap")
    present = (one for one in seen.children if kind(one) == "ConfigMap" and name(one) == wanted.name)
    return manifest is not None and any(seal_of(one) == seal_of(manifest) for one in present)


def _pod_report(
    pod: Obj,
    model: str,
    report: AgentReport | None,
    remembered: str,
    believed: bool,
    wanted: ServerObjects | None,
    settings: PlanSettings,
    now: datetime,
) -> PodReport:
    """A pod whose agent was not asked yet (the operator has just started) serves what the status remembers:
    it is ready, and a pod is ready only when its models are proven."""
    if report is None or (report.taken is None and not _silent(report, settings, now)):
        return PodReport(name(pod), remembered, current=believed)
    ours = report.of(model)
    current = wanted is None or report.config_hash == wanted.config_hash
    serving = ours.serving if ours is not None else ""
    return PodReport(name(pod), serving, current, _silent(report, settings, now))


def _silent(report: AgentReport, settings: PlanSettings, now: datetime) -> bool:
    since = report.silent_since
    return since is not None and (now - since).total_seconds() >= settings.agent_silence_seconds


def annotations_wanted(
    seen: ModelSnapshot, wanted: ServerObjects, server: Server, agents: Mapping[str, AgentReport]
) -> tuple[Annotation, ...]:
    """Pods whose agent still reads an older `server.json`: a changed annotation makes the kubelet sync the
    volume at once (0.2 s measured, up to 72 s without). A pod that has just started needs none: it mounts
    the newest."""
    patches = []
    for pod in server.pods:
        report = agents.get(uid(pod))
        if report is None or report.taken is None or report.config_hash == wanted.config_hash:
            continue
        if annotations_of(pod).get(names.ANNOTATION_CONFIG_HASH) == wanted.config_hash:
            continue
        patches.append(
            Annotation(namespace(pod), name(pod), uid(pod), names.ANNOTATION_CONFIG_HASH, wanted.config_hash)
        )
    return tuple(patches)


def settled(server: Server, wanted: ServerObjects) -> bool:
    """The Deployment is as wanted, and its controller is done with it."""
    deployment = server.deployment
    if deployment is None or not _as_wanted(deployment, wanted) or not _controller_has_seen(deployment):
        return False
    counts = ("updatedReplicas", "availableReplicas", "replicas")
    return all(number(deployment, "status", count) == server.replicas for count in counts)


def whole(server: Server, digest: str) -> bool:
    """Every wanted replica takes requests and serves the digest."""
    proven = [
        report for report in server.ready if report.serving == digest and report.current and not report.silent
    ]
    return bool(digest) and len(proven) >= server.replicas


def surplus(
    seen: ModelSnapshot, wanted: Sequence[ServerObjects], keep_servers: Sequence[Server]
) -> tuple[Deletion, ...]:
    """Objects of servers that are not kept, and the budget of a server that has one replica only."""
    kept_names = {one.name for one in keep_servers} | {one.name for one in wanted}
    without_budget = {one.name for one in wanted if one.of_kind("PodDisruptionBudget") is None}
    gone = []
    ours = [child for child in seen.children if kind(child) in SERVER_KINDS]
    for child in sorted(ours, key=lambda child: (SERVER_KINDS.index(kind(child)), name(child))):
        if deleting(child) or names.LABEL_SERVER not in labels(child):
            continue
        unneeded_budget = kind(child) == "PodDisruptionBudget" and name(child) in without_budget
        if name(child) not in kept_names or unneeded_budget:
            gone.append(Deletion(kind(child), namespace(child), name(child), uid(child)))
    return tuple(gone)


def placements_of(
    seen: ModelSnapshot, servers: Sequence[Server], wanted: Sequence[ServerObjects]
) -> tuple[Placement, ...]:
    """What the model holds: of every server the more of what runs and what is to run."""
    held = dict.fromkeys((server.pool for server in servers), 0)
    manifests = {one.name: one.of_kind("Deployment") for one in wanted}
    for server in servers:
        both = (server.deployment, manifests.get(server.name))
        devices = [devices_of_deployment(one, seen.pools) for one in both if one is not None]
        held[server.pool] += max(devices, default=0)
    return _placements(held)


def placements_running(seen: ModelSnapshot) -> tuple[Placement, ...]:
    """What the Deployments that exist hold, whatever the spec says."""
    return _placements(devices_running(seen))


def devices_running(seen: ModelSnapshot) -> dict[str, int]:
    """By pool."""
    held: dict[str, int] = {}
    for deployment in server_deployments(seen):
        pool = labels(deployment).get(names.LABEL_POOL, "")
        held[pool] = held.get(pool, 0) + devices_of_deployment(deployment, seen.pools)
    return held


def _placements(held: Mapping[str, int]) -> tuple[Placement, ...]:
    return tuple(Placement(pool, devices) for pool, devices in sorted(held.items()) if pool and devices > 0)


def deployment_trouble(server: Server) -> Violation | None:
    """What the Deployment's own controller complains of."""
    if server.deployment is None:
        return None
    complaints = (("ReplicaFailure", "True", "PodsNotCreated"), ("Progressing", "False", "RolloutStuck"))
    for type_, bad, reason in complaints:
        if condition_status(server.deployment, type_) == bad:
            message = quote(condition_field(server.deployment, type_, "message"))
            return Violation(reason, f"Deployment {server.name}: {message}")
    return None
