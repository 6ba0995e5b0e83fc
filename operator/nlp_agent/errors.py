"""What can go wrong, by what the agent does about it.

AgentError
├── SettingsInvalid   the environment is wrong: say so and exit 2
├── ConfigInvalid     server.json is wrong: keep the last good one, say so in the report
├── Refused           this model, as wanted, may not serve: quarantine it or keep the old version, try later
│   └── Slow          it gave no answer in time: no offence of a model that serves others meanwhile
├── TritonGone        Triton did not answer: no model is to blame; the supervisor restarts it
├── RequestFailed     Triton answered a request with an error: in a proof a refusal, later a sick backend
├── DevicesUnknown    the driver says nothing of the GPUs: on a GPU server no model is brought
├── TooSlow           no answer in time: in a proof a refusal, later no offence at all
└── PutOff            a download stopped for something more urgent: it goes on where it was
"""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "ArtifactMissing",
    "ArtifactDamaged",
    "StoreUnreachable",
    "StoreRefused",
    "TargetMissing",
    "LoadFailed",
    "WrongAnswers",
    "BackendDied",
    "DeviceMissing",
    "RunsOnCpu",
]

UNDECIDED: frozenset[Reason] = frozenset({"StoreUnreachable", "StoreRefused"})
"""Nothing was learnt of the model: it waits, and is not quarantined."""


class AgentError(Exception):
    """Root of the tree."""


class SettingsInvalid(AgentError):
    """A variable of the environment is missing or wrong."""


class ConfigInvalid(AgentError):
    """`server.json` cannot be read or does not follow its contract."""


class Refused(AgentError):
    """A model may not serve; `reason` and the message go to the report as they are."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message


class Slow(Refused):
    """It did not answer a recorded question in time."""


class DevicesUnknown(AgentError):
    """NVML, NVIDIA's library about GPUs, is not here or gave an error."""


class TritonGone(AgentError):
    """Triton does not run or did not answer a control call."""


class RequestFailed(AgentError):
    """Triton answered a request with an error."""


class TooSlow(AgentError):
    """No answer in time."""


class PutOff(AgentError):
    """A download was stopped because something more urgent is to be done; what has come stays."""
