"""The answer of an agent (`GET :8003/v1/status`, docs/architecture.md section 5), parsed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from nlp_operator.resources.manifests import canonical_json

REPORT_VERSION = 1
MEBIBYTE = 1024 * 1024
MOST_BYTES = 1 << 44
"""Of one replica, and of whatever else is counted in a report: what is more was not counted."""
MOST_MEBIBYTES = MOST_BYTES // MEBIBYTE
MOST_BATCHES = 64
"""Of a profile. Sizes double from one row to the largest, each once or twice."""
MOST_ROWS = 1 << 30
LONGEST_PROFILE_SECONDS = 3600.0
LONGEST_LOAD_SECONDS = 86_400.0
PROFILE_STATES = ("Complete", "Partial", "Failed")
SECONDS = ("medianSeconds", "p95Seconds")
LONGEST_PROFILE_TEXT = 256
"""Of a sentence or a name in it."""


@dataclass(frozen=True)
class Traffic:
    """What callers had of one version in one pod."""

    digest: str
    seconds: float
    requests: int
    failed: int
    latency: Mapping[float, int]
    """Answers by the most milliseconds that they took."""


@dataclass(frozen=True)
class ModelReport:
    """One model in a server, as its agent sees it."""

    name: str
    wanted: str
    """Digest the agent was told to serve."""
    serving: str
    """Digest that takes requests; empty when none does."""
    state: str
    """`Pending`, `Loading`, `Serving` or `Quarantined`."""
    reason: str = ""
    message: str = ""
    instances: int = 0
    """Of it in Triton, on each device; 0: not known."""
    working: int = 0
    """Likewise, with those of a change that goes on which were seen to work; 0: not told."""
    instances_wanted: int = 0
    """What its agent was told; 0: not told."""
    load_seconds: float | None = field(default=None, compare=False)
    """As last measured, with the proof that follows; `None`: not known."""
    processes: int = field(default=0, compare=False)
    """Of its own; 0 where its backend runs inside Triton, or none was looked at yet."""
    measured_mebibytes: int = 0
    """Of a replica with the whole server: private memory of processes on cores, memory of its devices on
    GPUs. Rounded up, so that a report changes when something has changed. 0: not measured."""
    own_mebibytes: int = field(default=0, compare=False)
    """Of that, what is the model's alone."""
    max_batch_size: int = 0
    """With which it was loaded; 0: not told."""
    devices: int = 0
    """On which it holds memory, on each as much as on the fullest of them; 0 on cores."""
    estimated: bool = False
    """What it holds on devices is how much they grew, and may be a neighbour's."""
    profile: str = ""
    """What was measured of `profiled` before the first Ready, as text; empty: nothing was."""
    profiled: str = ""
    """The digest of that."""
    profile_seconds: float = field(default=0.0, compare=False)
    """By which this pod's first Ready came later, for what it measured itself."""
    traffic: Traffic | None = field(default=None, compare=False)
    """Of the version that serves. It changes all the time, and that alone is no news."""
    before: Traffic | None = field(default=None, compare=False)
    """Of the version before it."""

    @property
    def on_each_mebibytes(self) -> int:
        """What is the model's alone on each device, or in all where it has none."""
        return -(-self.own_mebibytes // max(self.devices, 1))

    @property
    def at_work(self) -> int:
        """Instances; 0: not known."""
        return max(self.working, self.instances)

    @property
    def changes(self) -> bool:
        """Whether more instances are under way, and nothing is known against them."""
        return 0 < self.at_work < self.instances_wanted and not self.reason


@dataclass(frozen=True)
class AgentReport:
    """The last answer of one agent, or the fact that it never gave one."""

    taken: datetime | None
    """When a good answer first said this; `None` when none ever came."""
    config_hash: str = ""
    models: tuple[ModelReport, ...] = ()
    silent_since: datetime | None = None
    """Since when polls of this agent fail; `None` while they succeed."""
    held_mebibytes: int = field(default=0, compare=False)
    """Memory of the pod's processes that nobody else has. 0: not measured."""
    free_mebibytes: int | None = field(default=None, compare=False)
    """On the fullest of its devices; `None` without a GPU."""
    cores_each: float | None = field(default=None, compare=False)
    """Cores that its processes keep busy for each execution at a time; `None`: not known."""
    serves_hash: str = ""
    """Of what decides which models serve and how in what it has read; empty: an agent of before."""

    def of(self, model: str) -> ModelReport | None:
        return next((report for report in self.models if report.name == model), None)


def heard_of(report: AgentReport | None, model: str) -> ModelReport | None:
    """What an agent says of a model now; `None` also while its polls fail."""
    return report.of(model) if report is not None and report.silent_since is None else None


def parse_agent_report(body: bytes | str, taken: datetime) -> AgentReport:
    """Raises ValueError with one sentence when the answer is not a report of a version this release knows."""
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise ValueError(f"The agent's answer is not JSON: {error}.") from error
    if not isinstance(answer, dict) or answer.get("version") != REPORT_VERSION:
        found = answer.get("version") if isinstance(answer, dict) else type(answer).__name__
        raise ValueError(f"The agent's answer has version {found!r}; this operator reads {REPORT_VERSION}.")
    models = answer.get("models")
    listed = models if isinstance(models, list) else []
    return AgentReport(
        taken=taken,
        config_hash=_text(answer.get("configHash")),
        serves_hash=_text(answer.get("servesHash")),
        models=tuple(_model_report(one, answer) for one in listed if isinstance(one, dict)),
        held_mebibytes=_mebibytes(
            _of_server(answer) + sum(_on_cpu(one) for one in listed if isinstance(one, dict))
        ),
        free_mebibytes=_free(answer),
        cores_each=_cores_each(answer.get("coresEach")),
    )


def with_peaks(report: AgentReport, before: AgentReport | None) -> AgentReport:
    """With the most that was ever measured of each artifact, as it is loaded now: what a model took once it
    may take again."""
    if before is None:
        return report
    peaks = {_as_loaded(one): one.measured_mebibytes for one in before.models}
    models = tuple(
        replace(one, measured_mebibytes=max(one.measured_mebibytes, peaks.get(_as_loaded(one), 0)))
        if not one.estimated
        else one
        for one in report.models
    )
    return replace(report, models=models)


def _as_loaded(report: ModelReport) -> tuple[str, str, int, int, bool]:
    return report.name, report.serving, report.instances, report.max_batch_size, report.estimated


def as_begun(report: ModelReport, begins: int) -> tuple[int, int]:
    """What was measured of it, with the server and alone, as if it had no more instances than its pods begin
    with: what load brings and takes back again is no part of what it needs."""
    of, own = report.instances, report.own_mebibytes
    if not 0 < begins < of:
        return report.measured_mebibytes, own
    surplus = own - -(-own * begins // of)
    return rounded_up(max(report.measured_mebibytes - surplus, 0) * MEBIBYTE), own - surplus


def _model_report(one: dict[str, Any], answer: dict[str, Any]) -> ModelReport:
    return ModelReport(
        name=_text(one.get("name")),
        wanted=_text(one.get("wanted")),
        serving=_text(one.get("serving")),
        state=_text(one.get("state")),
        reason=_text(one.get("reason")),
        message=_text(one.get("message")),
        instances=_count(one, "instances"),
        working=_count(one, "instancesAtWork"),
        instances_wanted=_count(one, "instancesWanted"),
        load_seconds=_load_seconds(one),
        processes=_count(_members(one, "memory"), "processes"),
        measured_mebibytes=_measured(one, answer),
        own_mebibytes=_mebibytes(_own(one)),
        max_batch_size=_count(one, "maxBatchSize"),
        devices=len(_holding(one)),
        estimated=any(each.get("estimated") is True for each in _holding(one)),
        profile=parse_profile(one.get("profile")),
        profiled=_text(_members(one, "profile").get("digest")),
        profile_seconds=_real(one.get("profileSeconds"), LONGEST_PROFILE_SECONDS) or 0.0,
        traffic=_traffic(one.get("traffic")),
        before=_traffic(one.get("trafficBefore")),
    )


def parse_profile(told: object) -> str:
    """As canonical text of what this release knows of it; empty when it is none, or has what none can have:
    a pod says it, and it is told to others and reckoned with."""
    if not isinstance(told, dict):
        return ""
    listed = told.get("batches")
    batches = [_batch(one) for one in listed[: MOST_BATCHES + 1]] if isinstance(listed, list) else []
    known: dict[str, object] = {
        "digest": _text(told.get("digest"))[:LONGEST_PROFILE_TEXT],
        "pool": _text(told.get("pool"))[:LONGEST_PROFILE_TEXT],
        "state": _text(told.get("state")),
        "message": _text(told.get("message"))[:LONGEST_PROFILE_TEXT],
        "seconds": _real(told.get("seconds"), LONGEST_PROFILE_SECONDS),
        "instances": _whole(told.get("instances")),
        "batches": batches,
    }
    odd = None in known.values() or None in batches or len(batches) > MOST_BATCHES
    return "" if odd or known["state"] not in PROFILE_STATES else canonical_json(known)


def _batch(told: object) -> dict[str, object] | None:
    if not isinstance(told, dict):
        return None
    known: dict[str, object] = {
        **{member: _whole(told.get(member)) for member in ("rows", "inFlight", "requests")},
        **{member: _real(told.get(member), LONGEST_PROFILE_SECONDS) for member in SECONDS},
        "rowsPerSecond": _real(told.get("rowsPerSecond"), MOST_ROWS * 1e6),
    }
    return None if None in known.values() else known


def _whole(told: object) -> int | None:
    whole = isinstance(told, int) and not isinstance(told, bool) and 0 <= told <= MOST_ROWS
    return told if whole and isinstance(told, int) else None


def _real(told: object, most: float) -> float | None:
    """Also what JSON says in whole numbers; neither infinite nor too large to be a float."""
    real = isinstance(told, int | float) and not isinstance(told, bool) and 0 <= told <= most
    return float(told) if real and isinstance(told, int | float) else None


def _measured(one: dict[str, Any], answer: dict[str, Any]) -> int:
    own = _own(one)
    return rounded_up(own + _of_server(answer) if own and not _devices(one) else own)


def _own(one: dict[str, Any]) -> int:
    """Of a server with devices what it holds there, and nothing where that was not measured: memory of its
    host is not theirs. Each device has a copy, so each is to have what the fullest has."""
    if not _devices(one):
        return _on_cpu(one)
    held = [_count(each, "bytes") for each in _holding(one)]
    return max(held, default=0) * len(held)


def _devices(one: dict[str, Any]) -> list[dict[str, Any]]:
    devices = _members(one, "memory").get("devices")
    return [each for each in devices if isinstance(each, dict)] if isinstance(devices, list) else []


def _holding(one: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in _devices(one) if _count(each, "bytes")]


def _on_cpu(one: dict[str, Any]) -> int:
    own = _members(one, "memory")
    return _count(own, "privateBytes") + _count(own, "estimatedInTritonBytes")


def _of_server(answer: dict[str, Any]) -> int:
    server = _members(answer, "memory")
    return sum(_count(server, f"{part}Bytes") for part in ("agent", "envoy", "tritonBase"))


def _load_seconds(one: dict[str, Any]) -> float | None:
    load = _real(one.get("loadSeconds"), LONGEST_LOAD_SECONDS)
    proof = _real(one.get("proofSeconds", 0.0), LONGEST_LOAD_SECONDS)
    return load + proof if load and proof is not None else None


def _cores_each(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        return None
    return float(value)


def _free(answer: dict[str, Any]) -> int | None:
    devices = answer.get("devices")
    listed = [one for one in devices if isinstance(one, dict)] if isinstance(devices, list) else []
    free = [_count(one, "memoryBytes") - _count(one, "usedBytes") for one in listed]
    return _mebibytes(min(free)) if free else None


def _traffic(told: object) -> Traffic | None:
    """`None` also for what is not in the form that this release knows."""
    if not isinstance(told, dict):
        return None
    try:
        latency = {float(bound): int(count) for bound, count in told["latencyMilliseconds"]}
        numbers = int(told["requests"]), int(told["failed"])
        return Traffic(_text(told["digest"]), float(told["seconds"]), *numbers, latency)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _mebibytes(count: int) -> int:
    return -(-count // MEBIBYTE)


def rounded_up(count: int) -> int:
    """Mebibytes, in steps of 16 and from 256 on of a sixteenth of the power of two below."""
    mebibytes = _mebibytes(count)
    step = max(16, (1 << max(mebibytes.bit_length() - 1, 0)) // 16)
    return -(-mebibytes // step) * step


def _members(one: dict[str, Any], member: str) -> dict[str, Any]:
    found = one.get(member)
    return found if isinstance(found, dict) else {}


def _count(one: dict[str, Any], member: str) -> int:
    found = one.get(member)
    if not isinstance(found, int) or isinstance(found, bool):
        return 0
    return found if 0 < found <= MOST_BYTES else 0


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
