"""Which change wakes which key. Nothing here decides anything: a key woken for nothing costs a fraction of a
millisecond."""

from __future__ import annotations

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, deleting, dig, generation, kind, labels, name, namespace, text, uid
from nlp_operator.cluster import kinds
from nlp_operator.controllers.keys import Key, key_of_object, model_key, pool_key, server_key
from nlp_operator.controllers.placing import facts_of
from nlp_operator.controllers.world import World
from nlp_operator.engine.queue import Priority
from nlp_operator.engine.store import ObjectKey
from nlp_operator.planning.aside import target_of
from nlp_operator.planning.dependencies import as_source
from nlp_operator.planning.pods import is_over

CALM_SECONDS = 1.0
"""Nodes and pools change in bursts, and each change concerns everybody: wait so long for the burst to end."""


def connect(world: World) -> None:
    """Listen to every cache."""
    stores = world.stores
    stores[kinds.MODEL.name].listen(lambda old, new: _on_model(world, old, new))
    stores[kinds.POOL.name].listen(lambda old, new: _on_pool(world, old, new))
    stores[kinds.NODE.name].listen(lambda old, new: _on_node(world, old, new))
    stores[kinds.POD.name].listen(lambda old, new: _on_pod(world, old, new))
    stores[kinds.CLAIM.name].listen(lambda old, new: _on_claim(world, old, new))
    stores[kinds.DEPLOYMENT.name].listen(lambda old, new: _on_deployment(world, old, new))
    stores[kinds.AUTOSCALER.name].listen(lambda old, new: _on_autoscaler(world, old, new))
    for child in kinds.OWNED:
        stores[child.name].listen(lambda old, new: _on_child(world, old, new))


def _on_own_object(world: World, old: Obj | None, new: Obj | None) -> None:
    """A new spec, or a status that somebody else wrote. Labels and annotations say nothing to us: GitOps
    tools write theirs on every sync."""
    some = new or old
    assert some is not None
    if _is_edit(old, new):
        world.queue.add(key_of_object(some), Priority.EDIT)
    elif dig(old, "status") != dig(new, "status"):
        world.queue.add(key_of_object(some), Priority.CHILD)


def _on_model(world: World, old: Obj | None, new: Obj | None) -> None:
    """Also wakes the models that take inputs from it, when anything changed for them."""
    _on_own_object(world, old, new)
    some = new or old
    assert some is not None
    if _is_edit(old, new) or dig(old, "status", "artifact") != dig(new, "status", "artifact"):
        _wake_servers_of(world, key_of_object(some))
    if as_source(old) == as_source(new):
        return
    for dependant in world.stores[kinds.MODEL.name].by("source", f"{namespace(some)}/{name(some)}"):
        world.queue.add(key_of_object(dependant), Priority.CHILD)


def _is_edit(old: Obj | None, new: Obj | None) -> bool:
    """Whether a user did this: a new spec, a deletion, another object of that name. Not the status, which is
    ours."""
    if old is None or new is None:
        return True
    return (generation(old), uid(old), deleting(old)) != (generation(new), uid(new), deleting(new))


def _on_pool(world: World, old: Obj | None, new: Obj | None) -> None:
    _on_own_object(world, old, new)
    if _is_edit(old, new) or (old is not None and new is not None and facts_of(old) != facts_of(new)):
        world.placing.look_soon()  # Which wakes all models when it has planned with it.


def _on_node(world: World, old: Obj | None, new: Obj | None) -> None:
    if _without_version(old) == _without_version(new):
        return
    for pool in world.stores[kinds.POOL.name]:
        world.queue.add(key_of_object(pool), Priority.SIGNAL, after=CALM_SECONDS)


