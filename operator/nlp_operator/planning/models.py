"""plan_model: one NLPModel, one snapshot, one plan. Everything it decides is decided in the modules it
calls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from nlp_operator.api.conditions import parse_timestamp
from nlp_operator.api.objects import Obj, deleting, dig, kind, name, namespace, text
from nlp_operator.api.spec import ModelSpec, parse_model
from nlp_operator.errors import SpecInvalid
from nlp_operator.planning.artifact import plan_artifact
from nlp_operator.planning.aside import as_it_runs, aside_of, at_version
from nlp_operator.planning.measured import as_wanted, believed, exactly
from nlp_operator.planning.outgrown import to_tell
from nlp_operator.planning.packing.explain import goes_on
from nlp_operator.planning.packing.reading import Ask, ask_of
from nlp_operator.planning.placement import Held, NotPlaced, Placed, place, unplaceable
from nlp_operator.planning.plan import Deletion, ModelPlan, PlanSettings
from nlp_operator.planning.pods import VOLUMES_SECONDS, waits_for_volumes
from nlp_operator.planning.readiness import Facts, says_ready
from nlp_operator.planning.readings.advice import busy_millis, scaled_of
from nlp_operator.planning.rollout import as_it_was, plan_rollout
from nlp_operator.planning.scaling import Aside, Replicas, wanted_replicas
from nlp_operator.planning.scaling.observed import readable_pools
from nlp_operator.planning.servers import (
    Server,
    ServerObjects,
    annotations_wanted,
    devices_running,
    last_pool,
    observe_servers,
    placements_of,
    placements_running,
    server_deployments,
    surplus,
    wanted_servers,
)
from nlp_operator.planning.shared import (
    home_of,
    is_told,
    lead,
    left_behind,
    own_service,
    rollout_at_home,
    told_otherwise,
)
from nlp_operator.planning.sleep import Sleep, plan_sleep
from nlp_operator.planning.snapshot import ModelSnapshot
from nlp_operator.planning.status import build_status, events_between, spec_invalid_status
from nlp_operator.planning.stores import binding
from nlp_operator.planning.together import Share
from nlp_operator.planning.violations import Violation
from nlp_operator.resources.manifests import seal_of
from nlp_operator.resources.services import build_service

TAKEN_SECONDS = 5.0
"""How often to look whether a name that somebody else has is free: their object is in no cache of ours."""

COMPANY_SECONDS = 5.0
"""How old a model is before it counts as failed for want of a pool. A folder of manifests is applied in any
order, and a GitOps tool that saw one failure would fail the whole sync."""

POOL_MAY_COME = frozenset({"NoSuchPool", "NoPoolFits"})


def plan_model(seen: ModelSnapshot, settings: PlanSettings, now: datetime) -> ModelPlan:
    """`now` is aware. The same snapshot and time give the same plan; carrying a plan out leaves nothing to
    plan."""
    if deleting(seen.model):
        return ModelPlan()  # owner references do the rest
    try:
        spec = parse_model(seen.model)
    except SpecInvalid as error:
        return _plan_invalid(seen, error, now)
    sleep = plan_sleep(seen, spec, settings, now)
    of_shared = seen.share.of_shared if seen.share is not None and seen.share.server else None
    aside = aside_of(seen)
    replicas = wanted_replicas(spec, scaled_of(seen.model, seen.children, seen.advice, of_shared), aside)
    replicas = sleep.replicas(replicas)
    facts, ask, refused = _find_out(seen, spec, replicas, aside, sleep, settings, now)
    status = build_status(seen.model, facts, replicas, now, seen.advice)
    apply, delete = _writes(seen, facts, refused)
    before = dig(seen.model, "status", default={})
    return ModelPlan(
        apply=apply,
        delete=delete,
        annotate=()
        if spec.suspend
        else tuple(
            annotation
            for wanted, server in zip(facts.wanted, facts.serving, strict=True)
            if not server.shared
            for annotation in annotations_wanted(wanted.config_hash, server.pods, seen.agents)
        ),
        status=status,
        events=events_between(before if isinstance(before, dict) else {}, status),
        placements=placements_of(seen, facts.servers, facts.wanted, facts.rollout.extra),
        ask=ask,
        look_again_seconds=_look_again(seen, facts, settings, now),
    )


def _plan_invalid(seen: ModelSnapshot, error: SpecInvalid, now: datetime) -> ModelPlan:
    before = dig(seen.model, "status", default={})
    status = spec_invalid_status(seen.model, error.problems, now)
    return ModelPlan(
        status=status,
        events=events_between(before if isinstance(before, dict) else {}, status),
        placements=placements_running(seen),  # what serves keeps its devices
    )


def _find_out(
    seen: ModelSnapshot,
    spec: ModelSpec,
    replicas: Replicas,
    aside: Aside | None,
    sleep: Sleep,
    settings: PlanSettings,
    now: datetime,
) -> tuple[Facts, Ask | None, frozenset[tuple[str, str]]]:
    """The facts, what is asked of the plan over all models, and the (kind, name) of manifests that somebody
    else's objects are in the way of."""
    artifact = plan_artifact(seen, spec, settings, now)
    digest = artifact.record.digest
    asked = ask_of(
        namespace(seen.model),
        name(seen.model),
        spec,
        replicas.desired,
        artifact.record.bytes,
        believed(seen.measured, digest, spec),
        busy_millis(seen.model, seen.advice),
    )
    asks = bool(digest) and _may_serve(seen, spec)
    share = seen.share if asks and seen.share is not None and seen.share.ask == asked else None
    placement = _place(seen, spec, asked, share, now, asks=asks)
    rollout = as_it_was(seen.model, spec, digest)
    wanted: tuple[ServerObjects, ...] = ()
    home: tuple[Server, ...] = ()
    if isinstance(placement, Placed) and asked.shared:
        assert share is not None, "it has a place"
        rollout = rollout_at_home(seen, spec, share, placement.places[0], digest, now)
        objects, server = home_of(seen, share, placement.places[0], rollout.aim, settings, now)
        wanted, home = (objects,), (server,)
    elif isinstance(placement, Placed):
        if aside is not None:
            placement = as_it_runs(placement, seen)
        held = Held(devices_running(seen), seen.usage)
        rollout = plan_rollout(seen, spec, placement.places, digest, held, now)
        wanted = wanted_servers(seen, spec, placement.places, rollout, settings)
        if aside is not None:
            servers_now = server_deployments(seen)
            wanted = tuple(replace(one, manifests=at_version(one.manifests, servers_now)) for one in wanted)
    own = observe_servers(seen, () if asked.shared else wanted, settings, now)
    current, older = (home, own) if asked.shared else (own[: len(wanted)], own[len(wanted) :])
    older += left_behind(seen, share.server if share is not None else "", rollout.aim, settings, now)
    servers = (*current, *older)
    taken = _taken(seen, (*artifact.apply, *_manifests(wanted, None)))
    facts = Facts(
        spec=spec,
        artifact=artifact,
        share=share,
        placement=placement,
        rollout=rollout,
        wanted=wanted,
        servers=servers,
        name_taken=_name_taken(taken),
        service_taken=("Service", name(seen.model)) in taken,
        store_binding=binding(seen, settings),
        was_ready=says_ready(seen.model),
        measured=exactly(seen.measured, digest, spec, readable_pools(seen.pools)),
        sleep=sleep,
        aside=aside,
        refused=seen.refused,
    )
    facts = replace(facts, placement=_going_on(facts))
    return _with_service(seen, facts, now), asked if asks else None, taken


