"""Shared servers: one Deployment that holds several models of a namespace, each behind its own Service.

The plan over all models says who is to be where. What is so now is in three places, and nowhere else: the
server's ConfigMap (whom its pods hold), each model's Service (where its requests go) and what the agents say.
A move is two facts that follow from these, so it goes on whoever died meanwhile:

1. A model is in the `server.json` of the server where it is planned, and of every other one to which its
   Service leads, or led until a while ago.
2. Its Service leads to where it is planned once every ready pod there serves it (`models`).

The objects of a server have one writer, the pass over that server. A model's own pass writes its Service.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from nlp_operator.api import names
from nlp_operator.api.conditions import parse_timestamp, timestamp
from nlp_operator.api.objects import (
    Obj,
    annotations_of,
    deleting,
    dig,
    kind,
    labels,
    listed,
    name,
    number,
    text,
    uid,
)
from nlp_operator.api.spec import ModelSpec, PoolSpec, parse_model
from nlp_operator.errors import SpecInvalid
from nlp_operator.planning.agent_report import AgentReport, heard_of
from nlp_operator.planning.aside import at_version
from nlp_operator.planning.devices import devices_of_deployment
from nlp_operator.planning.packing.problem import Server as PlannedServer
from nlp_operator.planning.packing.reading import shape_of
from nlp_operator.planning.placement import Held, Place, room_on
from nlp_operator.planning.plan import Annotation, Deletion, Placement, PlanSettings
from nlp_operator.planning.pods import alive, is_ready, with_label
from nlp_operator.planning.rollout import Rollout, plan_rollout
from nlp_operator.planning.scaling.observed import readable_pools
from nlp_operator.planning.servers import (
    SERVER_KINDS,
    PodReport,
    Server,
    ServerObjects,
    annotations_wanted,
    of_newest_template,
    proven_by,
    refusal_of,
    remembered_digest,
    served_model,
    server_objects,
    silent,
    waits_for,
)
from nlp_operator.planning.snapshot import ModelSnapshot, PoolNamespace
from nlp_operator.planning.together import Share
from nlp_operator.planning.violations import Violation
from nlp_operator.resources.manifests import Members
from nlp_operator.resources.server import (
    ServedModel,
    build_config_map,
    config_hash,
    models_in,
    server_config,
)
from nlp_operator.resources.services import model_selector, server_selector

GONE_SECONDS = 10.0
"""How long a server whose models were all led elsewhere stays: until every node has heard of it. Its pods ask
their clients to leave before they end."""


@dataclass(frozen=True)
class Member:
    """A model that is in a shared server, or is to be."""

    model: Obj
    share: Share | None = None
    """What the plan over all models holds for it; `None`: it asks for nothing."""
    service: Obj | None = None
    size_mebibytes: int = 0
    """What it takes here, with its margin."""
    elsewhere: bool = False
    """It runs in another server, too."""
    waits: bool = False
    """The server where it is planned has no device yet."""


@dataclass(frozen=True)
class ServerSnapshot:
    """Everything `plan_server` decides from."""

    namespace: str
    name: str
    wanted: PlannedServer | None
    """What the last plan says of it; `None`: nothing is to run here."""
    may_stay: bool
    """Who is planned nowhere, or cannot move yet, may stay: the plan counts the devices of this server."""
    members: Mapping[str, Member] = field(default_factory=dict)
    """By name: all that are planned here, and all in `server.json`, as far as there are such models."""
    capacity_mebibytes: int = 0
    """For models."""
    objects: Mapping[str, Obj] = field(default_factory=dict)
    """By kind: those of this name that there are."""
    pods: tuple[Obj, ...] = ()
    agents: Mapping[str, AgentReport] = field(default_factory=dict)
    pools: tuple[Obj, ...] = ()
    usage: Mapping[PoolNamespace, int] = field(default_factory=dict)
    """Devices of others."""
    writer: str = ""
    """Who else writes how many replicas it has, in words; empty: nobody."""


@dataclass(frozen=True)
class ServerPlan:
    """As `ModelPlan`; a server has no status of its own: its members tell what is wrong with it."""

    apply: tuple[Obj, ...] = ()
    delete: tuple[Deletion, ...] = ()
    annotate: tuple[Annotation, ...] = ()
    placements: tuple[Placement, ...] = ()
    trouble: Violation | None = None
    """Why it cannot be as it is wanted."""
    look_again_seconds: float | None = None


def plan_server(seen: ServerSnapshot, settings: PlanSettings, now: datetime) -> ServerPlan:
    pool = readable_pools(seen.pools).get(seen.wanted.pool) if seen.wanted is not None else None
    entries, look_again = _entries(seen, pool, settings, now)
    if not entries:
        return ServerPlan(delete=_all_of(seen), placements=_running(seen))
    members = Members(
        seen.namespace, tuple(seen.members[one].model for one in sorted(entries) if one in seen.members)
    )
    spec = _spec_of_all(seen)
    if seen.wanted is None or pool is None or spec is None:
        return _as_it_is(seen, members, entries, look_again)
    replicas = _replicas(seen, seen.wanted, pool, entries)
    if not replicas:
        waits = Violation(
            "DevicesInUse",
            f"Server {seen.name} has its place on pool {seen.wanted.pool}, whose devices others are about to "
            "give back.",
            stalled=False,
        )
        return ServerPlan(trouble=waits, placements=_running(seen), look_again_seconds=look_again)
    wanted = _objects(seen, seen.wanted, members, entries, spec, pool, replicas, settings)
    kept = {kind(one) for one in wanted.manifests}
    held = replicas * seen.wanted.devices
    return ServerPlan(
        apply=wanted.manifests,
        delete=tuple(one for one in _all_of(seen) if one.kind not in kept),
        annotate=_annotations(seen, wanted.config),
        placements=(Placement(seen.wanted.pool, max([held, *(one.devices for one in _running(seen))])),),
        look_again_seconds=look_again,
    )


def _objects(
    seen: ServerSnapshot,
    wanted: PlannedServer,
    members: Members,
    entries: Mapping[str, ServedModel],
    spec: ModelSpec,
    pool: PoolSpec,
    replicas: int,
    settings: PlanSettings,
) -> ServerObjects:
    config = server_config(
        seen.name, seen.namespace, wanted.pool, pool, wanted.devices, list(entries.values())
    )
    made = server_objects(members, spec, seen.name, Place(wanted.pool, pool, replicas), config, settings)
    there = seen.objects.get("Deployment") if seen.writer else None
    return made if there is None else replace(made, manifests=at_version(made.manifests, [there]))


def _as_it_is(
    seen: ServerSnapshot, members: Members, entries: Mapping[str, ServedModel], look_again: float | None
) -> ServerPlan:
    """Nothing new is to run here, or nobody can say how: only who has left is taken out."""
    config_map, deployment = seen.objects.get("ConfigMap"), seen.objects.get("Deployment")
    if config_map is None or deployment is None:
        return ServerPlan(placements=_running(seen), look_again_seconds=look_again)
    told = json.loads(config_map["data"][names.SERVER_CONFIG_KEY])
    told["models"] = [one for one in told["models"] if one.get("name") in entries]
    config = json.dumps(told, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    pool = labels(deployment).get(names.LABEL_POOL, "")
    return ServerPlan(
        apply=(build_config_map(members, seen.name, pool, config),),
        annotate=_annotations(seen, config),
        placements=_running(seen),
        look_again_seconds=look_again,
    )


def _all_of(seen: ServerSnapshot) -> tuple[Deletion, ...]:
    there = [one for of_kind in SERVER_KINDS if (one := seen.objects.get(of_kind)) and not deleting(one)]
    return tuple(Deletion(kind(one), seen.namespace, seen.name, uid(one)) for one in there)


def _running(seen: ServerSnapshot) -> tuple[Placement, ...]:
    deployment = seen.objects.get("Deployment")
    if deployment is None:
        return ()
    devices = devices_of_deployment(deployment, seen.pools)
    return (Placement(labels(deployment).get(names.LABEL_POOL, ""), devices),) if devices else ()


def _annotations(seen: ServerSnapshot, config: str) -> tuple[Annotation, ...]:
    return annotations_wanted(config_hash(config), alive(seen.pods), seen.agents)


def _replicas(
    seen: ServerSnapshot, wanted: PlannedServer, pool: PoolSpec, entries: Mapping[str, ServedModel]
) -> int:
    """As many as planned, as far as there are devices. A server that somebody has yet to leave is not made
    smaller; one whose replicas somebody else writes has what it has."""
    if seen.writer and (there := number(seen.objects.get("Deployment"), "spec", "replicas")):
        return there
    own = sum(one.devices for one in _running(seen) if one.pool == wanted.pool)
    here = {key.partition("/")[2] for key in wanted.models}
    planned = wanted.replicas
    if not entries.keys() <= here:
        planned = max(planned, own // wanted.devices)
    room = room_on(seen.namespace, wanted.pool, pool, Held({wanted.pool: own}, seen.usage))
    return min(planned, max(room, own, 0) // wanted.devices)


def _spec_of_all(seen: ServerSnapshot) -> ModelSpec | None:
    """What the pods are made from: all members that are planned here wish the same of them. `None` while
    nobody's spec is what the plan was made with."""
    specs = []
    for key in seen.wanted.models if seen.wanted is not None else ():
        member = seen.members.get(key.partition("/")[2])
        spec = _spec(member)
        if member is None or spec is None or member.share is None or member.share.server != seen.name:
            continue
        if spec.serving.isolation == "Shared" and shape_of(spec) == member.share.ask.shape:
            specs.append(spec)
    if not specs:
        return None
    disruption = all(one.rollout.allow_disruption for one in specs)
    first = specs[0]
    return first.model_copy(
        update={"rollout": first.rollout.model_copy(update={"allow_disruption": disruption})}
    )


