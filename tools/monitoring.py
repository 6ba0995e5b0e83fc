"""What Grafana and the Prometheus operator read, from what people read.

    python -m tools.monitoring --write manifests/monitoring
    python -m tools.monitoring --check manifests/monitoring     exit 1 when it is not what is said here

The dashboards are said below, a line a query. The PrometheusRule holds alerts.yaml, a rule file as Prometheus
itself reads it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
HEIGHT = 8
RATE = "[$__rate_interval]"


@dataclass(frozen=True)
class Query:
    text: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    says: str = ""
    """What to see in it."""
    width: int = 8


@dataclass(frozen=True)
class Variable:
    name: str
    values: str
    """A query of Grafana's: label_values(...)."""


@dataclass(frozen=True)
class Dashboard:
    name: str
    title: str
    says: str
    variables: tuple[Variable, ...]
    panels: tuple[Panel, ...]


def number(title: str, query: str, unit: str = "short", says: str = "") -> Panel:
    return Panel(title, (Query(query),), unit, "stat", says, 4)


def lines(title: str, unit: str, *queries: tuple[str, str], says: str = "", width: int = 8) -> Panel:
    """`queries`: each with its legend."""
    return Panel(title, tuple(Query(*one) for one in queries), unit, says=says, width=width)


OF_NAMESPACE = 'namespace=~"$namespace"'
OF_MODEL = 'namespace=~"$namespace",model=~"$model"'
AT_ENVOY = 'namespace=~"$namespace",envoy_route=~"$model"'
OF_POOL = 'pool=~"$pool"'
LEADER = "and on (instance) nlp_operator_leader"
"""What follows is of the operator's processes: every program has a CPU time."""


def mean(total: str, count: str, selector: str) -> str:
    """Of what happened lately; nothing where nothing did."""
    return f"sum(rate({total}{{{selector}}}{RATE})) / (sum(rate({count}{{{selector}}}{RATE})) > 0)"


def came(selector: str) -> str:
    """Requests a second by series: those that Envoy sent on, and those it refused, as the operator counts
    them. Only the first have no code. In a pod that is full no more are sent on than it can take."""
    names = "envoy_vhost_route_upstream_rq_total|envoy_vhost_route_upstream_rq"
    return f'rate({{__name__=~"{names}",envoy_response_code=~"|503",{selector}}}{RATE})'


def latency(quantile: float, selector: str) -> str:
    """Seconds, by Envoy's histogram. A series without a request in the last while has no quantile."""
    buckets = f"rate(envoy_vhost_route_upstream_rq_time_bucket{{{selector}}}{RATE})"
    return f"histogram_quantile({quantile:g}, sum by (le) ({buckets})) / 1000"


def woken(quantile: float) -> str:
    """Seconds from a connection's first byte until a pod was reached, where there was one lately."""
    buckets = f"rate(nlp_activator_wake_seconds_bucket{RATE})"
    return f"histogram_quantile({quantile:g}, sum by (le) ({buckets}))"


NAMESPACES = Variable("namespace", "label_values(nlp_operator_model_ready, namespace)")
MODELS = Variable("model", 'label_values(nlp_operator_model_ready{namespace=~"$namespace"}, model)')
POOLS = Variable("pool", "label_values(nlp_operator_pool_ready, pool)")

