"""Envoy's configuration, pure: limits and models to bootstrap and routes.

Envoy is the only door. What is not named here does not exist from outside: control, shared memory,
statistics, traces and logs of Triton answer 404 (UNIMPLEMENTED over gRPC). The bootstrap is written once; the
two route tables are files that Envoy watches, replaced by rename when the set of proven models changes.

A model's requests go through routes whose `stat_prefix` is its name, which gives it a latency histogram and
counters of its own: over HTTP the path names the model, over gRPC only the body does, so there the authority
tells (a Service is named as its model). An authority that names no model is counted under `unattributed`, or
under the model when the server has just one. A stream is counted once, when it begins, so what is under way
has clusters of its own: whoever wants to know that nobody asks must not take an open stream for silence, nor
polls of health and metadata for inference.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from nlp_agent.hold import AGAIN, GRPC_SOCKET
from nlp_agent.settings import HOLD_HTTP_SOCKET, Limits, Ports, Traces
from nlp_agent.triton import TritonPorts

Json = dict[str, Any]

HTTP_ROUTES = "http_routes"
GRPC_ROUTES = "grpc_routes"
UNATTRIBUTED = "unattributed"
COLLECTOR = "traces"
ENVOY_SERVICE = "nlp-envoy"
"""`service.name` of its spans."""
# Milliseconds. From 10 ms to 1 s, where latency targets lie, a bound is about a tenth above the one below it,
# so a quantile is wrong by that at most (docs/decisions/0090-signals.md). Envoy keeps two digits of a time:
# a bound with three would count what it has to guess.
LATENCY_BUCKETS = (
    *range(1, 20),
    20, 22, 24, 26, 28, 30, 33, 36, 40, 44, 48, 50, 55, 60, 65, 70, 75, 80, 88, 95,
    *range(100, 200, 10),
    200, 220, 240, 250, 270, 300, 330, 350, 380, 400, 440, 480, 500, 550, 600, 650, 700, 750, 820, 900,
    1000, 1200, 1500, 1800, 2000, 2500, 3000, 3500, 4000, 5000, 6000, 7000, 8000, 10000,
    15000, 20000, 30000, 60000, 120000,
)  # fmt: skip
SHORT_OF = 0.125
"""How far below each of them, in milliseconds, Envoy is told that it lies. Envoy drops what is less than a
millisecond, and a time's third digit, and counts what is then at most the bound: under 100 all that took less
than 110 ms, under 99.875 what took less than 100. It is an eighth, for Envoy writes every digit."""
TYPE = "type.googleapis.com/envoy"
INFERENCE_SERVICE = "/inference.GRPCInferenceService/"
GRPC_METADATA = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata")


def make_bootstrap(
    ports: Ports,
    limits: Limits,
    triton: TritonPorts,
    folder: str,
    admin: str,
    traces: Traces | None = None,
) -> Json:
    """`folder` holds the route files, `admin` is the path of the admin page's socket."""
    return {
        "node": {"id": "nlp-agent", "cluster": "nlp-agent"},
        # The admin page can stop Envoy: a socket in the work folder, no port.
        "admin": {"address": {"pipe": {"path": admin, "mode": 0o600}}},
        "stats_flush_interval": "1s",
        "stats_config": {
            "histogram_bucket_settings": [
                # Of the models only; those of the clusters behind them tell nothing more.
                {"match": {"prefix": "vhost."}, "buckets": [bound - SHORT_OF for bound in LATENCY_BUCKETS]}
            ]
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{TYPE}.extensions.resource_monitors.downstream_connections.v3."
                        "DownstreamConnectionsConfig",
                        "max_active_downstream_connections": limits.connections,
                    },
                }
            ]
        },
        "static_resources": {
            "listeners": [
                _listener("http", ports.address, ports.http, limits, folder, HTTP_ROUTES, traces),
                _listener("grpc", ports.address, ports.grpc, limits, folder, GRPC_ROUTES, traces),
            ],
            "clusters": [
                *_clusters("http", triton.http, f"{folder}/{HOLD_HTTP_SOCKET}", limits, http2=False),
                *_clusters("grpc", triton.grpc, f"{folder}/{GRPC_SOCKET}", limits, http2=True),
                *([] if traces is None else [_collector(traces)]),
            ],
        },
    }


