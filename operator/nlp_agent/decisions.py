"""Every decision of the agent, pure: what is wanted and what is known, to the next thing to do.

One action at a time, because loads compete for memory and a second load would blur the measurement of the
first. The rules, in order:

1. A model that is no longer wanted leaves.
2. A sick backend is reloaded; one that keeps dying is given up, alone.
   While Triton changes its instances no load of it can be begun: then Triton is started anew, with what was
   proven, unless others are in it.
3. A model that does not serve is brought in. What served last comes back first: after a crash of Triton
   the proven version is the one to trust, the update follows once it serves.
4. A model that serves another spec than the wanted one is updated beside it.

A refused spec is left alone until its back-off has passed or `server.json` asks for another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from nlp_agent.errors import UNDECIDED, Reason
from nlp_agent.server_config import Spec, only_instances
from nlp_agent.settings import Timing


@dataclass(frozen=True)
class Refusal:
    spec: Spec
    reason: Reason
    message: str
    attempts: int
    retry_at: float


@dataclass(frozen=True)
class Model:
    """What is known of one model. Moments are seconds of one monotonic clock."""

    name: str
    live: Spec | None = None
    """Loaded under its own name and proven: this takes requests."""
    good: Spec | None = None
    """Proven last. It survives the end of Triton and of the container, `live` does not."""
    sick: str = ""
    """Why the live backend must be reloaded; empty when it is well."""
    deaths: tuple[float, ...] = ()
    refusal: Refusal | None = None
    examples: int = 0
    load_seconds: float = 0.0
    memory_bytes: int = 0
    late: Spec | None = None
    """Another number of instances that Triton was told: the load goes on, and nothing is proven of it."""
    late_over: bool = False
    """It has ended, well or not."""
    late_until: float = 0.0
    """So long a new version waits for it."""
    late_seen: int = 0
    """Of these instances, as many as were seen to work meanwhile."""

    @property
    def at_work(self) -> int:
        """Instances: those that were proven, and of a change that goes on those that were seen to work."""
        if self.live is None:
            return 0
        seen = min(self.late_seen, self.late.instances) if self.late is not None else 0
        return max(self.live.instances, seen)


@dataclass(frozen=True)
class Restart:
    """End Triton, for it is held by a change of instances: what was proven is brought back."""

    name: str
    late: Spec
    why: str


@dataclass(frozen=True)
class Remove:
    name: str


@dataclass(frozen=True)
class Heal:
    """Reload the backend in place, prove it again."""

    name: str
    spec: Spec
    why: str


@dataclass(frozen=True)
class GiveUp:
    """Unload a model whose backend keeps dying."""

    name: str
    spec: Spec
    message: str


@dataclass(frozen=True)
class Bring:
    """Fetch, load and prove; `beside` means that another version serves meanwhile and must go on serving."""

    name: str
    spec: Spec
    beside: Spec | None


@dataclass(frozen=True)
class Rest:
    """Nothing to do before `until` (None: before something changes)."""

    until: float | None


Action = Remove | Heal | GiveUp | Restart | Bring | Rest


def next_action(
    wanted: Mapping[str, Spec], models: Mapping[str, Model], now: float, timing: Timing
) -> Action:
    for name in models:
        if name not in wanted:
            return Remove(name)
    known = {name: models.get(name, Model(name)) for name in wanted}
    for name, model in known.items():
        if model.live is not None and model.sick:
            if len(recent_deaths(model, now, timing)) >= timing.deaths_limit:
                return GiveUp(name, model.live, give_up_message(model, now, timing))
            if _held_by_change(model) and model.late is not None and len(wanted) == 1:
                return Restart(name, model.late, model.sick)
            return Heal(name, model.live, model.sick)
    for name, model in known.items():
        if model.live is None:
            if model.good is not None and model.good != wanted[name]:
                return Bring(name, model.good, beside=None)
            if may_try(model, wanted[name], now):
                return Bring(name, wanted[name], beside=None)
    for name, model in known.items():
        if model.live is None:
            continue
        if model.late is not None and model.late_over:
            return Bring(name, model.late, beside=model.live)
        if model.live == wanted[name] or not may_try(model, wanted[name], now):
            continue
        if model.late is None:
            return Bring(name, wanted[name], beside=model.live)
        if _is_due(model, wanted[name]) and now >= model.late_until and len(wanted) == 1:
            return Restart(name, model.late, "A new version waits for it.")
    due = [one.late_until for name, one in known.items() if _is_due(one, wanted[name])]
    moments = [one for one in due if one > now]
    return Rest(min([*moments, *_retries(known.values(), now)], default=None))


def in_a_pod_that_ends(models: Mapping[str, Model]) -> tuple[dict[str, Spec], dict[str, Model]]:
    """What is wanted while the last requests are answered, of which models: what serves, or served until its
    Triton ended, is kept and brought back. Nothing else is begun."""
    kept, wanted = {}, {}
    for name, model in models.items():
        spec = model.live or (model.good if returns(model) else None)
        if spec is not None:
            wanted[name] = spec
            kept[name] = replace(model, late=None, late_over=False) if model.late_over else model
    return wanted, kept


def _held_by_change(model: Model) -> bool:
    return model.late is not None and not model.late_over


def _is_due(model: Model, wanted: Spec) -> bool:
    """Whether a new version waits for a change of instances."""
    return _held_by_change(model) and model.live is not None and not only_instances(wanted, model.live)


def shrinks(model: Model) -> bool:
    """Whether processes of it end because they were told to."""
    return model.late is not None and model.live is not None and model.late.instances < model.live.instances


def is_late(model: Model, spec: Spec, until: float) -> Model:
    return replace(model, late=spec, late_over=False, late_until=until, late_seen=0)


def to_watch(model: Model) -> bool:
    """Whether Triton changes the instances of a model that answers whole, and nobody knows what became of
    it. Of one that streams an instance may have several executions under way."""
    return _held_by_change(model) and model.late is not None and not model.late.streams


def seen_at_work(model: Model, count: int) -> Model:
    return replace(model, late_seen=max(model.late_seen, count))


def put_off(action: Action, wanted: Mapping[str, Spec], models: Mapping[str, Model]) -> bool:
    """Whether the download of a `Bring` has to wait: a backend is sick, or nobody wants the version any
    more."""
    if not isinstance(action, Bring):
        return False
    known = models.get(action.name, Model(action.name))
    given_up = action.spec not in (wanted.get(action.name), known.good)
    return given_up or any(model.sick for model in models.values())


def may_try(model: Model, spec: Spec, now: float) -> bool:
    return model.refusal is None or model.refusal.spec != spec or model.refusal.retry_at <= now


def _retries(models: Iterable[Model], now: float) -> list[float]:
    """To come: one that has passed is of what nobody wants any more."""
    return [one.refusal.retry_at for one in models if one.refusal is not None and one.refusal.retry_at > now]


def recent_deaths(model: Model, now: float, timing: Timing) -> tuple[float, ...]:
    return tuple(moment for moment in model.deaths if now - moment <= timing.deaths_window)


def give_up_message(model: Model, now: float, timing: Timing) -> str:
    count = len(recent_deaths(model, now, timing))
    return (
        f"The backend failed {count} times within {timing.deaths_window:g} s, at last: {model.sick} "
        f"It is unloaded and tried again later; a changed model is tried at once."
    )


def fell_ill(model: Model, why: str, now: float, timing: Timing) -> Model:
    return replace(model, sick=why, deaths=(*recent_deaths(model, now, timing), now))


def proven(model: Model, spec: Spec, examples: int, load_seconds: float, memory_bytes: int) -> Model:
    """The model after a proof; a refusal of another spec stays, so that its reason stays in the report,
    unless it was of another number of instances of the version that was replaced."""
    kept = model.refusal if model.refusal is not None and model.refusal.spec != spec else None
    if kept is not None and model.good is not None and model.good.digest == kept.spec.digest != spec.digest:
        kept = None
    return replace(
        model,
        live=spec,
        good=spec,
        sick="",
        refusal=kept,
        examples=examples,
        load_seconds=load_seconds,
        memory_bytes=memory_bytes,
        late=None,
        late_over=False,
    )


def refused(
    model: Model,
    spec: Spec,
    reason: Reason,
    message: str,
    live: Spec | None,
    now: float,
    timing: Timing,
    *,
    harmful: bool = False,
) -> Model:
    """The model after a refusal of `spec`; `live` is what still serves, if anything does. `harmful`: its
    neighbours were ended with it, so it is not tried again soon."""
    again = model.refusal is not None and model.refusal.spec == spec
    attempts = model.refusal.attempts + 1 if again and model.refusal is not None else 1
    if reason == "BackendDied":
        # It was proven in between, so attempts start anew each time; the deaths remember how long this goes
        # on.
        attempts = max(attempts, len(recent_deaths(model, now, timing)) - timing.deaths_limit + 1)
    longest = timing.longest_wait if reason in UNDECIDED else timing.longest_retry
    delay = longest if harmful else min(timing.first_retry * 2.0 ** min(attempts - 1, 30), longest)
    # A version that was proven once and is refused now is no longer the one to go back to.
    good = model.good if live is not None or model.good != spec else None
    return replace(
        model,
        live=live,
        good=good,
        sick="",
        late=None,
        late_over=False,
        refusal=Refusal(spec, reason, message, attempts, now + delay),
    )


def triton_ended(model: Model) -> Model:
    """Nothing is loaded any more; what was proven will be brought back."""
    return replace(model, live=None, sick="", memory_bytes=0, late=None, late_over=False)


def returns(model: Model) -> bool:
    """Whether it was proven and will be brought back by itself: Triton, or the container, ended."""
    if model.live is not None or model.good is None:
        return False
    if model.refusal is None:
        return True
    # Another number of its instances was refused, which says nothing of it.
    return model.refusal.spec != model.good and only_instances(model.refusal.spec, model.good)


def settled(wanted: Iterable[str], models: Mapping[str, Model]) -> bool:
    """Every model is proven or refused: the set at start is decided."""
    return all((model := models.get(name)) is not None and _decided(model) for name in wanted)


def _decided(model: Model) -> bool:
    refused = model.refusal is not None and model.refusal.reason not in UNDECIDED
    return model.live is not None or refused
