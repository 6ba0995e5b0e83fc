"""What agents saw a model take: whose it is, and what it was measured of.

A model is believed what its own pods say of the artifact in its status, and nothing else: a pod of another
model may say what it likes. What was measured of one batch size, or of one number of copies in a slot, says
something of another, but is not the measure of it. So both stay with the number, and whoever plans asks for
what is wanted now. Nothing here is only remembered: it is read from the pods, and of what does not run any
more from the model's Service (`outgrown.py`), so a process that starts anew decides likewise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nlp_operator.api.objects import Obj, name
from nlp_operator.api.spec import ModelSpec, PoolSpec, parse_model, parse_pool
from nlp_operator.errors import SpecInvalid
from nlp_operator.planning.agent_report import MEBIBYTE, ModelReport, as_begun, rounded_up
from nlp_operator.planning.devices import devices_of
from nlp_operator.planning.packing.reading import Measured, copies_in
from nlp_operator.resources.server import instances_on

MOST_SETUPS = 32
"""Of one artifact. The oldest is forgotten: then a guess takes its place."""


@dataclass(frozen=True, order=True)
class Setup:
    """What it was measured of."""

    pool: str
    max_batch_size: int
    copies: int
    """Of the model in a slot: see `copies_in`."""


@dataclass(frozen=True)
class Took:
    mebibytes: int
    """The most that a replica took, with what the server takes whatever it holds."""
    own_mebibytes: int = 0
    """Without that."""
    estimated: bool = False
    """It may be a neighbour's: growth of a device's memory while the model was loaded."""


@dataclass(frozen=True)
class Known:
    """Of one model."""

    digest: str = ""
    took: tuple[tuple[Setup, Took], ...] = ()
    """The oldest first."""

    def of(self, digest: str) -> Known:
        """Of this artifact: of another one nothing is known."""
        return self if self.digest == digest else Known(digest)


def seen_in(pod: Obj, pool: Obj | None, model: Obj, told: ModelReport) -> tuple[Setup, Took] | None:
    """What a pod of the model takes, with as many instances as it began with. `None`: nothing was measured,
    or nobody knows of what."""
    if pool is None or not told.measured_mebibytes:
        return None
    try:
        serving, of_pool = parse_model(model).serving, parse_pool(pool)
    except SpecInvalid:
        return None
    devices = devices_of(pod, of_pool) or serving.devices_per_replica
    begins = instances_on(of_pool, devices)
    whole, own = as_begun(told, begins)
    if of_pool.device.cpu is not None:
        copies = min(told.instances or begins, begins)
    else:
        copies = told.devices or devices
    # An agent of before says no size: then the model is believed to be as it is wanted.
    setup = Setup(name(pool), told.max_batch_size or serving.max_batch_size, copies)
    return setup, Took(whole, rounded_up(own * MEBIBYTE), told.estimated)


def noted(known: Known, digest: str, seen: Iterable[tuple[Setup, Took]]) -> Known:
    """With what is seen of this artifact now; the same object when that is no news.

    The most that was measured stays: what a model took once it may take again. An estimate stays only while
    nobody says another one, and never in the place of what was measured.
    """
    now: dict[Setup, Took] = {}
    for setup, took in seen:
        now[setup] = _more(now[setup], took) if setup in now else took
    after = dict(known.of(digest).took)
    for setup, took in now.items():
        before = after.get(setup)
        if before is None or before.estimated:
            after[setup] = took
        elif not took.estimated:
            after[setup] = _more(before, took)
    made = Known(digest, tuple(after.items())[-MOST_SETUPS:])
    return known if made == known else made


def _more(one: Took, other: Took) -> Took:
    if one.estimated != other.estimated:
        return other if one.estimated else one
    return Took(
        max(one.mebibytes, other.mebibytes), max(one.own_mebibytes, other.own_mebibytes), one.estimated
    )


def as_wanted(spec: ModelSpec, pool: str, of_pool: PoolSpec) -> Setup:
    """The model on this pool, as its spec wants it."""
    serving = spec.serving
    return Setup(pool, serving.max_batch_size, copies_in(of_pool, serving.devices_per_replica))


def exactly(known: Known, digest: str, spec: ModelSpec, pools: Mapping[str, PoolSpec]) -> Mapping[str, int]:
    """By pool, what was measured of the model as it is wanted, and as its isolation measures."""
    return {
        one.pool: one.mebibytes
        for one in believed(known, digest, spec)
        if one.source == "measured"
        and one.pool in pools
        and one.copies == copies_in(pools[one.pool], spec.serving.devices_per_replica)
    }


def believed(known: Known, digest: str, spec: ModelSpec) -> tuple[Measured, ...]:
    """Of a model of this artifact and spec. What was measured of smaller batches is the least that it takes;
    what was measured of the next larger one is the most, unless a smaller one took more."""
    wanted, shared = spec.serving.max_batch_size, spec.serving.isolation == "Shared"
    found: set[Measured] = set()
    least: dict[tuple[str, int], int] = {}
    larger: dict[tuple[str, int], tuple[int, int]] = {}
    for setup, took in known.of(digest).took:
        mebibytes = took.own_mebibytes if shared else took.mebibytes
        size, there = setup.max_batch_size, (setup.pool, setup.copies)
        if mebibytes and size <= wanted:
            exact = size == wanted and not took.estimated
            found.add(Measured(setup.pool, mebibytes, setup.copies, "measured" if exact else "estimated"))
        if mebibytes and not took.estimated:
            if size <= wanted:
                least[there] = max(mebibytes, least.get(there, 0))
            else:
                larger[there] = min((size, mebibytes), larger.get(there, (size, mebibytes)))
    for (pool, copies), (_, mebibytes) in larger.items():
        found.add(Measured(pool, max(mebibytes, least.get((pool, copies), 0)), copies, "at most"))
    return tuple(sorted(found))
