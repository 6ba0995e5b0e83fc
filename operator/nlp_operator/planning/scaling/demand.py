"""How much load there will be when a replica that is started now can serve.

The forecast is a regression on the recent past and on what happened at this phase of an hour, a day and a
week, with weights that are learned as time passes (recursive least squares) and start as plain smoothing. A
seasonal term thus counts as much as it has shown to be worth. What the forecast cannot know is told by its
own past errors: the result is not a number but a handful of equally likely ones.

All of it is relative (logarithms of ratios), so that it holds for a request an hour and for a thousand a
second.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import NormalDist


@dataclass(frozen=True)
class DemandSettings:
    bin_seconds: float = 10.0
    """Resolution of the recent past."""
    window_seconds: float = 60.0
    """Of one lag."""
    target_seconds: float = 60.0
    """What is forecast: the mean rate over so long, once a replica started now serves."""
    lags: int = 15
    """Windows of the past, one after another, that the regression looks at; the last stands for as many
    again."""
    short_seconds: float = 20.0
    """The newest part of the past, which has a term of its own."""
    periods_seconds: tuple[float, ...] = (900.0, 3600.0, 86400.0, 604800.0)
    """Clocks that people and their machines live by: a quarter, an hour, a day, a week."""
    repeats: int = 3
    """Earlier periods whose change at this phase is averaged."""
    scenarios: int = 9
    """Equally likely rates that a forecast gives."""
    errors_kept: int = 400
    """Past errors of the forecast from which the scenarios are made."""
    learn_seconds: float = 30.0
    """A lesson (and so an error) every so often."""
    first_deviation: float = 0.15
    """Standard deviation (in logarithms) that is assumed before errors were seen."""
    first_weight: int = 20
    """How many past errors that assumption counts for."""
    first_spread: float = 0.3
    """How unsure the first weights are: their variance over that of the forecast's errors."""
    forget: float = 0.9997
    """Of the weights, with each lesson."""
    smoothing: float = 0.5
    """The weights start as exponential smoothing with this factor."""
    burst_deviations: float = 3.0
    """A short window so many standard deviations above the long one is a jump, not chance."""


FINE_SECONDS = 2.5 * 3600
COARSE_BIN_SECONDS = 300.0
COARSE_SECONDS = 15 * 86400
LARGE_ERROR = 0.5
"""Of a forecast, in logarithms: an outlier."""
HALF_REQUEST = 0.5
"""Added to counts so that an idle window has a logarithm."""


class RateHistory:
    """Requests and observed seconds, summed up from the start, in bins of equal length; the oldest are
    dropped.

    What was not observed is not zero: a window is known only when most of it was observed.
    """

    __slots__ = ("_bin", "_counts", "_first", "_kept", "_seconds")

    def __init__(self, bin_seconds: float, kept_seconds: float) -> None:
        self._bin = bin_seconds
        self._kept = int(kept_seconds / bin_seconds) + 1
        self._first = 0
        """Number of the bin at whose end the sums at index 0 hold."""
        self._counts = array("d")
        self._seconds = array("d")

    def add(self, start: float, end: float, count: float) -> None:
        """`count` requests between two moments after everything that was added before."""
        if end <= start:
            return
        if not self._counts:
            self._first = math.floor(start / self._bin)
            self._counts.append(0.0)
            self._seconds.append(0.0)
        rate = count / (end - start)
        at = start
        while at < end:
            number = math.floor(at / self._bin + 1e-9)
            until = min(end, (number + 1) * self._bin)
            self._reach(number + 1)
            index = number + 1 - self._first
            if index < 1:  # before the oldest bin that is kept: too late to tell
                at = until
                continue
            self._counts[index] += rate * (until - at)
            self._seconds[index] += until - at
            at = until
        surplus = len(self._counts) - 2 * self._kept
        if surplus > 0:
            self._drop(len(self._counts) - self._kept)

    def _reach(self, number: int) -> None:
        index = number - self._first
        if index >= len(self._counts) + 2 * self._kept:  # a gap longer than anything that is kept
            self._first = number - 1
            del self._counts[:-1], self._seconds[:-1]
            index = 1
        while len(self._counts) <= index:
            self._counts.append(self._counts[-1])
            self._seconds.append(self._seconds[-1])

    def _drop(self, count: int) -> None:
        del self._counts[:count], self._seconds[:count]
        self._first += count

    def at(self, moment: float) -> tuple[float, float] | None:
        """Requests and observed seconds up to a moment; `None` before the oldest bin that is kept."""
        counts, seconds = self._counts, self._seconds
        place = moment / self._bin - self._first
        if place < -1e-9 or not counts:
            return None
        low = int(place + 1e-9)
        last = len(counts) - 1
        if low >= last:
            return counts[last], seconds[last]
        part = place - low
        if part < 1e-9:
            return counts[low], seconds[low]
        count, second = counts[low], seconds[low]
        return count + part * (counts[low + 1] - count), second + part * (seconds[low + 1] - second)

    def mean(self, start: float, end: float) -> float | None:
        """Requests a second between two moments; `None` when less than half of that was observed."""
        return mean_between(self.at(start), self.at(end), end - start)


