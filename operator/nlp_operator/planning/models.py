"""plan_model: one NLPModel, one snapshot, one plan."""

from __future__ import annotations

from datetime import datetime

from nlp_operator.planning.plan import ModelPlan, PlanSettings
from nlp_operator.planning.snapshot import ModelSnapshot


def plan_model(seen: ModelSnapshot, settings: PlanSettings, now: datetime) -> ModelPlan:
    raise NotImplementedError