def _spec(member: Member | None) -> ModelSpec | None:
    try:
        return parse_model(member.model) if member is not None else None
    except SpecInvalid:
        return None


# --- who is in it ---


def _entries(
    seen: ServerSnapshot, pool: PoolSpec | None, settings: PlanSettings, now: datetime
) -> tuple[dict[str, ServedModel], float | None]:
    """The models of `server.json` by name; and in how many seconds somebody may leave."""
    told = models_in(seen.objects.get("ConfigMap"))
    planned = {key.partition("/")[2] for key in seen.wanted.models} if seen.wanted is not None else set()
    entries: dict[str, ServedModel] = {}
    moments: list[float] = []
    after = _unload_after(seen, told, settings)
    for model in sorted(told.keys() - planned):
        member = seen.members.get(model)
        stays, left = _stays(seen, member, after, now)
        if stays:
            entries[model] = told[model]
            moments += [left] if left is not None else []
    for model in sorted(planned & told.keys()):
        member = seen.members.get(model)
        if member is not None and not deleting(member.model):
            entry, left = _entry(seen, member, pool, now)
            entries[model] = entry or told[model]
            moments += [left] if left is not None else []
    if pool is not None:
        _join(seen, entries, planned - told.keys(), pool, now)
    return entries, min(moments, default=None)