FLEET = Dashboard(
    "fleet",
    "NLP models: fleet",
    "All models at once: is anything wrong, and where?",
    (NAMESPACES,),
    (
        number("Models ready", 'sum(nlp_operator_model_ready{namespace=~"$namespace"})'),
        number("Models not ready", 'sum(1 - nlp_operator_model_ready{namespace=~"$namespace"})'),
        number(
            "Models stalled",
            'sum(nlp_operator_model_stalled{namespace=~"$namespace"})',
            says="Somebody has to do something: nlpctl status MODEL says what.",
        ),
        number("Replicas ready", 'sum(nlp_operator_model_replicas_ready{namespace=~"$namespace"})'),
        number(
            "Requests/s",
            f"sum({came(OF_NAMESPACE)})",
            "reqps",
        ),
        number(
            "Devices cost an hour",
            "sum(nlp_operator_pool_devices_ours * nlp_operator_pool_device_price_per_hour)",
            says="Devices that our pods hold, at spec.pricePerHour of their pools.",
        ),
        lines(
            "Requests/s by model, the ten busiest",
            "reqps",
            (
                f"topk(10, sum by (namespace, envoy_route) ({came(OF_NAMESPACE)}))",
                "{{namespace}}/{{envoy_route}}",
            ),
        ),
        lines(
            "Latency over its target, the ten worst",
            "percentunit",
            (
                'topk(10, nlp_operator_model_latency_seconds{namespace=~"$namespace"} '
                '/ nlp_operator_model_latency_target_seconds{namespace=~"$namespace"})',
                "{{namespace}}/{{model}}",
            ),
            says="Above 100 % more requests are late than the target allows.",
        ),
        lines(
            "Late requests, the ten worst",
            "percentunit",
            (
                'topk(10, nlp_operator_model_late_ratio{namespace=~"$namespace"})',
                "{{namespace}}/{{model}}",
            ),
        ),
        lines(
            "Requests that fail, the ten worst",
            "percentunit",
            (
                'topk(10, nlp_operator_model_failures_per_second{namespace=~"$namespace"} '
                '/ (nlp_operator_model_requests_per_second{namespace=~"$namespace"} > 0))',
                "{{namespace}}/{{model}}",
            ),
            says="Of the last minute: those that failed or were refused, of all that came.",
        ),
        lines(
            "Replicas",
            "short",
            ('sum(nlp_operator_model_replicas_wanted{namespace=~"$namespace"})', "wanted"),
            ('sum(nlp_operator_model_replicas{namespace=~"$namespace"})', "asked for"),
            ('sum(nlp_operator_model_replicas_ready{namespace=~"$namespace"})', "ready"),
        ),
        lines(
            "Models that do not get what they need",
            "short",
            (
                'count by (reason) (nlp_operator_model_scale_limited{namespace=~"$namespace"})',
                "{{reason}}",
            ),
            says="Empty: none. The reasons stand in docs/operations.md, Load and latency.",
        ),
        lines(
            "Models whose load is known",
            "short",
            ('sum(nlp_operator_model_signals_known{namespace=~"$namespace"})', "known"),
            ('sum(1 - nlp_operator_model_signals_known{namespace=~"$namespace"})', "unknown"),
        ),
        lines(
            "Devices by pool",
            "short",
            ("nlp_operator_pool_devices_ours", "{{pool}}: held"),
            ("nlp_operator_pool_devices_most", "{{pool}}: at most"),
        ),
        lines(
            "Answers that are errors, by model",
            "percentunit",
            (
                "sum by (namespace, envoy_route) (rate(envoy_vhost_route_upstream_rq_xx"
                f'{{namespace=~"$namespace",envoy_response_code_class=~"4|5"}}{RATE})) '
                "/ (sum by (namespace, envoy_route) (rate("
                f'envoy_vhost_route_upstream_rq_completed{{namespace=~"$namespace"}}{RATE})) > 0)',
                "{{namespace}}/{{envoy_route}}",
            ),
            says="HTTP only: over gRPC an error is a 200. Triton's failures stand on the page of the model.",
        ),
    ),
)

