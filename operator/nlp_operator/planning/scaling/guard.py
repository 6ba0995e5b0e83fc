"""What may change now: the bounds within which the allocator decides for one model.

Up is quick, down is slow. What is unknown holds still; no missing number ever makes a model smaller. Every
bound that is narrower than the spec's carries its reason.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from nlp_operator.planning.scaling.signals import Unknown, Window

FEWEST_ANSWERS = 10
"""Of fewer no share of late ones is told."""
CALM_HALF_LIFE_SECONDS = 60.0
"""What is left of a backlog is late for some looks after the load is borne again."""

RECENT_SECONDS = 3600.0
"""A model that is blind for long goes back to the most it had in so long."""


@dataclass(frozen=True)
class GuardSettings:
    settle_seconds: float = 120.0
    """After the start of the operator, or a loss of signals, nothing shrinks for so long."""
    hold_seconds: float = 300.0
    """A replica is given back for its price when it was not worth it for so long: starting another costs
    more. It goes at once to a model that needs it more."""
    rest_seconds: float = 45.0
    """After growing, a model keeps what it has for so long: what was started is to serve first."""
    step_share: float = 0.5
    """A model shrinks by at most this share of its replicas at once, and always by one at least."""
    rise_replicas: int = 4
    rise_share: float = 1.0
    """A model grows by at most so many replicas, or this share of them, whichever is more, at once."""
    blind_seconds: float = 600.0
    """After so long without signals the model goes to the most it had in the last hour, if that is more."""
    blind_rises: int = 2
    """Without signals, requests that wait and replicas that are ready no more make a model larger so often,
    and not again before signals are back: then it is known whether that helped."""
    lost_seconds: float = 60.0
    """A replica that was ready and is not for so long is lost: one that is evicted is replaced by then."""
    trusted_seconds: float = 60.0
    """For so long after the last observation of the load a forecast may still make a model larger."""
    useless_share: float = 0.5
    """More replicas are of no use when so many requests are late at less than half the load they can bear."""
    calm_seconds: float = 120.0
    """Nor when it should be in time by its load and its speed, and is not for so long."""
    late_margin: float = 0.1
    """That is, so much more of its requests are late than its target allows."""
    failing_seconds: float = 600.0
    """Nothing shrinks while requests fail without an overload, for so long at most; and again once
    none has failed for as long."""
    turns_seconds: float = 1800.0
    """Half-life of what is remembered of changes of direction."""


@dataclass
class GuardState:
    """What has to be remembered of one model."""

    started: float
    """When the operator first saw it, since its own start."""
    seen: float = -math.inf
    """When signals were last valid."""
    whole: float = -math.inf
    """When all of its ready pods were last seen."""
    again: float = -math.inf
    """Since when they are, after they were not for a while."""
    grew: float = -math.inf
    grew_last: bool | None = None
    """The last change of its replicas was upwards; None: there was none."""
    turns: float = 0.0
    """How often the direction of its replicas changed, as remembered at the last time."""
    turned: float = -math.inf
    """When that was."""
    before: int = -1
    """Replicas at the last decision; -1: there was none."""
    worthy: deque[tuple[float, float]] = field(default_factory=deque)
    """When how much, in reference replicas, was worth its price."""
    useless: str = ""
    """Why more replicas did not help when signals were last valid; empty: they may have."""
    useless_since: float = math.inf
    calm_since: float = math.inf
    """Since when it should be in time, and nothing is under way that could mend it."""
    calm_late: float = 0.0
    calm_answered: float = 0.0
    """Requests since then; what is long ago counts less and less."""
    failing_since: float = math.inf
    """When the first of the requests failed that fail now, or did lately."""
    failed_at: float = -math.inf
    """When one failed last."""
    whole_with: int = 0
    """Replicas that were all ready, as of the last time."""
    lost_since: float = math.inf
    lost: int = 0
    """Of those, how many are not ready any more, for long enough."""
    blind_rises: int = 0
    """How often it grew since signals were last valid, beyond what the last of them asked for."""
    recent: deque[tuple[float, float]] = field(default_factory=deque)
    """When how many replicas it had, while signals were valid."""

    @property
    def recent_most(self) -> int:
        """The most in the last hour of valid signals; 0: there were none."""
        return int(self.recent[0][1]) if self.recent else 0


@dataclass(frozen=True)
class Seen:
    """What the guard looks at, of one model."""

    lowest: int
    highest: int
    """The spec's bounds."""
    current: int
    ready: int
    starting: int
    pending: int
    rolling_out: bool
    signal: Window | Unknown
    load_share: float
    """Load divided by what the ready replicas bear; NaN when it is not known."""
    blind_seconds: float = math.inf
    """For how long nothing was observed of the load; the past that was taught counts as observed."""
    succeeding: bool = False
    """A replica is to go once its successors in another pool serve."""
    keeps: bool = False
    """By its load and its speed, its ready replicas are in time."""
    quantile: float = 0.95
    """Of the latency target."""
    waits: bool = False
    """More requests wait in its pods than are served in a moment."""


