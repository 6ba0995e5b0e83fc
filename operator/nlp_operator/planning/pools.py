"""plan_pool: the status of one DevicePool."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from nlp_operator.api.objects import Obj
from nlp_operator.planning.plan import PoolPlan


def plan_pool(pool: Obj, nodes: Sequence[Obj], pods: Sequence[Obj], now: datetime) -> PoolPlan:
    """`pods`: every pod the cache has (for the free count), ours with the label `nlp-operator.io/pool`."""
    raise NotImplementedError
