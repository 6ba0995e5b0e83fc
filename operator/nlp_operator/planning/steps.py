"""In what order the pods of a server get more instances: one first, the others when they are at work there.

What harms then harms one pod, while the others serve on. Fewer instances go everywhere at once. What the
pods were told last stands in `server.json`, so nothing is lost when a process ends in between.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from nlp_operator.api.objects import Obj, deleting, name, uid
from nlp_operator.planning.agent_report import AgentReport, heard_of
from nlp_operator.planning.pods import alive, is_over, is_ready, was_evicted
from nlp_operator.resources.server import ServedModel


@dataclass(frozen=True)
class Steps:
    others: int
    """Of every pod that is not named."""
    first: Mapping[str, int] = field(default_factory=dict)
    """By the name of a pod."""


def most_told(told: ServedModel) -> int:
    """In any pod."""
    return max(told.instances, *told.instances_of.values(), 0)


def begun_with(told: ServedModel | None, pods: Collection[Obj]) -> Obj | None:
    """The pod that has more first, as long as it may tell whether it bears them: one that was evicted has
    told that it does not. One that is deleted, or ended for another reason (its node was turned off, or is
    gone), tells nothing."""
    if told is None:
        return None
    named = (pod for pod in pods if name(pod) in told.instances_of and not deleting(pod))
    return min((pod for pod in named if not is_over(pod) or was_evicted(pod)), key=name, default=None)


def one_first(
    told: ServedModel | None,
    wanted: int,
    model: str,
    pods: Collection[Obj],
    agents: Mapping[str, AgentReport],
    begins: int,
) -> Steps:
    """`pods`: all of the server; `told`: what they were told last; `begins`: what every pod begins with.

    While the pod that was begun with is there, no other gets what that one has not borne. One that takes no
    requests any more, or was evicted, may have ended by it: it keeps what it was told, until it is well, or
    gone, or fewer are wanted. One that was evicted may stay for ever; it tells nothing of what by now every
    pod begins with.
    """
    if told is None or wanted <= told.instances:
        return Steps(wanted)
    begun, living = begun_with(told, pods), alive(pods)
    if begun is not None and is_over(begun) and told.instances_of[name(begun)] <= begins:
        begun = None
    if begun is not None:
        was_told = told.instances_of[name(begun)]
        if is_over(begun) or not is_ready(begun):
            return Steps(told.instances, {name(begun): min(was_told, wanted)})
        if was_told >= wanted and _at_work(begun, model, agents) >= wanted:
            return Steps(wanted)
        return Steps(told.instances, {name(begun): wanted})
    if len(living) < 2:
        return Steps(wanted)
    first = min(filter(is_ready, living), key=name, default=None)
    return Steps(told.instances, {name(first): wanted} if first is not None else {})


def _at_work(pod: Obj, model: str, agents: Mapping[str, AgentReport]) -> int:
    """0: not known."""
    ours = heard_of(agents.get(uid(pod)), model)
    return ours.at_work if ours is not None else 0