MODEL = Dashboard(
    "model",
    "NLP models: one model",
    "One model: its load, its latency against the target, its replicas, and what Triton does.",
    (NAMESPACES, MODELS),
    (
        number("Ready", f"min(nlp_operator_model_ready{{{OF_MODEL}}})", "bool_yes_no"),
        number("Replicas ready", f"sum(nlp_operator_model_replicas_ready{{{OF_MODEL}}})"),
        number("Replicas wanted", f"sum(nlp_operator_model_replicas_wanted{{{OF_MODEL}}})"),
        number("Requests/s", f"sum({came(AT_ENVOY)})", "reqps"),
        number("Latency, 95 %", latency(0.95, AT_ENVOY), "s"),
        number("Late", f"max(nlp_operator_model_late_ratio{{{OF_MODEL}}})", "percentunit"),
        lines(
            "Latency at Envoy, queue included",
            "s",
            (latency(0.5, AT_ENVOY), "50 %"),
            (latency(0.95, AT_ENVOY), "95 %"),
            (latency(0.99, AT_ENVOY), "99 %"),
            (f"min(nlp_operator_model_latency_target_seconds{{{OF_MODEL}}})", "target"),
        ),
        lines(
            "Requests/s that came, and answers",
            "reqps",
            (f"sum({came(AT_ENVOY)})", "came"),
            (
                "sum by (envoy_response_code_class) (rate("
                f"envoy_vhost_route_upstream_rq_xx{{{AT_ENVOY}}}{RATE}))",
                "answered {{envoy_response_code_class}}xx",
            ),
            (f"sum(nlp_operator_model_failures_per_second{{{OF_MODEL}}})", "failed or refused"),
        ),
        lines(
            "Replicas",
            "short",
            (f"sum(nlp_operator_model_replicas_wanted{{{OF_MODEL}}})", "wanted"),
            (f"sum(nlp_operator_model_replicas{{{OF_MODEL}}})", "asked for"),
            (f"sum(nlp_operator_model_replicas_ready{{{OF_MODEL}}})", "ready"),
            says="Why: kubectl describe, nlpctl why, and the Events Scaled.",
        ),
        lines(
            "Instances at work",
            "short",
            (f"sum by (pod) (nlp_agent_model_instances{{{OF_MODEL}}})", "{{pod}}"),
            (f"max(nlp_operator_model_instances{{{OF_MODEL}}})", "right in each pod"),
            says="Of Triton, in each pod. The fast step: NLP_OPERATOR_MOST_INSTANCES.",
        ),
        lines(
            "Failures in Triton by reason",
            "reqps",
            (f"sum by (reason) (rate(nv_inference_request_failure{{{OF_MODEL}}}{RATE}))", "{{reason}}"),
        ),
        lines(
            "Time of a request in Triton",
            "µs",
            (mean("nv_inference_queue_duration_us", "nv_inference_request_success", OF_MODEL), "queue"),
            (
                mean("nv_inference_compute_infer_duration_us", "nv_inference_request_success", OF_MODEL),
                "compute",
            ),
        ),
        lines(
            "Rows in an execution",
            "short",
            (mean("nv_inference_count", "nv_inference_exec_count", OF_MODEL), "mean"),
            says="What the dynamic batcher gathers; near maxBatchSize the replicas are full.",
        ),
        lines(
            "Requests that wait in Triton",
            "short",
            (f"sum by (pod) (nv_inference_pending_request_count{{{OF_MODEL}}})", "{{pod}}"),
        ),
        lines(
            "Memory of the backend's processes",
            "bytes",
            (f"sum by (pod) (nlp_agent_model_memory_bytes{{{OF_MODEL}}})", "{{pod}}"),
        ),
        lines(
            "Recorded questions by result",
            "reqps",
            (f"sum by (result) (rate(nlp_agent_canary_requests_total{{{OF_MODEL}}}{RATE}))", "{{result}}"),
            says="The agent asks what it knows the answer to; anything but right is a fault.",
        ),
        lines(
            "Seconds of the last load, by pod",
            "s",
            (f"max by (pod) (nlp_agent_model_fetch_seconds{{{OF_MODEL}}})", "{{pod}}: fetch"),
            (f"max by (pod) (nlp_agent_model_load_seconds{{{OF_MODEL}}})", "{{pod}}: load"),
            (f"max by (pod) (nlp_agent_model_proof_seconds{{{OF_MODEL}}})", "{{pod}}: proof"),
        ),
    ),
)

POOL = Dashboard(
    "pool",
    "NLP models: device pools",
    "The pools: how full they are, with what, and for how much.",
    (POOLS,),
    (
        number("Usable", f"min(nlp_operator_pool_ready{{{OF_POOL}}})", "bool_yes_no"),
        number("Devices held", f"sum(nlp_operator_pool_devices_ours{{{OF_POOL}}})"),
        number("Devices at most", f"sum(nlp_operator_pool_devices_most{{{OF_POOL}}})"),
        number("Devices free", f"sum(nlp_operator_pool_devices_free{{{OF_POOL}}})"),
        number("Devices waited for", f"sum(nlp_operator_pool_devices_pending{{{OF_POOL}}})"),
        number(
            "Cost an hour",
            f"sum(nlp_operator_pool_devices_ours{{{OF_POOL}}} "
            f"* nlp_operator_pool_device_price_per_hour{{{OF_POOL}}})",
        ),
        lines(
            "Devices",
            "short",
            (f"sum by (pool) (nlp_operator_pool_devices_present{{{OF_POOL}}})", "{{pool}}: of its nodes"),
            (f"sum by (pool) (nlp_operator_pool_devices_ours{{{OF_POOL}}})", "{{pool}}: held by models"),
            (f"sum by (pool) (nlp_operator_pool_devices_free{{{OF_POOL}}})", "{{pool}}: free"),
            (f"sum by (pool) (nlp_operator_pool_devices_pending{{{OF_POOL}}})", "{{pool}}: waited for"),
        ),
        lines(
            "Pods that serve, by model",
            "short",
            (
                f"sum by (namespace, model) (nlp_agent_model_serving{{{OF_POOL}}})",
                "{{namespace}}/{{model}}",
            ),
        ),
        lines(
            "Requests/s by model",
            "reqps",
            (
                f"sum by (namespace, envoy_route) ({came(OF_POOL)})",
                "{{namespace}}/{{envoy_route}}",
            ),
        ),
        lines(
            "Memory of the servers' own processes",
            "bytes",
            (f"sum by (process) (nlp_agent_process_memory_bytes{{{OF_POOL}}})", "{{process}}"),
        ),
        lines(
            "Memory of models",
            "bytes",
            (
                f"sum by (namespace, model) (nlp_agent_model_memory_bytes{{{OF_POOL}}})",
                "{{namespace}}/{{model}}",
            ),
        ),
        lines(
            "Memory of GPUs in use",
            "percentunit",
            (
                f"sum by (uuid) (nlp_agent_device_memory_used_bytes{{{OF_POOL}}}) "
                f"/ sum by (uuid) (nlp_agent_device_memory_bytes{{{OF_POOL}}})",
                "{{uuid}}",
            ),
            says="Empty on pools without GPUs.",
        ),
    ),
)