def mean_between(
    before: tuple[float, float] | None, after: tuple[float, float] | None, length: float
) -> float | None:
    """Requests a second between two sums that lie `length` seconds apart."""
    if before is None or after is None:
        return None
    seconds = after[1] - before[1]
    if seconds < 0.5 * length:
        return None
    return max(after[0] - before[0], 0.0) / seconds


@dataclass(frozen=True)
class Forecast:
    """Equally likely rates (requests a second, lowest first) from when a replica started now serves."""

    rates: tuple[float, ...]
    expected: float
    """The median."""
    recent: float
    """Measured over the last window."""
    note: str
    """What the forecast rests on: `first`, `trend`, `jump` or `queue` (what waits alone)."""


@dataclass
class _Lesson:
    made: float
    at: float
    """When the answer is known."""
    inputs: list[float]
    base: float
    answer_start: float
    predicted: float


@dataclass
class DemandState:
    """What has to be remembered of one model. Grows to about 100 kB."""

    settings: DemandSettings
    horizon_seconds: float
    """From the decision until a replica serves; the caller may change it as that is measured."""
    fine: RateHistory = field(init=False)
    coarse: RateHistory = field(init=False)
    weights: list[float] = field(init=False)
    spread: list[list[float]] = field(init=False)
    """The inverse of the inputs' weighted covariance; empty before the first lesson, for most models of a
    large cluster have none."""
    errors: deque[float] = field(init=False)
    answers: deque[float] = field(init=False)
    lessons: deque[_Lesson] = field(default_factory=deque)
    quantiles: tuple[float, ...] = ()
    highest: float = -math.inf
    """The largest of `answers`: what was never seen is not forecast."""
    surprised: float = -math.inf
    """When the first answer of the last outlier was known."""
    last_lesson: float = -math.inf
    last_seen: float = -math.inf

    def __post_init__(self) -> None:
        settings = self.settings
        self.fine = RateHistory(settings.bin_seconds, FINE_SECONDS)
        self.coarse = RateHistory(COARSE_BIN_SECONDS, COARSE_SECONDS)
        self.weights = _smoothing_weights(settings)
        self.spread = []
        self.errors = deque(maxlen=settings.errors_kept)
        self.answers = deque(maxlen=settings.errors_kept)


def _smoothing_weights(settings: DemandSettings) -> list[float]:
    """Exponential smoothing, written as weights of the differences of each lag from the newest."""
    a = settings.smoothing
    lags = [a * (1 - a) ** k for k in range(1, settings.lags)]
    return [*lags, 1 - a - sum(lags), 0.0, *(0.0 for _ in settings.periods_seconds)]


def observe(state: DemandState, start: float, end: float, count: float) -> None:
    """`count` requests were offered between two moments. Learns from what is known by now."""
    start = max(start, state.last_seen)
    if end <= start:
        return
    state.fine.add(start, end, count)
    state.coarse.add(start, end, count)
    state.last_seen = end
    _learn(state, end)
    if end - state.last_lesson < state.settings.learn_seconds - 1e-6:
        return
    inputs = _inputs(state, end)
    if inputs is not None:
        base, values = inputs
        begin = end + state.horizon_seconds
        lesson = _Lesson(
            end,
            begin + state.settings.target_seconds,
            values,
            base,
            begin,
            _predict(state, end, base, values)[0],
        )
        state.lessons.append(lesson)
        state.last_lesson = end