def _join(
    seen: ServerSnapshot,
    entries: dict[str, ServedModel],
    new: Iterable[str],
    pool: PoolSpec,
    now: datetime,
) -> None:
    """As far as those who have yet to leave leave room for it."""
    reports = [seen.agents[uid(pod)] for pod in alive(seen.pods) if uid(pod) in seen.agents]
    held = (_held_by(seen.members[one], one, reports) for one in entries if one in seen.members)
    left = seen.capacity_mebibytes - sum(held)
    for model in sorted(new):
        member = seen.members.get(model)
        if member is None or deleting(member.model) or (entries and _has_yet_to_leave(seen, model)):
            continue
        entry, _ = _entry(seen, member, pool, now)
        if entry is not None and (not entries or member.size_mebibytes <= left):
            entries[model] = entry
            left -= member.size_mebibytes


def _held_by(member: Member, model: str, reports: Iterable[AgentReport]) -> int:
    """What is planned for a member, or what it holds where that is more: it may have been loaded as a larger
    batch or another version wanted it."""
    told = [ours for one in reports if (ours := heard_of(one, model)) is not None]
    return max(member.size_mebibytes, *(one.own_mebibytes for one in told), 0)


def _has_yet_to_leave(seen: ServerSnapshot, model: str) -> bool:
    """Whether an agent still speaks of a model that its server was told to let go. It is told of it again
    once it has: before that, what it says of the model it had would pass for a proof of the one it gets."""
    reports = [seen.agents[uid(pod)] for pod in alive(seen.pods) if uid(pod) in seen.agents]
    return any(heard_of(one, model) is not None for one in reports)


def _entry(
    seen: ServerSnapshot, member: Member, pool: PoolSpec | None, now: datetime
) -> tuple[ServedModel | None, float | None]:
    """What is to be told of it, `None`: nothing new; and in how many seconds to look again."""
    spec, digest = _spec(member), text(member.model, "status", "artifact", "digest")
    if spec is None or pool is None or not digest or (spec.suspend and member.elsewhere):
        return None, None
    told = models_in(seen.objects.get("ConfigMap")).get(name(member.model))
    if spec.suspend and told is not None:
        return told, None
    there = tuple(one for kind_ in ("ConfigMap", "Deployment") if (one := seen.objects.get(kind_)))
    view = ModelSnapshot(member.model, children=there, pods=seen.pods, pools=seen.pools, agents=seen.agents)
    rollout = _rollout(view, spec, "", pool, digest, now)
    return served_model(member.model, spec, pool, rollout), rollout.look_again_seconds