def _without_version(obj: Obj | None) -> Obj | None:
    if obj is None:
        return None
    return {
        **obj,
        "metadata": {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"},
    }


def _on_pod(world: World, old: Obj | None, new: Obj | None) -> None:
    world.agents.see(old, new)
    world.builds.see(old, new)
    _on_child(world, old, new)
    if _held(old) == _held(new):
        return
    for obj in (old, new):
        pool = labels(obj).get(names.LABEL_POOL) if obj is not None else None
        if pool:
            world.queue.add(pool_key(pool), Priority.SIGNAL, after=CALM_SECONDS)


def _held(pod: Obj | None) -> tuple[str, str, str] | None:
    """What the counts of a pool follow from, as far as it changes: where a pod is, and that it is not over. A
    pass over a pool counts all pods, so it is not made for every word in the status of one."""
    if pod is None or is_over(pod):
        return None
    return uid(pod), labels(pod).get(names.LABEL_POOL, ""), text(pod, "spec", "nodeName")


def _on_deployment(world: World, old: Obj | None, new: Obj | None) -> None:
    """Its pods may have been seen before it, and nobody can tell that they are ours until it is seen. The
    devices of one that is gone are free for the next plan."""
    if new is None or deleting(new):
        world.placing.look_soon()
    if old is not None or new is None:
        return
    for pod in world.stores[kinds.POD.name].by("server", f"{namespace(new)}/{name(new)}"):
        world.agents.see(None, pod)


def _on_autoscaler(world: World, old: Obj | None, new: Obj | None) -> None:
    """Somebody else begins to write the replicas of a server, or ends. What was decided before that is not
    carried out after it: what runs counts."""
    before, after = (target_of(one) if one is not None else "" for one in (old, new))
    some = new or old
    assert some is not None
    if before == after and old is not None and new is not None:
        return
    for target in {before, after} - {""}:
        server = world.stores[kinds.DEPLOYMENT.name].get(ObjectKey(namespace(some), target))
        key, shared = _model_of(server), _shared_server_of(server)
        models = [key] if key is not None else []
        if shared is not None:
            models = [model_key(shared.namespace, one) for one in world.members_of(shared)]
            world.queue.add(shared, Priority.CHILD)
        for model in models:
            world.forget_decision(model)
            world.queue.add(model, Priority.CHILD)


def _on_child(world: World, old: Obj | None, new: Obj | None) -> None:
    if old is not None and (new is None or deleting(new)) and world.stranger_leaves(old):
        for model in world.stores[kinds.MODEL.name].by("namespace", namespace(old)):
            world.queue.add(key_of_object(model), Priority.CHILD)
    for obj in (old, new):
        key, server = _model_of(obj), _shared_server_of(obj)
        if key is not None:
            world.queue.add(key, Priority.CHILD)
        if key is not None and obj is not None and kind(obj) == kinds.SERVICE.name:
            _wake_servers_of(world, key)  # They may let the model go once it is led elsewhere.
        if server is not None:
            wake_server(world, server)


def wake_server(world: World, server: Key) -> None:
    """It, and all who are in it: what they say of themselves follows from it."""
    world.queue.add(server, Priority.CHILD)
    for model in world.members_of(server):
        world.queue.add(model_key(server.namespace, model), Priority.CHILD)


def _wake_servers_of(world: World, model: Key) -> None:
    for server in world.servers_of(model):
        world.queue.add(server, Priority.CHILD)


def _shared_server_of(obj: Obj | None) -> Key | None:
    own = labels(obj) if obj is not None else {}
    if obj is None or names.LABEL_MODEL in own or names.LABEL_SERVER not in own:
        return None
    return server_key(namespace(obj), own[names.LABEL_SERVER])


def _model_of(obj: Obj | None) -> Key | None:
    """By the owner reference, else by the label: either may have been edited away."""
    if obj is None:
        return None
    for reference in dig(obj, "metadata", "ownerReferences", default=[]):
        if reference.get("controller") and reference.get("kind") == kinds.MODEL.name:
            return model_key(namespace(obj), str(reference.get("name")))
    model = labels(obj).get(names.LABEL_MODEL)
    return model_key(namespace(obj), model) if model else None


def _on_claim(world: World, old: Obj | None, new: Obj | None) -> None:
    if dig(old, "status", "phase") == dig(new, "status", "phase") and (old is None) == (new is None):
        return
    some = new or old
    assert some is not None
    for model in world.stores[kinds.MODEL.name].by("namespace", namespace(some)):
        world.queue.add(key_of_object(model), Priority.CHILD)
