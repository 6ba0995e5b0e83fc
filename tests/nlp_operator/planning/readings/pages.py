"""Pages of metrics as a server pod gives them (Triton 2.51, Envoy 1.40, the agent), made in microseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

BOUNDS = ("1", "10", "20", "50", "100", "110", "150", "200", "500", "1000", "120000", "+Inf")
REASONS = ("OTHER", "BACKEND", "CANCELED", "REJECTED")


@dataclass
class Load:
    """What one pod has counted of one model."""

    latencies_ms: Sequence[float] = ()
    """Of the requests that were answered."""
    grpc_ms: Sequence[float] = ()
    waiting_at_envoy: int = 0
    refused: int = 0
    timed_out: int = 0
    succeeded: float = 0
    failures: Mapping[str, float] = field(default_factory=dict)
    executions: float = 0
    items: float = 0
    compute_us: float = 0
    queue_us: float = 0
    waiting: float = 0
    own: float = 6
    active: float = 0
    serving: bool = True


def make_page(
    models: Mapping[str, Load], *, filler: int = 0, envoy: bool = True, bounds: Sequence[str] = BOUNDS
) -> str:
    """`filler`: lines that nobody reads; a real page has five hundred."""
    lines: list[str] = []
    for name, load in models.items():
        lines += _agent(name, load)
    if envoy:
        lines += [
            "# TYPE envoy_cluster_upstream_cx counter",
            *(
                f'envoy_cluster_upstream_cx_{n}{{envoy_cluster_name="triton_http"}} {n}'
                for n in range(filler)
            ),
            "# TYPE envoy_cluster_upstream_rq_active gauge",
            *(
                f'envoy_cluster_upstream_rq_active{{envoy_cluster_name="{cluster}_grpc"}} {count}'
                for cluster, count in (
                    ("triton", sum(load.active for load in models.values())),
                    ("polls", 7),
                    ("traces", 8),
                )
            ),
            "# TYPE envoy_server_live gauge",
            "envoy_server_live{} 1",
        ]
        for name, load in models.items():
            lines += _envoy(name, "http", load.latencies_ms, load, bounds)
            lines += _envoy(name, name, load.grpc_ms, Load(), bounds)
    for name, load in models.items():
        lines += _triton(name, load)
    return "\n".join(lines) + "\n"


def _agent(name: str, load: Load) -> list[str]:
    label = f'model="{name}"'
    return [
        "# TYPE nlp_agent_model_serving gauge",
        f"nlp_agent_model_serving{{{label}}} {float(load.serving)}",
        "# TYPE nlp_agent_own_requests counter",
        f"nlp_agent_own_requests_total{{{label}}} {load.own}",
        f"nlp_agent_own_requests_created{{{label}}} 1.795982469518135e+09",
    ]


def _envoy(name: str, host: str, latencies: Sequence[float], load: Load, bounds: Sequence[str]) -> list[str]:
    """Nothing before the first request, as Envoy does with `usedonly`."""
    sent_on = len(latencies) + load.timed_out + load.waiting_at_envoy
    completed = len(latencies) + load.timed_out + load.refused
    if not (sent_on or completed):
        return []
    route = f'envoy_virtual_host="{host}",envoy_route="{name}"'
    lines = [
        f'envoy_vhost_route_upstream_rq{{envoy_response_code="200",{route}}} {len(latencies)}',
        f'envoy_vhost_route_upstream_rq{{envoy_response_code="503",{route}}} {load.refused}',
        f'envoy_vhost_route_upstream_rq{{envoy_response_code="504",{route}}} {load.timed_out}',
        f"envoy_vhost_route_upstream_rq_completed{{{route}}} {completed}",
        f"envoy_vhost_route_upstream_rq_total{{{route}}} {sent_on}",
        "# TYPE envoy_vhost_route_upstream_rq_time histogram",
    ]
    for bound in bounds:
        count = sum(one < float(bound) for one in latencies)
        lines.append(f'envoy_vhost_route_upstream_rq_time_bucket{{{route},le="{bound}"}} {count}')
    lines.append(f"envoy_vhost_route_upstream_rq_time_sum{{{route}}} {sum(latencies)}")
    lines.append(f"envoy_vhost_route_upstream_rq_time_count{{{route}}} {len(latencies)}")
    return lines


def _triton(name: str, load: Load) -> list[str]:
    label = f'model="{name}",version="1"'
    third = load.compute_us / 3
    return [
        "# TYPE nv_inference_request_success counter",
        f"nv_inference_request_success{{{label}}} {load.succeeded}",
        *(
            f'nv_inference_request_failure{{model="{name}",reason="{reason}",version="1"}} '
            f"{load.failures.get(reason, 0)}"
            for reason in REASONS
        ),
        f"nv_inference_count{{{label}}} {load.items}",
        f"nv_inference_exec_count{{{label}}} {load.executions}",
        f"nv_inference_request_duration_us{{{label}}} {load.compute_us + load.queue_us}",
        f"nv_inference_queue_duration_us{{{label}}} {load.queue_us}",
        f"nv_inference_compute_input_duration_us{{{label}}} {third}",
        f"nv_inference_compute_infer_duration_us{{{label}}} {third}",
        f"nv_inference_compute_output_duration_us{{{label}}} {third}",
        f"nv_inference_pending_request_count{{{label}}} {load.waiting}",
        f'nv_inference_queue_summary_us{{{label},quantile="0.5"}} Nan',
    ]