def _unload_after(seen: ServerSnapshot, told: Mapping[str, ServedModel], settings: PlanSettings) -> float:
    """Seconds after its Service was led elsewhere that a model is still held here, for the connections from
    before."""
    members = [seen.members[one] for one in told if one in seen.members]
    if seen.wanted is None and all(not _leads_here(seen, one) for one in members):
        return GONE_SECONDS
    return settings.unload_after_seconds


def _leads_here(seen: ServerSnapshot, member: Member) -> bool:
    """Also of a model that has no Service (yet, or any more)."""
    selector = dig(member.service, "spec", "selector")
    return selector is None or selector == server_selector(seen.name)


def _stays(
    seen: ServerSnapshot, member: Member | None, after: float, now: datetime
) -> tuple[bool, float | None]:
    """Whether a model that is not planned here is still held here; and for how many seconds, if that is
    known."""
    if member is None or deleting(member.model):
        return False, None
    share = member.share
    if share is None:
        return True, None  # it asks for nothing, so nobody planned it elsewhere
    if not share.ask.replicas:
        return False, None
    if not share.places or member.waits:
        return seen.may_stay, None
    if _leads_here(seen, member):
        return True, None
    assert member.service is not None, "it leads elsewhere"
    since = parse_timestamp(annotations_of(member.service).get(names.ANNOTATION_SWITCHED))
    if since is None:
        return False, None  # it never led here
    left = after - (now - since).total_seconds()
    return left > 0, left if left > 0 else None


# --- what a member sees of it ---


def home_of(
    seen: ModelSnapshot, share: Share, place: Place, digest: str, settings: PlanSettings, now: datetime
) -> tuple[ServerObjects, Server]:
    """The server where a shared model is planned: nothing for the model's pass to write, and what is there.
    `digest` is what is to serve there in the end."""
    deployment = next((one for one in seen.shared if name(one) == share.server), None)
    replicas = number(deployment, "spec", "replicas") if deployment is not None else place.replicas
    server = _observe(seen, share.server, place.pool, deployment, replicas, share, digest, settings, now)
    return ServerObjects((), share.server, place.pool, replicas, ""), server


def rollout_at_home(
    seen: ModelSnapshot, spec: ModelSpec, share: Share, place: Place, digest: str, now: datetime
) -> Rollout:
    """How a new version comes to the server where the model is planned: as the pass over that server decides,
    too, from the same."""
    there = tuple(one for one in (*seen.shared, *seen.shared_configs) if name(one) == share.server)
    pods = tuple(with_label(seen.pods, names.LABEL_SERVER, share.server))
    return _rollout(replace(seen, children=there, pods=pods), spec, place.pool, place.spec, digest, now)


def _rollout(
    seen: ModelSnapshot, spec: ModelSpec, pool: str, pool_spec: PoolSpec, digest: str, now: datetime
) -> Rollout:
    """`seen.children` are the objects of the server."""
    deployment = next((one for one in seen.children if kind(one) == "Deployment"), None)
    replicas = number(deployment, "spec", "replicas") if deployment is not None else 0
    return plan_rollout(seen, spec, (Place(pool, pool_spec, replicas),), digest, None, now)


def left_behind(
    seen: ModelSnapshot, home: str, digest: str, settings: PlanSettings, now: datetime
) -> tuple[Server, ...]:
    """The shared server that still takes the requests of a model that is planned elsewhere."""
    service = own_service(seen)
    found = []
    for deployment in seen.shared:
        server = name(deployment)
        if server == home or dig(service, "spec", "selector") != server_selector(server):
            continue
        pool, replicas = labels(deployment).get(names.LABEL_POOL, ""), number(deployment, "spec", "replicas")
        found.append(_observe(seen, server, pool, deployment, replicas, None, digest, settings, now))
    return tuple(found)


def is_told(seen: ModelSnapshot, home: str) -> bool:
    """Whether the server where a model is planned was told of it: what agents say before that is of another
    time."""
    return _told(seen, home) is not None