def _going_on(facts: Facts) -> Placed | NotPlaced | None:
    """What is in the way of the place that a model is to have takes nothing from what serves."""
    found, gone = facts.placement, _let_go(facts)
    pools = {one.pool for one in facts.servers if one.replicas and (one.shared or one.name not in gone)}
    if not isinstance(found, NotPlaced) or found.violation.reason != "NoRoom" or not pools:
        return found
    message = f"{found.violation.message} {goes_on(pools)}"
    return NotPlaced(replace(found.violation, message=message))


def _with_service(seen: ModelSnapshot, facts: Facts, now: datetime) -> Facts:
    """The Service leads to where the model is planned once that is proven, and where it led until then."""
    if not facts.wanted:
        return facts
    home = facts.wanted[0].name if facts.serving[0].shared else ""
    proven = facts.settled and facts.whole and (not home or is_told(seen, home))
    selector, switched = lead(seen, home, facts.servers[len(facts.wanted) :], proven=proven, now=now)
    service = build_service(
        seen.model, facts.spec.serving.service, selector, switched, _outgrown(seen, facts)
    )
    changes = any(_is_change(seen, one) for one in _manifests(facts.wanted, service))
    changes = changes or (bool(home) and told_otherwise(seen, facts.spec, home, facts.digest))
    return replace(facts, service=service, held_back=facts.spec.suspend and changes)