@dataclass(frozen=True)
class Clip:
    """One bound that is narrower than the spec's."""

    by: str
    bound: str
    """`lowest` or `highest`."""
    value: int
    why: str


@dataclass(frozen=True)
class Bounds:
    lowest: int
    highest: int
    clips: tuple[Clip, ...]
    useless: str = ""
    """Why more replicas do not help, whether or not it may have more; empty: they may."""


def bounds(state: GuardState, seen: Seen, now: float, settings: GuardSettings) -> Bounds:
    """How few and how many replicas the model may have after this decision. Updates the state."""
    current = max(seen.current, 0)
    lowest, highest = max(seen.lowest, 0), max(seen.highest, seen.lowest, 0)
    _remember(state, seen, now, current, settings)
    useless = _useless(state, seen, now, settings)
    caps = _caps(state, seen, settings, current)
    if useless:
        caps.append(Clip("useless", "highest", current, useless))
    clips: list[Clip] = []
    for clip in (*_keeps(state, seen, now, settings, current), *caps):
        if clip.bound == "lowest" and min(clip.value, highest) > lowest:
            lowest = min(clip.value, highest)
            clips.append(clip)
        elif clip.bound == "highest" and max(clip.value, lowest) < highest:
            highest = max(clip.value, lowest)
            clips.append(clip)
    return Bounds(lowest, highest, tuple(clips), useless)


def turns(state: GuardState, now: float, settings: GuardSettings) -> float:
    """How often the direction of its replicas changed; what is long ago counts less and less."""
    if not state.turns:
        return 0.0
    return float(state.turns * 0.5 ** (max(now - state.turned, 0.0) / settings.turns_seconds))


def is_known(state: GuardState, now: float, settings: GuardSettings) -> bool:
    """Whether all of its load was seen now, or a moment ago. What some of its pods say is a part of it."""
    return now - max(state.whole, state.started) <= settings.trusted_seconds


def keep(state: GuardState, worth: float, now: float, settings: GuardSettings, *, known: bool) -> float:
    """The most that was worth its price at any look of the last while. Updates the state."""
    return most_lately(state.worthy, worth, now, settings.hold_seconds, known=known)


def most_lately(
    seen: deque[tuple[float, float]], value: float, now: float, seconds: float, *, known: bool
) -> float:
    """The most of what came in the last so many seconds, this value included. A time in which that is not
    `known` is none in which less came. Updates `seen`: when how much came, as far as it can yet be the
    most."""
    if not known and seen:
        value = max(value, seen[0][1])
    while seen and seen[-1][1] <= value:
        seen.pop()  # what is no more than the newest will never be the most again
    seen.append((now, value))
    while seen[0][0] < now - seconds:
        seen.popleft()
    return seen[0][1]


def _remember(state: GuardState, seen: Seen, now: float, current: int, settings: GuardSettings) -> None:
    if state.before >= 0 and current > state.before:
        state.grew = now
    if state.before >= 0 and current != state.before:
        grew = current > state.before
        if state.grew_last not in (None, grew):
            state.turns, state.turned = turns(state, now, settings) + 1.0, now
        state.grew_last = grew
    blind = isinstance(seen.signal, Unknown) and seen.blind_seconds > settings.trusted_seconds
    state.blind_rises = state.blind_rises + (0 <= state.before < current) if blind else 0
    state.before = current
    _note_lost(state, seen, now, current, settings)
    if isinstance(seen.signal, Window):
        state.seen = now
        if seen.signal.complete:
            if not is_known(state, now, settings):
                state.again = now
            state.whole = now
        most_lately(state.recent, current, now, RECENT_SECONDS, known=True)


def _note_lost(state: GuardState, seen: Seen, now: float, current: int, settings: GuardSettings) -> None:
    if seen.ready >= current:
        state.whole_with = current
    state.whole_with = min(state.whole_with, current)
    lost = max(state.whole_with - seen.ready - seen.pending, 0)
    # Where none is left it is the model that is broken, and more of it would be, too.
    counts = lost > 0 and seen.ready > 0 and not seen.rolling_out
    state.lost_since = min(state.lost_since, now) if counts else math.inf
    state.lost = lost if now - state.lost_since >= settings.lost_seconds else 0


