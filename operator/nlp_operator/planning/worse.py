"""Whether a new version of a model is worse than the one before, by what callers had of both.

It is judged by shares: of requests that failed, and of answers that came late, where late is what the one
before seldom was. A share counts as greater when it is clearly greater and chance is no explanation (Fisher's
exact test), so a handful of requests says little and no request says nothing. Slowness counts only while
about as much is asked as before: more load makes any version slow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from nlp_operator.planning.agent_report import Traffic

FEWEST = 20
"""Requests of either version below which nothing is said."""
FEWEST_BAD = 3
CHANCE = 0.001
"""How seldom chance may give such a difference, or a greater one."""
TIMES_AS_OFTEN = 2.0
MORE_LOAD = 1.5
"""Times the requests a second from which on slowness may have come with the load."""


@dataclass(frozen=True)
class Late:
    share: float
    """Of the answers of the version before, the slowest."""
    times: float
    milliseconds: float
    """How much slower than those is late: so many times, and so many more."""
    words: str


LATES = (
    Late(0.5, 1.5, 10.0, "Half of its answers take"),
    Late(0.05, 2.0, 20.0, "The slowest twentieth of its answers takes"),
)


def together(told: Iterable[Traffic]) -> Traffic | None:
    """Of several pods with one version; `None` of none."""
    found = list(told)
    if not found:
        return None
    latency: dict[float, int] = {}
    for one in found:
        for bound, count in one.latency.items():
            latency[bound] = latency.get(bound, 0) + count
    return Traffic(
        found[0].digest,
        sum(one.seconds for one in found),
        sum(one.requests for one in found),
        sum(one.failed for one in found),
        latency,
    )


def why_worse(new: Traffic | None, before: Traffic | None) -> str:
    """In a sentence; empty when nothing speaks against the new version, or too little is known."""
    if new is None or before is None or min(new.requests, before.requests) < FEWEST:
        return ""
    return _fails_more(new, before) or _slower(new, before)


def _fails_more(new: Traffic, before: Traffic) -> str:
    counts = (
        min(new.failed, new.requests),
        new.requests,
        min(before.failed, before.requests),
        before.requests,
    )
    if new.failed < FEWEST_BAD or not more_often(*counts):
        return ""
    return (
        f"{counts[0]:,} of {counts[1]:,} requests failed ({counts[0] / counts[1]:.1%}); with the version "
        f"before it were {counts[2]:,} of {counts[3]:,} ({counts[2] / counts[3]:.1%})."
    )


def _slower(new: Traffic, before: Traffic) -> str:
    if _rate(new) > MORE_LOAD * _rate(before):
        return ""
    answers, answers_before = sum(new.latency.values()), sum(before.latency.values())
    if min(answers, answers_before) < FEWEST:
        return ""
    for late in LATES:
        usual = _slowest(before, late.share)
        bound = max(late.times * usual, usual + late.milliseconds)
        after, after_before = _longer_than(new, bound), _longer_than(before, bound)
        if after > late.share * answers and more_often(after, answers, after_before, answers_before):
            now = _slowest(new, late.share)
            return (
                f"{late.words} {now:.0f} ms and more, of {answers:,}; with the version before it was "
                f"{usual:.0f} ms, of {answers_before:,}."
            )
    return ""


def _rate(traffic: Traffic) -> float:
    return traffic.requests / max(traffic.seconds, 1.0)


def _slowest(traffic: Traffic, share: float) -> float:
    """The milliseconds that this share of the answers took at least."""
    left = share * sum(traffic.latency.values())
    for bound in sorted(traffic.latency, reverse=True):
        left -= traffic.latency[bound]
        if left < 0:
            return bound
    return 0.0


def _longer_than(traffic: Traffic, milliseconds: float) -> int:
    return sum(count for bound, count in traffic.latency.items() if bound > milliseconds)


def more_often(bad: int, of: int, bad_before: int, of_before: int) -> bool:
    """Whether `bad` of `of` is clearly a greater share than before, and not by chance."""
    if not bad or bad / of < TIMES_AS_OFTEN * bad_before / of_before:
        return False
    return by_chance(bad, of, bad_before, of_before) < CHANCE


def by_chance(bad: int, of: int, bad_before: int, of_before: int) -> float:
    """How likely so many or more of all that is bad would fall to the new version, were both alike. To be
    asked where the new one has more than its part: from there on the terms only fall."""
    all_bad, total = bad + bad_before, of + of_before
    chance = 0.0
    for count in range(bad, min(all_bad, of) + 1):
        ways = _log_choose(all_bad, count) + _log_choose(total - all_bad, of - count) - _log_choose(total, of)
        term = math.exp(ways)
        chance += term
        if term <= chance * 1e-9:
            break
    return min(chance, 1.0)


def _log_choose(of: int, count: int) -> float:
    if not 0 <= count <= of:
        return -math.inf
    return math.lgamma(of + 1) - math.lgamma(count + 1) - math.lgamma(of - count + 1)
