"""The answer of an agent (`GET :8003/v1/status`, docs/architecture.md section 5), parsed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

REPORT_VERSION = 1


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
    measured_mebibytes: int = 0
    """Of a replica with the whole server: private memory of processes on cores, memory of its devices on
    GPUs. Rounded up, so that a report changes when something has changed. 0: not measured."""


@dataclass(frozen=True)
class AgentReport:
    """The last answer of one agent, or the fact that it never gave one."""

    taken: datetime | None
    """When a good answer first said this; `None` when none ever came."""
    config_hash: str = ""
    models: tuple[ModelReport, ...] = ()
    silent_since: datetime | None = None
    """Since when polls of this agent fail; `None` while they succeed."""

    def of(self, model: str) -> ModelReport | None:
        return next((report for report in self.models if report.name == model), None)


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
        models=tuple(_model_report(one, answer) for one in listed if isinstance(one, dict)),
    )


def with_peaks(report: AgentReport, before: AgentReport | None) -> AgentReport:
    """With the most that was ever measured of each artifact: what a model took once it may take again."""
    if before is None:
        return report
    peaks = {(one.name, one.serving): one.measured_mebibytes for one in before.models}
    models = tuple(
        replace(one, measured_mebibytes=max(one.measured_mebibytes, peaks.get((one.name, one.serving), 0)))
        for one in report.models
    )
    return replace(report, models=models)


def _model_report(one: dict[str, Any], answer: dict[str, Any]) -> ModelReport:
    return ModelReport(
        name=_text(one.get("name")),
        wanted=_text(one.get("wanted")),
        serving=_text(one.get("serving")),
        state=_text(one.get("state")),
        reason=_text(one.get("reason")),
        message=_text(one.get("message")),
        measured_mebibytes=_measured(one, answer),
    )


def _measured(one: dict[str, Any], answer: dict[str, Any]) -> int:
    own, server = _members(one, "memory"), _members(answer, "memory")
    devices = own.get("devices")
    listed = devices if isinstance(devices, list) else []
    on_devices = sum(_bytes(each, "bytes") for each in listed if isinstance(each, dict))
    on_cpu = _bytes(own, "privateBytes") + _bytes(own, "estimatedInTritonBytes")
    if on_devices or not on_cpu:
        return rounded_up(on_devices)
    return rounded_up(
        on_cpu + sum(_bytes(server, f"{part}Bytes") for part in ("agent", "envoy", "tritonBase"))
    )


def rounded_up(count: int) -> int:
    """Mebibytes, in steps of 16 and from 256 on of a sixteenth of the power of two below."""
    mebibytes = -(-count // (1024 * 1024))
    step = max(16, (1 << max(mebibytes.bit_length() - 1, 0)) // 16)
    return -(-mebibytes // step) * step


def _members(one: dict[str, Any], member: str) -> dict[str, Any]:
    found = one.get(member)
    return found if isinstance(found, dict) else {}


def _bytes(one: dict[str, Any], member: str) -> int:
    found = one.get(member)
    return int(found) if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 0


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