def _seconds(value: float) -> str:
    return f"{value:g}s"


def _listener(
    name: str, address: str, port: int, limits: Limits, folder: str, routes: str, traces: Traces | None
) -> Json:
    return {
        "name": name,
        "address": {"socket_address": {"address": address, "port_value": port}},
        "per_connection_buffer_limit_bytes": 1024 * 1024,
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": _connection_manager(name, limits, folder, routes, traces),
                    }
                ]
            }
        ],
    }


def _connection_manager(name: str, limits: Limits, folder: str, routes: str, traces: Traces | None) -> Json:
    return {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "AUTO",
        "generate_request_id": False,
        **({} if traces is None else _tracing(traces)),
        "server_header_transformation": "PASS_THROUGH",
        "strip_any_host_port": True,
        # A path is matched as Triton will read it: no `..`, no `//`, no escaped slashes.
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "max_request_headers_kb": limits.header_kibibytes,
        "request_headers_timeout": "10s",
        "request_timeout": _seconds(limits.request_seconds),
        "stream_idle_timeout": _seconds(limits.request_seconds),
        "drain_timeout": "5s",
        "common_http_protocol_options": {
            "idle_timeout": _seconds(limits.idle_seconds),
            "max_connection_duration": _seconds(limits.connection_seconds),
            "max_headers_count": 100,
        },
        "http2_protocol_options": {"max_concurrent_streams": 256},
        "rds": {
            "route_config_name": routes,
            "config_source": {
                "resource_api_version": "V3",
                "path_config_source": {
                    "path": f"{folder}/{routes}.json",
                    "watched_directory": {"path": folder},
                },
            },
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.buffer",
                "typed_config": {
                    "@type": f"{TYPE}.extensions.filters.http.buffer.v3.Buffer",
                    "max_request_bytes": limits.body_bytes,
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPE}.extensions.filters.http.router.v3.Router"},
            },
        ],
    }


def _tracing(traces: Traces) -> Json:
    """A caller's own decision is followed; of the others a share is drawn from the trace's id."""
    kind = f"{TYPE}.extensions.tracers.opentelemetry"
    share = {
        "name": "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based",
        "typed_config": {
            "@type": f"{kind}.samplers.v3.TraceIdRatioBasedSamplerConfig",
            "sampling_percentage": {"numerator": round(1e6 * traces.share), "denominator": "MILLION"},
        },
    }
    return {
        # Without this, a request without an id is not traced whatever the sampler says.
        "request_id_extension": {
            "typed_config": {
                "@type": f"{TYPE}.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                "use_request_id_for_trace_sampling": False,
            }
        },
        "tracing": {
            "provider": {
                "name": "envoy.tracers.opentelemetry",
                "typed_config": {
                    "@type": f"{TYPE}.config.trace.v3.OpenTelemetryConfig",
                    "service_name": ENVOY_SERVICE,
                    "http_service": {"http_uri": {"uri": traces.url, "cluster": COLLECTOR, "timeout": "5s"}},
                    "resource_detectors": [
                        {
                            "name": "envoy.tracers.opentelemetry.resource_detectors.environment",
                            "typed_config": {
                                "@type": f"{kind}.resource_detectors.v3.EnvironmentResourceDetectorConfig"
                            },
                        }
                    ],
                    "sampler": {
                        "name": "envoy.tracers.opentelemetry.samplers.parent_based",
                        "typed_config": {
                            "@type": f"{kind}.samplers.v3.ParentBasedSamplerConfig",
                            "wrapped_sampler": share,
                        },
                    },
                },
            },
        },
    }