OPERATOR = Dashboard(
    "operator",
    "NLP models: the operator",
    "The operator itself: is it well, what does it do, what does it cost?",
    (),
    (
        number("Processes that lead", "sum(nlp_operator_leader)", says="1, or nothing is repaired."),
        number("Keys that fail", "sum(nlp_operator_queue_failing)"),
        number("Oldest key waits", f"max(nlp_operator_queue_oldest_seconds {LEADER} == 1)", "s"),
        number("Models unsettled", "sum(nlp_operator_models_unsettled)"),
        number("Quietest watch", "max(nlp_operator_watch_age_seconds)", "s"),
        number("Lateness of the loop", "max(nlp_operator_loop_lag_seconds)", "s"),
        lines(
            "Passes/s",
            "ops",
            (
                f"sum by (kind, result) (rate(nlp_operator_reconcile_seconds_count{RATE}))",
                "{{kind}} {{result}}",
            ),
        ),
        lines(
            "Seconds of a pass, 99 %",
            "s",
            (
                "histogram_quantile(0.99, sum by (le, kind) "
                f"(rate(nlp_operator_reconcile_seconds_bucket{RATE})))",
                "{{kind}}",
            ),
            (
                f"histogram_quantile(0.99, sum by (le) (rate(nlp_operator_queue_wait_seconds_bucket{RATE})))",
                "wait for a worker",
            ),
        ),
        lines("Queue", "short", ("sum(nlp_operator_queue_depth)", "ready keys")),
        lines(
            "Writes/s",
            "wps",
            (f"sum by (kind, verb) (rate(nlp_operator_writes_total{RATE}))", "{{verb}} {{kind}}"),
            says="None while nothing changes.",
        ),
        lines(
            "Calls to the API server/s",
            "ops",
            (
                f"sum by (verb, answer) (rate(nlp_operator_api_call_seconds_count{RATE}))",
                "{{verb}} {{answer}}",
            ),
        ),
        lines(
            "Seconds of a decision for all models, 99 %",
            "s",
            (
                "histogram_quantile(0.99, sum by (le) "
                f"(rate(nlp_operator_autoscaler_look_seconds_bucket{RATE})))",
                "scaling",
            ),
            (
                f"histogram_quantile(0.99, sum by (le) (rate(nlp_operator_plan_seconds_bucket{RATE})))",
                "placement",
            ),
        ),
        lines(
            "Changes of replicas/s",
            "ops",
            (f"sum by (direction) (rate(nlp_operator_scalings_total{RATE}))", "{{direction}}"),
        ),
        lines(
            "What is asked, by result",
            "ops",
            (f"sum by (result) (rate(nlp_operator_agent_polls_total{RATE}))", "agents: {{result}}"),
            (f"sum by (result) (rate(nlp_operator_scrapes_total{RATE}))", "pods' metrics: {{result}}"),
            (
                f"sum by (result) (rate(nlp_operator_prometheus_looks_total{RATE}))",
                "Prometheus: {{result}}",
            ),
            says="Pods' metrics or Prometheus: as NLP_OPERATOR_SIGNALS has it.",
        ),
        lines(
            "CPU",
            "short",
            (f"rate(process_cpu_seconds_total{RATE}) {LEADER}", "{{pod}}"),
        ),
        lines(
            "Memory",
            "bytes",
            (f"process_resident_memory_bytes {LEADER}", "{{pod}}"),
        ),
        lines(
            "Objects in the caches",
            "short",
            ("sum(nlp_operator_cached_nlpmodels)", "models"),
            ("sum(nlp_operator_cached_pods)", "pods"),
            ("sum(nlp_operator_cached_deployments)", "Deployments"),
        ),
        lines("Events not posted", "short", ("sum(nlp_operator_events_dropped)", "dropped")),
        lines(
            "Activator: models",
            "short",
            ("max(nlp_activator_models)", "may sleep"),
            ("max(nlp_activator_asleep)", "sleep"),
            says="Here and below: empty where no activator is installed.",
        ),
        lines(
            "Activator: connections",
            "short",
            ("sum(nlp_activator_held)", "wait for a pod"),
            ("sum(nlp_activator_joined)", "have reached theirs"),
        ),
        lines(
            "Activator: wakes, and polls without one",
            "ops",
            (f"sum(rate(nlp_activator_woken_total{RATE}))", "wakes"),
            (f"sum(rate(nlp_activator_answered_total{RATE}))", "health checks and metadata"),
            says="A sleep that requests at several of its pods have ended is counted at each.",
        ),
        lines(
            "Activator: connections that were not served",
            "ops",
            (f"sum by (reason) (rate(nlp_activator_refused_total{RATE}))", "refused: {{reason}}"),
            (f"sum(rate(nlp_activator_left_total{RATE}))", "the client left"),
        ),
        lines(
            "Activator: seconds until a pod was reached",
            "s",
            (woken(0.5), "50 %"),
            (woken(0.95), "95 %"),
        ),
        lines(
            "Activator: memory",
            "bytes",
            ("process_resident_memory_bytes and on (instance) nlp_activator_models", "{{pod}}"),
        ),
    ),
)