def told_otherwise(seen: ModelSnapshot, spec: ModelSpec, home: str, digest: str) -> bool:
    """Whether the server where a model is planned was told nothing of it yet, or not what its spec says."""
    told = _told(seen, home)
    wanted = (digest, spec.serving.max_batch_size, spec.serving.responses)
    return told is None or (told.digest, told.max_batch_size, told.responses) != wanted


def _told(seen: ModelSnapshot, home: str) -> ServedModel | None:
    config_map = next((one for one in seen.shared_configs if name(one) == home), None)
    return models_in(config_map).get(name(seen.model))


def own_service(seen: ModelSnapshot) -> Obj | None:
    return next(
        (one for one in seen.children if kind(one) == "Service" and name(one) == name(seen.model)), None
    )


def lead(
    seen: ModelSnapshot, home: str, old: Iterable[Server], *, proven: bool, now: datetime
) -> tuple[dict[str, str], str]:
    """Which pods the model's Service is to select, and when it was last led elsewhere.

    `home`: the shared server where it is planned, empty for servers of its own; `proven`: every ready pod
    there serves it. Before that it leads where it did, as long as anybody answers there.
    """
    wanted = server_selector(home) if home else model_selector(name(seen.model))
    service = own_service(seen)
    if service is None:
        return wanted, ""
    present, since = (
        dig(service, "spec", "selector"),
        annotations_of(service).get(names.ANNOTATION_SWITCHED, ""),
    )
    if present == wanted or not isinstance(present, dict):
        return wanted, since
    if proven or not any(_takes(one, present) and one.ready for one in old):
        return wanted, timestamp(now)
    return dict(present), since


def _takes(server: Server, selector: Mapping[str, str]) -> bool:
    """Whether requests by this selector go to this server."""
    if server.shared:
        return selector == server_selector(server.name)
    return names.LABEL_MODEL in selector


def _observe(
    seen: ModelSnapshot,
    server: str,
    pool: str,
    deployment: Obj | None,
    replicas: int,
    share: Share | None,
    digest: str,
    settings: PlanSettings,
    now: datetime,
) -> Server:
    pods = sorted(with_label(seen.pods, names.LABEL_SERVER, server), key=name)
    running = alive(pods)
    remembered = remembered_digest(seen.model, server)
    ready, unproven = [], []
    for pod in filter(is_ready, running):
        told = _pod_report(seen, pod, digest, remembered, settings, now)
        if told.serving or told.silent:
            ready.append(told)
        else:
            unproven.append(told.pod)
    needed = min(share.ask.replicas, replicas) if share is not None else 0
    enough = len(proven_by(ready, digest)) >= needed and not unproven
    newest = of_newest_template(running, deployment, None) if deployment is not None else []
    waiting = [found for pod in newest if not is_ready(pod) if (found := waits_for(seen, pod, now))]
    refusals = [found for pod in newest if (found := _refusal(seen, pod, digest, settings, now))]
    trouble = seen.trouble.get(server) if share is not None else None
    return Server(
        server,
        pool,
        deployment,
        replicas,
        tuple(running),
        tuple(ready),
        trouble or (None if enough else next(iter(waiting), None)),
        next(iter(refusals), None) if share is not None else None,
        shared=True,
        needed=needed,
        unproven=tuple(unproven),
    )


def _pod_report(
    seen: ModelSnapshot, pod: Obj, digest: str, remembered: str, settings: PlanSettings, now: datetime
) -> PodReport:
    """`current`: it was told this very artifact. That others came or went is no news for this model."""
    report = seen.agents.get(uid(pod))
    if report is None or (report.taken is None and not silent(report, settings, now)):
        return PodReport(name(pod), remembered, current=True)
    ours = report.of(name(seen.model))
    told = ours is not None and ours.wanted == digest
    return PodReport(name(pod), ours.serving if ours is not None else "", told, silent(report, settings, now))


def _refusal(
    seen: ModelSnapshot, pod: Obj, digest: str, settings: PlanSettings, now: datetime
) -> Violation | None:
    report = seen.agents.get(uid(pod))
    ours = report.of(name(seen.model)) if report is not None else None
    if report is None or ours is None or ours.wanted != digest:
        return None
    return refusal_of(pod, report, ours, settings, now)


def owners_in(obj: Obj | None) -> tuple[str, ...]:
    """Names of the models that own an object of a shared server."""
    references = listed(obj, "metadata", "ownerReferences")
    return tuple(text(one, "name") for one in references if text(one, "kind") == names.MODEL_KIND)