def _collector(traces: Traces) -> Json:
    address = {"socket_address": {"address": traces.host.strip("[]"), "port_value": traces.port}}
    return {
        "name": COLLECTOR,
        "type": "STRICT_DNS",
        # Requests do not wait for its name.
        "wait_for_warm_on_init": False,
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": COLLECTOR,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }


def _clusters(protocol: str, port: int, hold: str, limits: Limits, http2: bool) -> list[Json]:
    """Triton first and the place to wait second, and the other way round for models that are coming back.
    Their active requests are inference alone: the rest goes to Triton by `polls`."""
    triton: Json = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    waiting: Json = {"pipe": {"path": hold}}
    return [
        _cluster(f"polls_{protocol}", (triton,), limits, http2),
        _cluster(f"triton_{protocol}", (triton, waiting), limits, http2),
        _cluster(f"back_{protocol}", (waiting, triton), limits, http2),
    ]


def _cluster(name: str, places: Sequence[Json], limits: Limits, http2: bool) -> Json:
    """Places after the first are for what is tried again.

    Connections have a wider bound than requests in use and about to be together: a request that waits for one
    would wait in vain until its time is over, and be in no count. So what finds no room is refused at once.
    """
    protocol: Json = {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": 2 * limits.active_requests,
                    "max_pending_requests": limits.active_requests,
                    "max_requests": limits.active_requests,
                    "max_retries": limits.active_requests,
                }
            ]
        },
        "typed_extension_protocol_options": {
            f"{TYPE.removeprefix('type.googleapis.com/')}.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions",
                # An idle connection into Triton keeps it from stopping for the whole exit timeout (measured).
                "common_http_protocol_options": {"idle_timeout": "10s"},
                "explicit_http_config": protocol,
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {"priority": number, "lb_endpoints": [{"endpoint": {"address": place}}]}
                for number, place in enumerate(places)
            ],
        },
    }


def make_http_routes(
    limits: Limits, serving: Sequence[str], waiting: Sequence[str], returning: Sequence[str] = ()
) -> Json:
    """`serving` are proven; `waiting` are wanted and answer 503, so that a client tries again. Requests for
    those that are `returning`, after an end of Triton, wait until they serve."""
    routes = [
        _route({"path": "/v2"}, "GET", "polls_http", limits),
        _route({"path": "/v2/health/live"}, "GET", "polls_http", limits),
        _route({"path": "/v2/health/ready"}, "GET", "polls_http", limits),
    ]
    for name in sorted(serving):
        model = f"/v2/models/{name}(/versions/[0-9]+)?"
        routes += [
            _route(_regex(f"{model}/(infer|generate)"), "POST", "triton_http", limits, name),
            _route(_regex(f"{model}/generate_stream"), "POST", "triton_http", limits, name, stream=True),
            _route(_regex(f"{model}(/ready)?"), "GET", "polls_http", limits),
        ]
    for name in sorted(returning):
        match = _regex(f"/v2/models/{name}(/versions/[0-9]+)?/(infer|generate)")
        routes.append(_route(match, "POST", "back_http", limits, name))
    for name in sorted([*waiting, *returning]):
        routes.append(
            {
                "match": {"path_separated_prefix": f"/v2/models/{name}"},
                **_say(503, f"Model '{name}' does not serve yet; GET :8003/v1/status says why."),
            }
        )
    routes.append({"match": {"prefix": "/"}, **_say(404, "No such path or model on this server.")})
    return _versioned(HTTP_ROUTES, [{"name": "http", "domains": ["*"], "routes": routes}])


def make_grpc_routes(
    limits: Limits,
    namespace: str,
    serving: Sequence[str],
    waiting: Sequence[str],
    returning: Sequence[str] = (),
) -> Json:
    hosts = []
    alone = len(serving) == 1 and not waiting and not returning
    for name in sorted(serving):
        domains = ["*"] if alone else _authorities(name, namespace)
        hosts.append({"name": name, "domains": domains, "routes": _grpc_model_routes(limits, name)})
    only = len(returning) == 1 and not serving and not waiting
    for name in sorted([*waiting, *returning]):
        message = f"Model '{name}' does not serve yet; GET :8003/v1/status says why."
        back = [_grpc_infer_route(limits, name, "back_grpc")] if name in returning else []
        refusal = {"match": {"prefix": INFERENCE_SERVICE}, **_say(503, message)}
        hosts.append(
            {
                "name": name,
                "domains": ["*"] if only else _authorities(name, namespace),
                "routes": [*back, refusal, _no_such_method()],
            }
        )
    if not alone and not only:
        routes = _grpc_model_routes(limits, UNATTRIBUTED) if serving else _grpc_common_routes(limits)
        hosts.append({"name": UNATTRIBUTED, "domains": ["*"], "routes": routes})
    return _versioned(GRPC_ROUTES, hosts)


