"""Why the operator leaves a model where it runs, though a cheaper pool has room for it: asked of the very
code by which it finds the steps that save money."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cached_property

from nlp_operator.planning.packing.bounds import Refusal, counted
from nlp_operator.planning.packing.problem import Model, Plan, Pool, Problem
from nlp_operator.planning.packing.saving import Saving, next_saving

LOOKS = "NLP_OPERATOR_REPACK_SECONDS"
"""The operator's setting: how often it looks what moving would save; 0: never."""

NEXT_LOOK = f"at its next look for savings (every {LOOKS}; 0: never)"


@dataclass(frozen=True)
class Moment:
    """What moves that only the operator wants depend on, besides the plan."""

    stay: Set[str] = field(default_factory=frozenset)
    """Models, by key, that are not to be moved now."""
    free: Mapping[str, int] | None = None
    """Devices by pool that are there and free; `None`: all that the pools may have."""


@dataclass(frozen=True)
class Unmoved:
    """Of one model."""

    problem: Problem
    plan: Plan
    moment: Moment
    model: Model

    @cached_property
    def step(self) -> Saving | None:
        """The one that would take it from where it is now."""
        return self._step(self.moment)

    def against(self, pool: Pool, begins: str) -> Refusal:
        """`pool`: a cheaper one with room; `begins`: a clause that says so."""
        to = () if self.step is None else tuple(sorted(self.step.plan.replicas(self.model.key)))
        if pool.name in to:
            return Refusal(
                pool.name,
                "WorthMoving",
                f"{begins}; the operator moves the model there {NEXT_LOOK}.",
                f"the operator looked for savings (every {LOOKS}; 0: never)",
            )
        why, change = self._why_not(pool, to)
        return Refusal(pool.name, "NotWorthMoving", f"{begins}; {why}.", change)

    def _why_not(self, pool: Pool, to: tuple[str, ...]) -> tuple[str, str]:
        """Why, and what would change it: a clause each."""
        if to:
            there = f"pool{'' if len(to) == 1 else 's'} {' and '.join(to)}"
            why = f"the operator moves the model to {there} {NEXT_LOOK}"
            return why, f"the model had no place on {there}"
        if not self.moment.stay.isdisjoint(self._with_it):
            who, are = ("all models of its server", "are") if len(self._with_it) > 1 else ("it", "is")
            return (
                f"it is moved to save money only while {who} {are} Ready, not suspended and changing no "
                "version",
                f"{who} were Ready, not suspended and changing no version",
            )
        if pool.spot and not all(self.problem.pool[one].spot for one in self.plan.replicas(self.model.key)):
            return (
                "nothing is moved from where nodes stay to where they can be taken away",
                "it were placed anew",
            )
        free = (self.moment.free or {}).get(pool.name)
        if free is not None and self._would_go_to(pool):
            return (
                f"nothing is moved to where it would wait for devices, and {_only(free)} present and free",
                "more of its devices were present and free",
            )
        return (
            "a server is emptied as a whole or not at all, and what runs is moved only if that saves more "
            "than the moves are worth",
            "moving saved more than it is worth",
        )

    @cached_property
    def _with_it(self) -> frozenset[str]:
        """It, and who shares its server: a step takes all of them."""
        servers = self.plan.of_model.get(self.model.key, ())
        return frozenset(one for server in servers for one in server.models)

    def _would_go_to(self, pool: Pool) -> bool:
        """If all devices were there that the pool may have."""
        step = self._step(replace(self.moment, free=None))
        return step is not None and pool.name in step.plan.replicas(self.model.key)

    def _step(self, moment: Moment) -> Saving | None:
        """That moves these and nobody else."""
        others = self.problem.model.keys() - self._with_it
        return next_saving(self.problem, self.plan, moment.stay, others, moment.free)


def _only(free: int) -> str:
    if not free:
        return "no device of it is"
    return f"only {counted(free, 'device')} of it {'is' if free == 1 else 'are'}"
