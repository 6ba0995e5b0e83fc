"""What `--json` prints: answers and reports as plain values. Loads no library that draws."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nlpctl.report import Happening, ModelReport

if TYPE_CHECKING:  # numpy and Triton's clients are slow to load, and most commands need neither
    from nlpctl.ask import Answer
    from nlpctl.pools import PoolPicture
    from nlpctl.top import Busy, Change
    from nlpctl.why import Explained


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def as_line(value: Any) -> str:
    """JSON in one line: a stream has one for each response."""
    return json.dumps(value, ensure_ascii=False)


def answer_value(answer: Answer, *, namespace: str, address: str, protocol: str, via: str) -> dict[str, Any]:
    return {
        "model": answer.model,
        "namespace": namespace,
        "version": answer.version,
        "protocol": protocol,
        "via": via,
        "address": address,
        "seconds": round(answer.seconds, 6),
        "outputs": {
            tensor.name: {"datatype": tensor.datatype, "shape": list(tensor.shape), "data": list(tensor.data)}
            for tensor in answer.outputs
        },
    }


def report_value(report: ModelReport) -> dict[str, Any]:
    return {
        "namespace": report.namespace,
        "name": report.name,
        "ready": report.ready,
        "stale": report.stale,
        "headline": report.headline,
        "architecture": report.architecture,
        "digest": report.digest,
        "url": report.url,
        "metrics": dict(report.metrics),
        "conditions": [
            {
                "type": condition.type,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message,
                "since": condition.since.isoformat() if condition.since else None,
            }
            for condition in report.conditions
        ],
        "servers": [
            {
                "name": server.name,
                "pool": server.pool,
                "replicas": server.replicas,
                "readyReplicas": server.ready_replicas,
            }
            for server in report.servers
        ],
    }


def pools_value(pictures: Sequence[PoolPicture]) -> list[dict[str, Any]]:
    return [
        {
            "pool": one.name,
            "problem": one.problem,
            "pricePerHour": one.price_per_hour,
            "memoryMebibytes": one.memory_mebibytes,
            "maxDevices": one.max_devices,
            "held": one.held,
            "present": one.present,
            "pending": one.pending,
            "models": [
                {
                    "model": each.model,
                    "replicas": each.replicas,
                    "devicesPerReplica": each.devices,
                    "busyMillis": each.busy_millis,
                }
                for each in one.lying
            ],
        }
        for one in pictures
    ]


def explanation_value(explained: Explained, happenings: Sequence[Happening]) -> dict[str, Any]:
    return {
        "problems": list(explained.problems),
        "why": explained.why,
        "change": explained.change,
        "pools": [
            {
                "pool": one.pool,
                "pricePerHour": one.price_per_hour,
                "verdict": one.verdict,
                "message": one.message,
                "change": one.change,
            }
            for one in explained.pools
        ],
        "events": [
            {
                "when": event.when.isoformat() if event.when else None,
                "type": event.type,
                "reason": event.reason,
                "message": event.message,
                "count": event.count,
            }
            for event in happenings
        ],
    }


def busy_value(row: Busy) -> dict[str, Any]:
    return {
        "namespace": row.namespace,
        "model": row.name,
        "ready": row.state == "True",
        "pools": list(row.pools),
        "readyReplicas": row.ready,
        "replicas": row.replicas,
        "wantedReplicas": row.wanted,
        "requestsPerSecond": row.requests_per_second,
        "latencySeconds": row.latency_seconds,
        "quantile": row.quantile,
        "targetSeconds": row.target_seconds,
        "lateShare": row.late_share,
        "failedShare": row.failed_share,
        "scaleLimited": row.limited,
        "reason": row.reason,
    }


def scaling_value(desired: int | None, reason: str, changes: Sequence[Change]) -> dict[str, Any]:
    return {
        "desired": desired,
        "reason": reason,
        "history": [
            {
                "when": change.when.isoformat() if change.when else None,
                "what": change.what,
                "from": change.before,
                "to": change.after,
                "why": change.why,
            }
            for change in changes
        ],
    }