def _outgrown(seen: ModelSnapshot, facts: Facts) -> str:
    places = facts.placement.places if isinstance(facts.placement, Placed) else ()
    digest = text(seen.model, "status", "artifact", "digest")
    return to_tell(seen.measured.of(digest), [as_wanted(facts.spec, one.pool, one.spec) for one in places])


def _manifests(wanted: Iterable[ServerObjects], service: Obj | None) -> tuple[Obj, ...]:
    servers = tuple(manifest for one in wanted for manifest in one.manifests)
    return servers if service is None else (*servers, service)


def _place(
    seen: ModelSnapshot, spec: ModelSpec, asked: Ask, share: Share | None, now: datetime, *, asks: bool
) -> Placed | NotPlaced | None:
    placement: Placed | NotPlaced | None = None
    if asks:
        held = Held(devices_running(seen), seen.usage)
        placement = place(asked, share, seen.pools, held, last_pool(seen))
    elif (impossible := unplaceable(asked, seen.pools)) is not None:
        # Worth telling while the artifact is still being built; room is a question of the moment.
        placement = NotPlaced(impossible)
    if isinstance(placement, NotPlaced) and _company_left(seen, placement, now) is not None:
        return replace(placement, violation=replace(placement.violation, stalled=False))
    return placement


def _company_left(seen: ModelSnapshot, placement: Placed | NotPlaced | None, now: datetime) -> float | None:
    """For how many seconds more a pool that came with the model may yet be seen; `None`: no longer, or it
    would change nothing."""
    made = parse_timestamp(dig(seen.model, "metadata", "creationTimestamp"))
    if (
        made is None
        or not isinstance(placement, NotPlaced)
        or placement.violation.reason not in POOL_MAY_COME
    ):
        return None
    age = (now - made).total_seconds()
    return COMPANY_SECONDS - age if abs(age) < COMPANY_SECONDS else None  # below 0: by another clock


def _may_serve(seen: ModelSnapshot, spec: ModelSpec) -> bool:
    """A suspended model gets no first server, but keeps (and gets back) the one it has."""
    return not spec.suspend or last_pool(seen) != ""


def _taken(seen: ModelSnapshot, manifests: Iterable[Obj]) -> frozenset[tuple[str, str]]:
    service = ("Service", name(seen.model))  # known before there is anything to serve: say so at once
    wanted = {(kind(one), name(one)) for one in manifests} | {service}
    return frozenset(wanted & seen.foreign)


def _name_taken(taken: frozenset[tuple[str, str]]) -> Violation | None:
    if not taken:
        return None
    listed = ", ".join(f"{kind_} {name_}" for kind_, name_ in sorted(taken))
    those = (
        "exists in this namespace and does not belong to this model. It is left alone: delete it"
        if len(taken) == 1
        else "exist in this namespace and do not belong to this model. They are left alone: delete them"
    )
    return Violation("NameTaken", f"{listed} {those}, or give the model another name.")