def _authorities(name: str, namespace: str) -> list[str]:
    """The names of a model's Service, from short to full; the cluster's domain may be any."""
    return [name, f"{name}.{namespace}", f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.*"]


def _grpc_model_routes(limits: Limits, name: str) -> list[Json]:
    stream = _route(
        {"path": f"{INFERENCE_SERVICE}ModelStreamInfer"}, "POST", "triton_grpc", limits, name, stream=True
    )
    # Holding back a stream until it ends would be its end; Triton bounds each message of it.
    stream["typed_per_filter_config"] = {
        "envoy.filters.http.buffer": {
            "@type": f"{TYPE}.extensions.filters.http.buffer.v3.BufferPerRoute",
            "disabled": True,
        }
    }
    return [_grpc_infer_route(limits, name, "triton_grpc"), stream, *_grpc_common_routes(limits)]


def _grpc_infer_route(limits: Limits, name: str, cluster: str) -> Json:
    return _route({"path": f"{INFERENCE_SERVICE}ModelInfer"}, "POST", cluster, limits, name)


def _grpc_common_routes(limits: Limits) -> list[Json]:
    metadata = [
        _route({"path": INFERENCE_SERVICE + method}, "POST", "polls_grpc", limits) for method in GRPC_METADATA
    ]
    health = _route({"path": "/grpc.health.v1.Health/Check"}, "POST", "polls_grpc", limits)
    return [*metadata, health, _no_such_method()]


def _no_such_method() -> Json:
    return {"match": {"prefix": "/"}, **_say(404, "No such method on this server.")}


def _regex(pattern: str) -> Json:
    return {"safe_regex": {"regex": pattern}}


def _route(
    match: Json, method: str, cluster: str, limits: Limits, model: str = "", stream: bool = False
) -> Json:
    action: Json = {
        "cluster": cluster,
        "timeout": "0s" if stream else _seconds(limits.request_seconds),
        "retry_policy": _tried_again() if model and not stream else _tried_again_unseen(),
    }
    route: Json = {
        "match": {**match, "headers": [{"name": ":method", "string_match": {"exact": method}}]},
        "route": action,
    }
    if model:
        route["stat_prefix"] = model
    return route


def _tried_again_unseen() -> Json:
    """Only what Triton never saw."""
    return {"retry_on": "connect-failure,refused-stream", "num_retries": 2}


def _tried_again() -> Json:
    """What a dead backend, or a dead Triton, left: see `hold.py`. A refusal of the model's own is 400."""
    return {
        "retry_on": "connect-failure,refused-stream,reset,retriable-status-codes,internal",
        "retriable_status_codes": [AGAIN],
        "num_retries": 2,
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {
                "@type": f"{TYPE}.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                "update_frequency": 1,
            },
        },
    }


def _say(status: int, message: str) -> Json:
    """An answer of Envoy's own, in the form of Triton's errors; gRPC callers get it as a status and its
    message.
    """
    return {
        "direct_response": {"status": status, "body": {"inline_string": json.dumps({"error": message})}},
        "response_headers_to_add": [
            {
                "header": {"key": "content-type", "value": "application/json"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    }


def _versioned(name: str, virtual_hosts: list[Json]) -> Json:
    """A discovery response whose version is the hash of its content; Envoy reports the version it applied."""
    resource = {
        "@type": f"{TYPE}.config.route.v3.RouteConfiguration",
        "name": name,
        "virtual_hosts": virtual_hosts,
    }
    version = hashlib.sha256(json.dumps(resource, sort_keys=True).encode()).hexdigest()[:16]
    return {"version_info": version, "resources": [resource]}
