"""The server objects of a model, and what its pods do.

A Dedicated model has a server on each pool it uses, all behind its one Service. While it moves to another
pool the old server stays: it goes when the new ones are whole. A new artifact is a new line in `server.json`;
it replaces no pod.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from nlp_operator.api.spec import ModelSpec, PoolSpec
from nlp_operator.planning.agent_report import AgentReport, ModelReport
from nlp_operator.planning.devices import devices_of_deployment
from nlp_operator.planning.placement import Place
from nlp_operator.planning.plan import Annotation, Deletion, Placement, PlanSettings
from nlp_operator.planning.pods import (
    alive,
    condition_field,
    condition_status,
    held_up,
    is_ready,
    quote,
    with_label,
)
from nlp_operator.planning.profiles import ASKED
from nlp_operator.planning.profiles import to_tell as profile_to_tell
from nlp_operator.planning.readings.advice import wanted_instances
from nlp_operator.planning.rollout import Rollout
from nlp_operator.planning.snapshot import ModelSnapshot
from nlp_operator.planning.steps import Steps, most_told, one_first
from nlp_operator.planning.stores import PASSES_BY_ITSELF, store_away
from nlp_operator.planning.violations import Violation
from nlp_operator.resources.manifests import Owner, seal_of
from nlp_operator.resources.policies import build_server_policy
from nlp_operator.resources.server import (
    ServedModel,
    before_the_profile,
    build_config_map,
    build_deployment,
    config_hash,
    highest_on,
    instances_on,
    models_in,
    server_config,
    serves_hash,
    template_of,
    with_instances,
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
    shared: bool = False
    """It is a server of several models, and this is what one of them sees of it."""
    needed: int = 0
    """Of a shared one: the replicas that this model wants of it."""
    unproven: tuple[str, ...] = ()
    """Of a shared one: pods that are ready and do not serve this model."""

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

    def is_told_by(self, report: AgentReport, model: str) -> bool:
        """Whether the agent has read all of it, but perhaps how many instances to run, or what it has
        measured itself: a pod serves as well while that changes."""
        if report.config_hash == self.config_hash:
            return True
        if report.serves_hash:
            return report.serves_hash == serves_hash(self.config)
        ours = report.of(model)
        if ours is None:
            return False
        as_read = (self.config, with_instances(self.config, ours.instances))
        either = (*as_read, *map(before_the_profile, as_read))
        return report.config_hash in map(config_hash, either)

    def of_kind(self, kind_: str) -> Obj | None:
        return next((one for one in self.manifests if kind(one) == kind_), None)


def wanted_servers(
    seen: ModelSnapshot, spec: ModelSpec, places: Sequence[Place], rollout: Rollout, settings: PlanSettings
) -> tuple[ServerObjects, ...]:
    names_wanted = frozenset(names.server_name(name(seen.model), place.pool) for place in places)
    return tuple(_wanted_objects(seen, spec, place, names_wanted, rollout, settings) for place in places)


def _wanted_objects(
    seen: ModelSnapshot,
    spec: ModelSpec,
    place: Place,
    names_wanted: Collection[str],
    rollout: Rollout,
    settings: PlanSettings,
) -> ServerObjects:
    model = seen.model
    server = names.server_name(name(model), place.pool)
    devices = spec.serving.devices_per_replica
    told = _told(seen, server)
    deployed = any(name(one) == server for one in server_deployments(seen))
    steps = _instances(seen, spec, place, server, told, settings)
    served = replace(
        served_model(model, spec, place.spec, rollout),
        instances=steps.others,
        instances_of=steps.first,
        profile=profile_to_tell(
            spec,
            settings.profiles,
            seen.profiles.get(place.pool, ""),
            rollout.digest,
            told.profile if told is not None else None,
            running=deployed,
            hurried=_is_hurried(seen, server, names_wanted, running=deployed),
        ),
    )
    config = server_config(server, namespace(model), place.pool, place.spec, devices, [served])
    return server_objects(model, spec, server, place, config, settings, rollout.version, rollout.hold_seconds)


def _instances(
    seen: ModelSnapshot,
    spec: ModelSpec,
    place: Place,
    server: str,
    told: ServedModel | None,
    settings: PlanSettings,
) -> Steps:
    """Of a model in servers of its own. What its pods were told last is remembered nowhere else."""
    devices = spec.serving.devices_per_replica
    begins = instances_on(place.spec, devices)
    wanted = wanted_instances(
        spec,
        place.pool,
        begins,
        highest_on(place.spec, devices, settings.most_instances),
        most_told(told) if told is not None else 0,
        seen.advice,
    )
    pods = with_label(seen.pods, names.LABEL_SERVER, server)
    return one_first(told, wanted, name(seen.model), pods, seen.agents, begins)


def _is_hurried(seen: ModelSnapshot, server: str, names_wanted: Collection[str], *, running: bool) -> bool:
    """Whether callers may be missing this server, so that nothing may make it later: another one is to stay
    beside it, or nothing that stays until this one is whole takes requests.

    The very first servers of a model make nobody wait, nor does one to which it moves at leisure."""
    others = [
        one for one in server_deployments(seen) if name(one) != server and not _is_measuring(seen, name(one))
    ]
    if not others:
        return False
    if not running and any(name(one) in names_wanted for one in others):
        return True
    ready = {labels(pod).get(names.LABEL_SERVER) for pod in seen.pods if is_ready(pod)}
    stays = set() if seen.share is None else {pool for pool, _ in (*seen.share.places, *seen.share.leaving)}
    return not any(name(one) in ready and labels(one).get(names.LABEL_POOL) in stays for one in others)


def _is_measuring(seen: ModelSnapshot, server: str) -> bool:
    """It was asked before its first pod, and has not told yet."""
    told = _told(seen, server)
    return told is not None and told.profile == ASKED


def _told(seen: ModelSnapshot, server: str) -> ServedModel | None:
    """What a server of its own was told last."""
    config_map = next(
        (one for one in seen.children if kind(one) == "ConfigMap" and name(one) == server), None
    )
    return models_in(config_map).get(name(seen.model))


def served_model(model: Obj, spec: ModelSpec, pool: PoolSpec, rollout: Rollout) -> ServedModel:
    """What the pods of a server in this pool are told of one model."""
    return ServedModel(
        name=name(model),
        digest=rollout.digest,
        max_batch_size=spec.serving.max_batch_size,
        instances=instances_on(pool, spec.serving.devices_per_replica),
        pods=rollout.pods,
        responses=spec.serving.responses,
    )


def server_objects(
    owner: Owner,
    spec: ModelSpec,
    server: str,
    place: Place,
    config: str,
    settings: PlanSettings,
    version: str = "",
    hold_seconds: int = 0,
) -> ServerObjects:
    """`config`: its `server.json`. `version` and `hold_seconds` as in `build_deployment`."""
    manifests = [
        build_server_policy(owner, server, place.pool, settings),
        build_config_map(owner, server, place.pool, config),
        build_deployment(
            owner, spec, server, place.pool, place.spec, place.replicas, settings, version, hold_seconds
        ),
    ]
    if place.replicas > 1:
        manifests.append(build_disruption_budget(owner, server, place.pool))
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


def remembered_digest(model: Obj, server: str) -> str:
    """What the status says that a server serves; empty when it says nothing."""
    return next((text(one, "digest") for one in _status_servers(model) if text(one, "name") == server), "")


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
    running = alive(pods)
    remembered = remembered_digest(seen.model, server)
    believed = wanted is None or _still_loaded(seen, wanted)
    ready = [
        _pod_report(
            pod, name(seen.model), seen.agents.get(uid(pod)), remembered, believed, wanted, settings, now
        )
        for pod in running
        if is_ready(pod)
    ]
    newest = of_newest_template(running, deployment, wanted)
    waiting = [found for pod in newest if not is_ready(pod) if (found := waits_for(seen, pod, now))]
    refusals = [found for pod in newest if (found := _refusal(seen, pod, wanted, settings, now))]
    return Server(
        server,
        pool,
        deployment,
        replicas,
        tuple(running),
        tuple(ready),
        next(iter(waiting), None),
        next(iter(refusals), None),
    )


def of_newest_template(pods: list[Obj], deployment: Obj | None, wanted: ServerObjects | None) -> list[Obj]:
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
    return refusal_of(pod, report, report.of(name(seen.model)), settings, now)


def refusal_of(
    pod: Obj, report: AgentReport, ours: ModelReport | None, settings: PlanSettings, now: datetime
) -> Violation | None:
    """Of a pod that was told what is wanted."""
    if ours is None or not ours.reason or ours.serving == ours.wanted:
        return None
    if not is_ready(pod) and (ours.state != "Quarantined" or silent(report, settings, now)):
        return None
    return Violation(
        ours.reason,
        f"Pod {name(pod)} does not serve artifact {ours.wanted[:12]}: {ours.message}",
        stalled=ours.reason not in PASSES_BY_ITSELF,
    )


def waits_for(seen: ModelSnapshot, pod: Obj, now: datetime) -> Violation | None:
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
    if report is None or (report.taken is None and not silent(report, settings, now)):
        return PodReport(name(pod), remembered, current=believed)
    ours = report.of(model)
    current = wanted is None or wanted.is_told_by(report, model)
    serving = ours.serving if ours is not None else ""
    return PodReport(name(pod), serving, current, silent(report, settings, now))


def silent(report: AgentReport, settings: PlanSettings, now: datetime) -> bool:
    since = report.silent_since
    return since is not None and (now - since).total_seconds() >= settings.agent_silence_seconds


def annotations_wanted(
    config: str, pods: Sequence[Obj], agents: Mapping[str, AgentReport]
) -> tuple[Annotation, ...]:
    """Pods whose agent still reads an older `server.json`: a changed annotation makes the kubelet sync the
    volume at once (0.2 s measured, up to 72 s without). A pod that has just started needs none: it mounts
    the newest. `config`: its hash."""
    patches = []
    for pod in pods:
        report = agents.get(uid(pod))
        if report is None or report.taken is None or report.config_hash == config:
            continue
        if annotations_of(pod).get(names.ANNOTATION_CONFIG_HASH) == config:
            continue
        patches.append(Annotation(namespace(pod), name(pod), uid(pod), names.ANNOTATION_CONFIG_HASH, config))
    return tuple(patches)


def settled(server: Server, wanted: ServerObjects) -> bool:
    """The Deployment is as wanted, and its controller is done with it; or, where others have a say in it,
    there are as many pods as this model needs."""
    if server.shared:
        return server.deployment is not None and _enough(server)
    deployment = server.deployment
    if deployment is None or not _as_wanted(deployment, wanted) or not _controller_has_seen(deployment):
        return False
    counts = ("updatedReplicas", "availableReplicas", "replicas")
    return all(number(deployment, "status", count) == server.replicas for count in counts)


def _enough(server: Server) -> bool:
    return len(server.ready) + len(server.unproven) >= server.needed


def proven_by(reports: Iterable[PodReport], digest: str) -> list[PodReport]:
    """The pods that serve this artifact, as far as they have been told what is wanted."""
    return [one for one in reports if one.serving == digest and one.current and not one.silent]


def whole(server: Server, digest: str) -> bool:
    """Every wanted replica takes requests and serves the digest; of a shared server every ready pod, too."""
    proven = proven_by(server.ready, digest)
    if server.shared:
        everywhere = len(proven) == len(server.ready) and not server.unproven
        return bool(digest) and everywhere and len(proven) >= server.needed
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
    seen: ModelSnapshot, servers: Sequence[Server], wanted: Sequence[ServerObjects], extra: Mapping[str, int]
) -> tuple[Placement, ...]:
    """What the model holds: of every server the more of what runs and what is to run, and `extra` by pool."""
    own = [server for server in servers if not server.shared]
    held = dict.fromkeys((server.pool for server in own), 0)
    manifests = {one.name: one.of_kind("Deployment") for one in wanted}
    for server in own:
        both = (server.deployment, manifests.get(server.name))
        devices = [devices_of_deployment(one, seen.pools) for one in both if one is not None]
        held[server.pool] += max(devices, default=0)
    for pool, devices_more in extra.items():
        held[pool] = held.get(pool, 0) + devices_more
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
    if server.deployment is None or (server.shared and _enough(server)):
        return None
    complaints = (("ReplicaFailure", "True", "PodsNotCreated"), ("Progressing", "False", "RolloutStuck"))
    for type_, bad, reason in complaints:
        if condition_status(server.deployment, type_) == bad:
            message = quote(condition_field(server.deployment, type_, "message"))
            return Violation(reason, f"Deployment {server.name}: {message}")
    return None