def _writes(
    seen: ModelSnapshot, facts: Facts, taken: frozenset[tuple[str, str]]
) -> tuple[tuple[Obj, ...], tuple[Deletion, ...]]:
    serving = _manifests(facts.wanted, facts.service)
    if facts.spec.suspend:
        serving = tuple(one for one in serving if not _is_change(seen, one))
    # Of a suspended model, too: where the activator is by now is nothing that its user would hold back.
    leads = () if facts.sleep.slice is None else (facts.sleep.slice,)
    wanted = (*facts.artifact.apply, *serving, *leads)
    apply = tuple(one for one in wanted if (kind(one), name(one)) not in taken)
    gone = () if facts.sleep.gone is None else (facts.sleep.gone,)
    return apply, facts.artifact.delete + _no_longer_needed(seen, facts) + gone


def _no_longer_needed(seen: ModelSnapshot, facts: Facts) -> tuple[Deletion, ...]:
    """A server whose place the plan gave to others goes at once, also of a suspended model: its devices are
    not its own any more; or in a while, where the model is to serve elsewhere first. Any other goes when the
    wanted ones are whole."""
    old = facts.servers[len(facts.wanted) :]
    let_go = _let_go(facts)
    if facts.spec.suspend and not let_go:
        return ()
    planned = sum(count for _, count in facts.share.places) if facts.share is not None else 0
    there = bool(facts.wanted) and facts.settled and facts.whole and facts.replicas >= planned
    moved = there and not facts.spec.suspend and _is_led(seen, facts)
    stays = [one for one in old if not moved and one.name not in let_go]
    return surplus(seen, facts.wanted, stays)


def _is_led(seen: ModelSnapshot, facts: Facts) -> bool:
    """The Service leads to the servers that are wanted. What was written in this very pass does not count: it
    may be refused."""
    selector = dig(own_service(seen), "spec", "selector")
    return selector is None or selector == dig(facts.service, "spec", "selector")


def _let_go(facts: Facts) -> frozenset[str]:
    """The servers with replicas for which the plan has no place, not even for now."""
    if facts.share is None or not facts.share.ask.replicas:
        return frozenset()  # where nothing is wanted, the empty server takes the place of all others
    placed, leaving = dict(facts.share.places), dict(facts.share.leaving)
    # Of what leaves nothing is made smaller: where not all of it may stay, none of it does.
    return frozenset(
        one.name
        for one in facts.servers
        if one.pool not in placed
        and one.replicas > leaving.get(one.pool, 0)
        and not (one.pool in facts.share.giving and one.ready)
    )


def _is_change(seen: ModelSnapshot, manifest: Obj) -> bool:
    """An existing object would be written anew (and not only put back as it was)."""
    key = (kind(manifest), name(manifest))
    present = next((one for one in seen.children if (kind(one), name(one)) == key), None)
    return present is not None and seal_of(present) != seal_of(manifest)


def _look_again(seen: ModelSnapshot, facts: Facts, settings: PlanSettings, now: datetime) -> float | None:
    """When time alone changes the plan: the soonest of all that is known to."""
    moments = [
        facts.artifact.look_again_seconds,
        facts.rollout.look_again_seconds,
        TAKEN_SECONDS if facts.name_taken is not None else None,
        _company_left(seen, facts.placement, now),
        facts.sleep.look_again_seconds,
    ]
    for server in facts.servers:
        moments += [_until_silent(seen, pod, settings, now) for pod in server.pods]
        moments += [
            VOLUMES_SECONDS for pod in server.pods if waits_for_volumes(pod) and server.held_up is None
        ]
    known = [seconds for seconds in moments if seconds is not None]
    return min(known) if known else None


def _until_silent(seen: ModelSnapshot, pod: Obj, settings: PlanSettings, now: datetime) -> float | None:
    report = seen.agents.get(str(dig(pod, "metadata", "uid", default="")))
    if report is None or report.silent_since is None:
        return None
    left = settings.agent_silence_seconds - (now - report.silent_since).total_seconds()
    return max(1.0, left) if left > 0 else None