DASHBOARDS = (FLEET, MODEL, POOL, OPERATOR)


# --- as Grafana reads them ---


def drawn(dashboard: Dashboard) -> dict[str, Any]:
    return {
        "uid": f"nlp-operator-{dashboard.name}",
        "title": dashboard.title,
        "description": dashboard.says,
        "tags": ["nlp-operator"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [
            {"type": "dashboards", "tags": ["nlp-operator"], "title": "NLP models", "asDropdown": True}
        ],
        "templating": {"list": [DATASOURCE, *map(choice, dashboard.variables)]},
        "panels": placed(dashboard.panels),
    }


DATASOURCE = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def choice(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": variable.values, "refId": variable.name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def placed(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """From left to right, then below; numbers are half as high."""
    found, x, y, row = [], 0, 0, 0
    for number_, panel in enumerate(panels, start=1):
        height = HEIGHT // 2 if panel.kind == "stat" else HEIGHT
        if x + panel.width > COLUMNS or (row and height != row):
            x, y = 0, y + row
        row = height
        found.append(shown(panel, number_, {"h": height, "w": panel.width, "x": x, "y": y}))
        x += panel.width
    return found


def shown(panel: Panel, number_: int, position: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number_,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": SOURCE,
                "expr": query.text,
                "legendFormat": query.legend or "__auto",
            }
            for place, query in enumerate(panel.queries)
        ],
    }


# --- files ---

RULE_HEADER = """\
# alerts.yaml for the Prometheus operator, by tools/monitoring.py: change it there, then `make generate`.
"""


def rule(alerts: dict[str, Any]) -> str:
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "nlp-operator",
            "namespace": "nlp-system",
            "labels": {"app.kubernetes.io/name": "nlp-operator"},
        },
        "spec": alerts,
    }
    return RULE_HEADER + yaml.safe_dump(manifest, sort_keys=False, width=110, allow_unicode=True)


def render() -> dict[str, str]:
    alerts = yaml.safe_load((ROOT / "manifests/monitoring/alerts.yaml").read_text(encoding="utf-8"))
    files = {
        f"dashboards/nlp-{one.name}.json": json.dumps(drawn(one), indent=1, ensure_ascii=False) + "\n"
        for one in DASHBOARDS
    }
    return files | {"prometheus-rule.yaml": rule(alerts)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.monitoring", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", type=Path, metavar="FOLDER")
    action.add_argument("--check", type=Path, metavar="FOLDER")
    chosen = parser.parse_args(arguments)
    files = render()
    if chosen.write is not None:
        for path, text in files.items():
            (chosen.write / path).write_text(text, encoding="utf-8")
        return 0
    stale = [
        path
        for path, text in files.items()
        if not (chosen.check / path).is_file() or (chosen.check / path).read_text(encoding="utf-8") != text
    ]
    if stale:
        print(f"{', '.join(stale)} in {chosen.check} is not what tools/monitoring.py says.", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