def forecast(
    state: DemandState, now: float, backlog: float = 0.0, blind_seconds: float = 0.0
) -> Forecast | None:
    """What will be offered a horizon from now; `None` when nothing was observed, nor waits. Changes nothing.

    `backlog`: requests that wait now beyond what normally does; they must be served, too. `blind_seconds`:
    how long nothing has been observed; the spread grows with it.
    """
    settings = state.settings
    seen = now - max(blind_seconds, 0.0)
    extra = max(backlog, 0.0) / settings.window_seconds
    errors = scenarios(state)
    inputs = _inputs(state, seen)
    if inputs is None:
        mean = _first_mean(state, seen)
        if mean is None and extra > 0:
            return Forecast((extra,), extra, extra, "queue")
        if mean is None:
            return None
        return Forecast(
            tuple(mean * math.exp(error) + extra for error in errors), mean + extra, mean, "first"
        )
    base, values = inputs
    predicted, note = _predict(state, seen, base, values)
    widen = math.sqrt(1.0 + max(blind_seconds, 0.0) / settings.window_seconds)
    rates = tuple(_rate(predicted + error * widen, settings) + extra for error in errors)
    return Forecast(rates, rates[len(rates) // 2], _rate(base, settings), note)


def _predict(state: DemandState, now: float, base: float, values: list[float]) -> tuple[float, str]:
    """The logarithm of what is forecast, and what that rests on."""
    predicted = base + _dot(state.weights, values)
    if predicted > base and state.answers:
        predicted = max(min(predicted, state.highest), base)
    jump = _jump(state, now)
    if jump is not None and _log(jump, state.settings) > predicted:
        return _log(jump, state.settings), "jump"
    return predicted, "trend"


def scenarios(state: DemandState) -> tuple[float, ...]:
    """Errors in logarithms, equally likely, lowest first: what was seen, and before that the assumption."""
    if state.quantiles:
        return state.quantiles
    settings = state.settings
    pool = sorted(state.errors)
    trust = len(pool) / (len(pool) + settings.first_weight)
    result = []
    for k in range(settings.scenarios):
        share = (k + 0.5) / settings.scenarios
        assumed = settings.first_deviation * _normal_quantile(share)
        empirical = _quantile(pool, share) if pool else 0.0
        result.append(trust * empirical + (1 - trust) * assumed)
    state.quantiles = tuple(result)
    return state.quantiles


def _first_mean(state: DemandState, now: float) -> float | None:
    """Before a whole window was observed: the mean of what there is."""
    settings = state.settings
    for seconds in (settings.short_seconds, settings.bin_seconds):
        mean = state.fine.mean(now - seconds, now)
        if mean is not None:
            return mean
    return None


def _log(rate: float, settings: DemandSettings) -> float:
    return math.log(rate + HALF_REQUEST / settings.window_seconds)


def _rate(logarithm: float, settings: DemandSettings) -> float:
    return max(math.exp(min(logarithm, 50.0)) - HALF_REQUEST / settings.window_seconds, 0.0)


def _inputs(state: DemandState, now: float) -> tuple[float, list[float]] | None:
    """The newest window, and how the past and the seasons differ from it; `None` before there is one."""
    newest = state.fine.mean(now - state.settings.window_seconds, now)
    if newest is None:
        return None
    base = _log(newest, state.settings)
    seasons = [_seasonal(state, now, period) for period in state.settings.periods_seconds]
    return base, _lags(state, now, base) + seasons


def _lags(state: DemandState, now: float, base: float) -> list[float]:
    """How the windows before, and the shortest and newest one, differ from the newest window."""
    settings = state.settings
    window = settings.window_seconds
    edges = [state.fine.at(now - k * window) for k in range(1, settings.lags + 1)]
    values = []
    last = base
    for k in range(1, settings.lags):
        lag = mean_between(edges[k], edges[k - 1], window)
        last = _log(lag, settings) if lag is not None else last
        values.append(last - base)
    # The last one stands for as many windows again.
    oldest = state.fine.at(now - 2 * settings.lags * window)
    lag = mean_between(oldest, edges[-1], settings.lags * window)
    last = _log(lag, settings) if lag is not None else last
    values.append(last - base)
    short = state.fine.mean(now - settings.short_seconds, now)
    values.append(_log(short, settings) - base if short is not None else 0.0)
    return values


def _seasonal(state: DemandState, now: float, period: float) -> float:
    """How the rate changed from this phase to the one that is forecast, in earlier periods, on average."""
    settings = state.settings
    window = settings.target_seconds
    history, width = state.fine, window
    if period > FINE_SECONDS / 2:
        history, width = state.coarse, COARSE_BIN_SECONDS
    total = count = 0.0
    for k in range(1, settings.repeats + 1):
        then = now - k * period
        start = then + state.horizon_seconds
        change_to = history.mean(start + (window - width) / 2, start + (window + width) / 2)
        change_from = history.mean(then - width, then)
        if change_to is None or change_from is None:
            break
        total += _log(change_to, settings) - _log(change_from, settings)
        count += 1
    # One earlier period is hearsay: what is averaged is drawn towards no change.
    return total / (count + 1.0) if count else 0.0


def _jump(state: DemandState, now: float) -> float | None:
    """The rate now, when it is far above what was before, further than the forecast errs; `None` when not.

    The newest seconds are compared with the window before them, and the newest window with the minutes before
    it: the regression knows neither, for it has learned from days without jumps.
    """
    settings = state.settings
    window = settings.window_seconds
    unrest = max(scenarios(state)[-1], settings.first_deviation) / 1.6
    found = None
    for seconds, older in (
        (window, 5 * window),
        (settings.short_seconds, window),
        (settings.bin_seconds, window),
    ):
        newest = state.fine.mean(now - seconds, now)
        before = state.fine.mean(now - seconds - older, now - seconds)
        if newest is None or before is None:
            continue
        usual = before * seconds
        deviation = math.sqrt(usual + (unrest * usual) ** 2 + 1.0)
        if newest * seconds > usual + settings.burst_deviations * deviation:
            found = max(found or 0.0, newest)
    return found


def _learn(state: DemandState, now: float) -> None:
    """Answers that are known by now teach the weights and are kept as errors."""
    settings = state.settings
    while state.lessons and state.lessons[0].at <= now + 1e-6:
        lesson = state.lessons.popleft()
        answer = state.fine.mean(lesson.answer_start, lesson.at)
        if answer is None:
            continue
        truth = _log(answer, settings)
        _remember(state, lesson, truth - lesson.predicted)
        state.answers.append(truth)
        state.highest = max(state.answers)
        state.quantiles = ()
        _update(state, lesson.inputs, truth - lesson.base)


def _remember(state: DemandState, lesson: _Lesson, error: float) -> None:
    """Keep an error of the forecast. All the lessons that one jump made wrong are one surprise: the first of
    them counts, or a young forecast would expect the next jump at once."""
    if abs(error) > LARGE_ERROR:
        if lesson.made < state.surprised:
            return
        state.surprised = lesson.at
    state.errors.append(min(max(error, -2.0), 2.0))


def _update(state: DemandState, inputs: list[float], answer: float) -> None:
    """One step of recursive least squares with forgetting; an outlier teaches no more than a large error."""
    settings = state.settings
    if not state.spread:
        size, first = len(state.weights), settings.first_spread
        state.spread = [[(first if i == j else 0.0) for j in range(size)] for i in range(size)]
    moved = [_dot(row, inputs) for row in state.spread]
    # Forgetting must not make the weights less sure than they were at the start.
    widest = max(row[i] for i, row in enumerate(state.spread))
    forget = settings.forget if widest < settings.first_spread else 1.0
    scale = forget + _dot(inputs, moved)
    error = answer - _dot(state.weights, inputs)
    error = min(max(error, -LARGE_ERROR), LARGE_ERROR)
    gain = [value / scale for value in moved]
    state.weights = [weight + g * error for weight, g in zip(state.weights, gain, strict=True)]
    state.spread = [
        [(old - g * m) / forget for old, m in zip(row, moved, strict=True)]
        for row, g in zip(state.spread, gain, strict=True)
    ]


def _dot(left: list[float], right: list[float]) -> float:
    return sum(map(float.__mul__, left, right))


def _quantile(ordered: list[float], share: float) -> float:
    place = share * len(ordered) - 0.5
    low = min(max(math.floor(place), 0), len(ordered) - 1)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + min(max(place - low, 0.0), 1.0) * (ordered[high] - ordered[low])


@lru_cache(maxsize=256)
def _normal_quantile(share: float) -> float:
    return NormalDist().inv_cdf(share)


def recall(
    state: DemandState, start: float, step_seconds: float, counts: Sequence[float], learn: bool = True
) -> None:
    """What was offered before the first look, as a time-series database remembers it: one count a step,
    oldest first.

    A count that is NaN was not observed. What is not to be learned from is kept for the seasons alone, which
    look at it later: steps that are longer than a window would teach that the load never moves within one.
    """
    for number, count in enumerate(counts):
        begin, end = start + number * step_seconds, start + (number + 1) * step_seconds
        if math.isnan(count):
            continue
        if learn:
            observe(state, begin, end, count)
        elif begin >= state.last_seen:
            state.coarse.add(begin, end, count)
            state.last_seen = end


def go_on(state: DemandState, lived: DemandState) -> None:
    """What another state of the same model observed after all that this one knows."""
    width = state.settings.bin_seconds
    begin = max(state.last_seen, lived.last_seen - FINE_SECONDS)
    while begin < lived.last_seen:
        end = min(begin + width, lived.last_seen)
        mean = lived.fine.mean(begin, end)
        if mean is not None:
            observe(state, begin, end, mean * (end - begin))
        begin = end
