"""Small problems for tests. A test mentions only what it is about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from nlp_operator.planning.back_offs import BackOff
from nlp_operator.planning.packing.problem import (
    Memory,
    Model,
    NamespaceLimit,
    Need,
    Plan,
    Pool,
    Problem,
    Settings,
)

EXACT = Settings(margin_millis={"measured": 0, "declared": 0, "estimated": 0})
"""Without margins, so that sizes can be read off."""


def make_pool(name: str = "l4", **fields: Any) -> Pool:
    """1,000 MiB a device, at 1 an hour, ten of them."""
    usual = Pool(name, memory_mebibytes=1000, price_micros=1_000_000, max_devices=10)
    return replace(usual, **fields)


def make_model(name: str = "words", mebibytes: int = 100, load_millis: int = 0, **fields: Any) -> Model:
    """Dedicated, one replica, in namespace team."""
    usual = Model("team", name, 1, Need(Memory(0, mebibytes, "measured"), load_millis))
    return replace(usual, **fields)


def make_shared(name: str = "words", mebibytes: int = 100, load_millis: int = 0, **fields: Any) -> Model:
    return make_model(name, mebibytes, load_millis, shared=True, **fields)


def make_problem(pools: list[Pool], models: list[Model], settings: Settings = EXACT) -> Problem:
    return Problem(tuple(pools), tuple(models), settings)


def places(plan: Plan) -> dict[str, dict[str, int]]:
    """Replicas by model and pool; models without the namespace."""
    return {key.partition("/")[2]: dict(plan.replicas(key)) for key in sorted(plan.of_model)}


def together(plan: Plan) -> list[list[str]]:
    """The models of each shared server."""
    return sorted([key.partition("/")[2] for key in one.models] for one in plan.servers if one.shared)


def waited(*pools: str) -> dict[str, BackOff]:
    """In vain, and not again before five past twelve."""
    return dict.fromkeys(pools, BackOff(datetime(2026, 11, 25, 12, 5, tzinfo=UTC), 300))


# --- anything that can be said ---

POOLS = ("a", "b", "c")
POOL_RULES: tuple[dict[str, Any], ...] = (
    {},
    {},
    {},
    {"spot": True},
    {"backed_off": True},
    {"no_devices": True},
    {"found_mebibytes": 300},
    {"most_on_node": 1},
    {"server_mebibytes": 50},
    {"namespaces": {"team": NamespaceLimit(3)}},
    {"namespaces": {"team": NamespaceLimit(2, 100), "other": NamespaceLimit()}},
    {"namespaces": {"other": NamespaceLimit(highest_priority=150)}},
)
MODEL_RULES: tuple[dict[str, Any], ...] = (
    {},
    {},
    {},
    {},
    {"pool_names": ("a",)},
    {"pool_names": ("b", "gone")},
    {"priority": 0},
    {"priority": 150},
    {"priority": 300},
    {"devices": 2},
    {"spread": 2},
    {"spot_millis": 500},
    {"spot_millis": 0},
    {"shape": "env"},
    {"namespace": "other"},
    {"split": {"a": 1, "b": 2}},
    {"undelivered": waited("a")},
    {"needs": {"a": Need(Memory(30, 170, "declared"), 500)}},
    {"needs": {"b": Need(Memory(0, 60, "estimated"), 20)}},
    {"believed": Need(Memory(0, 100, "measured"), 500), "lasting_millis": 400},
    {"believed": Need(Memory(0, 100, "measured"), 1200), "lasting_millis": 1200},
)


def _pool(name: str) -> st.SearchStrategy[Pool]:
    return st.builds(
        lambda memory, price, most, rule: make_pool(
            name, memory_mebibytes=memory, price_micros=price * 100_000, max_devices=most, **rule
        ),
        st.sampled_from([300, 500, 1000]),
        st.sampled_from([0, 1, 2, 5]),
        st.integers(0, 8),
        st.sampled_from(POOL_RULES),
    )


pools = st.lists(st.sampled_from(POOLS), unique=True, min_size=1).flatmap(
    lambda names: st.tuples(*(_pool(name) for name in sorted(names)))
)


def _model(name: str) -> st.SearchStrategy[Model]:
    def made(size: int, load: int, replicas: int, shared: bool, rule: dict[str, Any]) -> Model:
        fields = {key: value for key, value in rule.items() if not (shared and key == "split")}
        return make_model(name, size, load, replicas=replicas, shared=shared, **fields)

    return st.builds(
        made,
        st.integers(10, 250) | st.integers(250, 900),
        st.sampled_from([0, 0, 100, 300, 1500]),
        st.sampled_from([1, 1, 1, 2, 3, 0]),
        st.sampled_from([True, True, False]),
        st.sampled_from(MODEL_RULES),
    )


def models(prefix: str = "m") -> st.SearchStrategy[tuple[Model, ...]]:
    return st.integers(0, 9).flatmap(
        lambda count: st.tuples(*(_model(f"{prefix}{number}") for number in range(count)))
    )


problems = st.builds(Problem, pools, models())


@st.composite
def changes(draw: st.DrawFn) -> tuple[Problem, Problem]:
    """A problem, and one that came of it: some models changed, went or came; perhaps the pools, too."""
    before = draw(problems)
    return before, _changed(draw, before, "n")


@st.composite
def chains(draw: st.DrawFn) -> tuple[Problem, ...]:
    """Several, each of which came of the one before."""
    found = [draw(problems)]
    for prefix in "nop":
        found.append(_changed(draw, found[-1], prefix))
    return tuple(found)


def _changed(draw: st.DrawFn, before: Problem, prefix: str) -> Problem:
    kept = [one for one in before.models if draw(st.integers(0, 5))]
    changed = draw(st.lists(st.sampled_from(kept), unique_by=lambda one: one.key, max_size=3)) if kept else []
    new = [draw(_model(one.name)) for one in changed]
    keys = {one.key for one in changed}
    stay = [one for one in kept if one.key not in keys and one.name not in {other.name for other in new}]
    return replace(
        before,
        models=(*stay, *new, *draw(models(prefix))),
        pools=draw(pools) if draw(st.integers(0, 2)) == 0 else before.pools,
    )
