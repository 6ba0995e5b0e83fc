"""The answer of an agent (`GET :8003/v1/status`, docs/architecture.md section 5), parsed."""

from __future__ import annotations

import json
from dataclasses import dataclass
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
    memory_mebibytes: int = 0


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
        models=tuple(_model_report(one) for one in listed if isinstance(one, dict)),
    )


def _model_report(one: dict[str, Any]) -> ModelReport:
    memory = one.get("memoryMebibytes")
    return ModelReport(
        name=_text(one.get("name")),
        wanted=_text(one.get("wanted")),
        serving=_text(one.get("serving")),
        state=_text(one.get("state")),
        reason=_text(one.get("reason")),
        message=_text(one.get("message")),
        memory_mebibytes=int(memory) if isinstance(memory, int | float) else 0,
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
