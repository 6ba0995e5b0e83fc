"""A look before it is time, at models whose newest reading tells of more than what they have can bear.

It adds instances and replicas and takes none: replicas within what the last look over all models allowed one
to grow until the next, instances as far as there is room. So nothing depends on how often it is done: one
wrong reading costs no more than a wrong look would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nlp_operator.planning.scaling import brain
from nlp_operator.planning.scaling.allocator import Fits
from nlp_operator.planning.scaling.brain import Decision, Memory, ModelInput, Settings
from nlp_operator.planning.scaling.instances import BEYOND_CHANCE


def bearable(decision: Decision) -> float:
    """Requests a second that the replicas bear that were decided on; infinite where a look could add none."""
    grows = decision.instances < decision.given.instances.most
    grows = grows or not (decision.refused or decision.total >= decision.bounds.highest)
    if decision.forecast is None or not grows:
        return math.inf
    return decision.total * decision.at_a_time * decision.curve.throughput(decision.given.target_seconds)


def exceeds(rate: float, seconds: float, bearable_rate: float) -> bool:
    """Whether `rate`, seen for so many seconds, is beyond what is bearable, and beyond chance."""
    usual = bearable_rate * seconds
    return rate * seconds > usual + BEYOND_CHANCE * math.sqrt(max(usual, 1.0))


def decide(
    memory: Memory,
    inputs: Sequence[ModelInput],
    ceilings: Mapping[str, int],
    devices: Mapping[str, int],
    now: float,
    settings: Settings,
    fits: Fits | None = None,
) -> tuple[Decision, ...]:
    """As `brain.decide`, for some of the models it remembers; the others keep what they have.

    `devices`: how many each pool has for these. `ceilings`: the highest bound of each at the last look over
    all models.
    """
    known = [_raised(one, ceilings) for one in inputs if one.name in memory.models]
    part = Memory({one.name: memory.models[one.name] for one in known}, memory.looked, memory.servers)
    return brain.decide(part, known, devices, now, settings, fits)


def _raised(given: ModelInput, ceilings: Mapping[str, int]) -> ModelInput:
    """It may only grow, and no running replica is replaced."""
    lowest = max(given.lowest, sum(given.current.values()))
    highest = max(min(given.highest, ceilings.get(given.name, 0)), lowest)
    instances = replace(given.instances, may_go=False)
    there = given.company
    if there is not None:  # of its neighbours not all are looked at
        there = replace(there, least=max(there.least, there.replicas))
    return replace(
        given, lowest=lowest, highest=highest, speeds_known=False, instances=instances, company=there
    )
