"""In what order the pods of a server get more instances: one first, the others when they are at work there.

What harms then harms one pod, while the others serve on. Fewer instances go everywhere at once. What the
pods were told last stands in `server.json`, so nothing is lost when a process ends in between.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from nlp_operator.api.objects import Obj, name, uid
from nlp_operator.planning.agent_report import AgentReport
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


def one_first(
    told: ServedModel | None,
    wanted: int,
    model: str,
    ready: Collection[Obj],
    agents: Mapping[str, AgentReport],
) -> Steps:
    """`ready`: the server's pods that take requests; `told`: what they were told last."""
    if told is None or wanted <= told.instances or len(ready) < 2:
        return Steps(wanted)
    # The one that was begun with, as long as it is there.
    first = min(ready, key=lambda pod: (name(pod) not in told.instances_of, name(pod)))
    report = agents.get(uid(first))
    ours = report.of(model) if report is not None and report.silent_since is None else None
    was_told = told.instances_of.get(name(first), 0) >= wanted
    if was_told and ours is not None and ours.at_work >= wanted:
        return Steps(wanted)
    return Steps(told.instances, {name(first): wanted})