def _keeps(state: GuardState, seen: Seen, now: float, settings: GuardSettings, current: int) -> list[Clip]:
    """Why the model may not shrink, or not by so much."""
    clips = []
    if isinstance(seen.signal, Unknown):
        blind = now - max(state.seen, state.started)
        clips.append(
            Clip("unknown", "lowest", current, f"{seen.signal.message} What is unknown holds still.")
        )
        if blind > settings.blind_seconds and state.recent_most > current:
            why = f"No signals for {blind:.0f} s: back to the most replicas of the last hour that had some."
            clips.append(Clip("blind", "lowest", state.recent_most, why))
        return clips
    if not seen.signal.complete:
        clips.append(Clip("partial", "lowest", current, "Not every ready pod was seen."))
    if seen.rolling_out:
        clips.append(Clip("rollout", "lowest", current, "A rollout is under way."))
    if _fails(seen.signal, seen.load_share) and _not_for_long(state, now, settings):
        why = (
            f"Requests fail though there is no overload: for {settings.failing_seconds / 60:.0f} min it keeps"
        )
        clips.append(Clip("failing", "lowest", current, f"{why} what it has."))
    if now - state.started < settings.settle_seconds:
        clips.append(Clip("settling", "lowest", current, "The operator has just started."))
    if now - state.again < settings.settle_seconds:
        why = f"Its load is known again for {now - state.again:.0f} s only."
        clips.append(Clip("recovering", "lowest", current, why))
    if now - state.grew < settings.rest_seconds:
        clips.append(Clip("rest", "lowest", current, f"It grew {now - state.grew:.0f} s ago."))
    if seen.succeeding and (seen.starting > 0 or seen.pending > 0 or seen.ready < current):
        clips.append(Clip("succession", "lowest", current, "What replaces one of them does not serve yet."))
    step = max(1, int(current * settings.step_share))
    clips.append(Clip("step", "lowest", current - step, f"It shrinks by at most {step} at once."))
    return clips


def _fails(signal: Window, load_share: float) -> bool:
    return signal.failed > 0.01 * max(signal.offered, 1.0) and load_share < 0.9


def _not_for_long(state: GuardState, now: float, settings: GuardSettings) -> bool:
    """Of a model whose requests fail now. Updates the state."""
    if now - state.failed_at > settings.failing_seconds:
        state.failing_since = now
    state.failed_at = now
    return now - state.failing_since < settings.failing_seconds


def _caps(state: GuardState, seen: Seen, settings: GuardSettings, current: int) -> list[Clip]:
    """Why the model may not grow, or not by so much."""
    clips = []
    if isinstance(seen.signal, Unknown) and seen.blind_seconds > settings.trusted_seconds:
        # What else tells that it lacks some may make it larger, a few times.
        if not (seen.waits or state.lost) or state.blind_rises >= settings.blind_rises:
            return [Clip("unknown", "highest", max(current, state.recent_most), seen.signal.message)]
        if seen.starting > state.lost:
            clips.append(Clip("starting", "highest", current, "What was added last does not serve yet."))
    if seen.pending > 0:
        wait = "waits" if seen.pending == 1 else "wait"
        why = f"{seen.pending} of its pods still {wait} for a device, or for leave to be made (a quota)."
        clips.append(Clip("pending", "highest", current, why))
    step = max(settings.rise_replicas, math.ceil(current * settings.rise_share))
    clips.append(Clip("rise", "highest", current + step, f"It grows by at most {step} at once."))
    return clips


def _useless(state: GuardState, seen: Seen, now: float, settings: GuardSettings) -> str:
    """Why more replicas do not help, or nothing. Updates the state."""
    if isinstance(seen.signal, Window) and not seen.rolling_out:
        state.useless = _useless_by(state, seen, seen.signal, now, settings)
    elif seen.rolling_out or (isinstance(seen.signal, Unknown) and not seen.signal.repeated):
        # Of two versions at once, one of which has just begun, it is not known who is late and why.
        state.useless_since = state.calm_since = math.inf
        state.useless = ""
    return state.useless


def _useless_by(state: GuardState, seen: Seen, signal: Window, now: float, settings: GuardSettings) -> str:
    late = signal.late / signal.answered if signal.answered >= FEWEST_ANSWERS else 0.0
    helpless = late > settings.useless_share and seen.load_share < 0.5 and seen.starting == 0
    state.useless_since = min(state.useless_since, now) if helpless else math.inf
    calm = seen.keeps and seen.load_share < 0.5 and seen.starting == 0 and seen.pending == 0
    calmly = _calmly_late(state, signal, calm, now, settings)
    if now - state.useless_since < 60.0:
        late = calmly
        if late <= 1.0 - seen.quantile + settings.late_margin:
            return ""
    return f"{late:.0%} are late at {seen.load_share:.0%} of the load that its replicas can bear."


def _calmly_late(state: GuardState, signal: Window, calm: bool, now: float, settings: GuardSettings) -> float:
    """The share of late requests since it should be in time; 0 until that is known. Updates the state."""
    if not calm:
        state.calm_since = math.inf
        return 0.0
    if state.calm_since == math.inf:
        state.calm_since, state.calm_late, state.calm_answered = now, 0.0, 0.0
    fade = 0.5 ** (signal.seconds / CALM_HALF_LIFE_SECONDS)
    state.calm_late = state.calm_late * fade + signal.late
    state.calm_answered = state.calm_answered * fade + signal.answered
    known = now - state.calm_since >= settings.calm_seconds and state.calm_answered >= FEWEST_ANSWERS
    return state.calm_late / state.calm_answered if known else 0.0
