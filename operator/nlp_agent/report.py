"""What the agent says of itself, pure: the report of `/v1/status`, and when the probes say yes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nlp_agent.decisions import Model
from nlp_agent.errors import UNDECIDED
from nlp_agent.measures import Measures, ModelMeasures, model_json, server_json
from nlp_agent.server_config import ServerConfig, Spec

TritonState = Literal["Starting", "Running", "Restarting", "Hung", "Stopping"]
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Health:
    """What the probes are decided from."""

    draining: bool
    triton: TritonState
    triton_failures: int
    """Starts in a row that did not live long."""
    envoy_ready: bool
    settled: bool
    """Every model of the set at start was proven or quarantined once; later additions do not clear it."""
    serving: int
    turn_age: float
    """Seconds since the agent's loop turned."""
    hang: float
    waiting: Sequence[str] = ()
    """What each model waits for of which the store told nothing yet."""
    measuring: Sequence[str] = ()
    """Models that are still to be measured before the first Ready."""


# Then a new container is the better cure: the fifth start comes some 30 s after the first.
TRITON_FAILURES_LIMIT = 5


def why_not_alive(health: Health) -> str:
    """Empty when alive. A drain is bounded by itself; killing it would fail the requests it waits for."""
    if health.draining:
        return ""
    if health.turn_age > health.hang:
        return f"The agent's loop has not turned for {health.turn_age:.0f} s."
    if health.triton == "Hung":
        return f"Triton has not answered for {health.hang:g} s."
    if health.triton_failures >= TRITON_FAILURES_LIMIT:
        return f"Triton ended right after its start {health.triton_failures} times in a row."
    return ""


def why_not_ready(health: Health) -> str:
    """Empty when ready."""
    if health.draining:
        return "The server is draining."
    if health.triton != "Running":
        return f"Triton is {health.triton.lower()}."
    if not health.envoy_ready:
        return "Envoy is not up."
    if not health.settled and health.measuring:
        return f"The first Ready waits for the profile of {', '.join(health.measuring)}."
    if not health.settled:
        return " ".join(["Not every model was proven or quarantined yet.", *health.waiting])
    if not health.serving:
        return "No model serves."
    return ""


def model_report(
    spec: Spec, model: Model | None, busy: bool, measures: ModelMeasures | None = None
) -> dict[str, Any]:
    model = model or Model(spec.name)
    refusal = model.refusal
    if model.live is not None:
        state = "Serving"
    elif refusal is not None and refusal.reason not in UNDECIDED:
        # A retry of a quarantined model is not news until it ends.
        state = "Quarantined"
    else:
        state = "Loading" if busy else "Pending"
    return {
        "name": spec.name,
        "wanted": spec.digest,
        "serving": model.live.digest if model.live else "",
        "state": state,
        "reason": refusal.reason if refusal else "",
        "message": refusal.message if refusal else "",
        "attempts": refusal.attempts if refusal else 0,
        "maxBatchSize": model.live.max_batch_size if model.live else 0,
        "instances": model.live.instances if model.live else 0,
        "instancesAtWork": model.at_work,
        "instancesWanted": spec.instances,
        "examples": model.examples if model.live else 0,
        "loadSeconds": round(model.load_seconds, 3),
        "memoryMebibytes": round(model.memory_bytes / MEBIBYTE),
        **model_json(measures or ModelMeasures()),
    }


def make_report(
    config: ServerConfig | None,
    config_fault: str,
    models: Mapping[str, Model],
    busy: str,
    triton_version: str,
    triton_state: TritonState,
    measures: Measures,
) -> dict[str, Any]:
    return {
        "version": 1,
        "server": config.server if config else "",
        "configHash": config.hash if config else "",
        "servesHash": config.serves if config else "",
        "configFault": config_fault,
        "triton": {"version": triton_version, "state": triton_state},
        **server_json(measures.server),
        "models": [
            model_report(spec, models.get(spec.name), busy == spec.name, measures.models.get(spec.name))
            for spec in (config.models if config else ())
        ],
    }
