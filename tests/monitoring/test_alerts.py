"""The alerts: what makes each fire, what does not, and that somebody who is woken finds what to do."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster import debian
from tests.monitoring.manifests import ALERTS, ROOT, rules

PAGE = "docs/operations.md"
MODEL = 'namespace="demo",model="novels"'
ROUTE = 'namespace="demo",envoy_route="novels"'
OF_MODEL = {"namespace": "demo", "model": "novels"}


@dataclass(frozen=True)
class Case:
    alert: str
    at: str
    """When it is looked at."""
    bad: dict[str, str]
    """Series with their values, half a minute apart, by which it fires."""
    well: dict[str, str]
    """By which it does not."""
    labels: dict[str, str] = field(default_factory=dict)
    """Of the alert that fires, without its severity."""
    summary: str = ""


CASES = (
    Case(
        "NLPOperatorAbsent",
        "3m",
        bad={'nlp_operator_leader{instance="a"}': "0x20", 'nlp_operator_leader{instance="b"}': "0x20"},
        well={'nlp_operator_leader{instance="a"}': "0x20", 'nlp_operator_leader{instance="b"}': "1x20"},
        summary="No process of the operator leads.",
    ),
    Case(
        "NLPOperatorFailing",
        "16m",
        bad={"nlp_operator_queue_failing": "3x40"},
        well={"nlp_operator_queue_failing": "3x20 0x20"},
        summary="The operator fails at 3 objects.",
    ),
    Case(
        "NLPOperatorSlow",
        "6m",
        bad={
            'nlp_operator_queue_oldest_seconds{instance="a"}': "90x20",
            'nlp_operator_leader{instance="a"}': "1x20",
        },
        well={
            'nlp_operator_queue_oldest_seconds{instance="a"}': "90x20",
            'nlp_operator_leader{instance="a"}': "0x20",
        },
        labels={"instance": "a"},
        summary="A change has waited 1m 30s for the operator.",
    ),
    Case(
        "NLPOperatorDeaf",
        "6m",
        bad={"nlp_operator_watch_age_seconds": "300x20"},
        well={"nlp_operator_watch_age_seconds": "200x20"},
        summary="A watch of the operator has given no sign for 5m 0s.",
    ),
    Case(
        "NLPSignalsFailing",
        "11m",
        bad={
            'nlp_operator_prometheus_looks_total{result="ok"}': "0+1x40",
            'nlp_operator_prometheus_looks_total{result="failed"}': "0+3x40",
        },
        well={
            'nlp_operator_prometheus_looks_total{result="ok"}': "0+3x40",
            'nlp_operator_prometheus_looks_total{result="failed"}': "0+1x40",
        },
        summary="75% of the questions about the load of models fail.",
    ),
    Case(
        "NLPSignalsFailing",
        "11m",
        bad={
            'nlp_operator_scrapes_total{result="ok"}': "0x40",
            'nlp_operator_scrapes_total{result="failed"}': "0+9x40",
        },
        well={
            'nlp_operator_scrapes_total{result="ok"}': "0x40",
            'nlp_operator_scrapes_total{result="failed"}': "0x40",
        },
        summary="100% of the questions about the load of models fail.",
    ),
    Case(
        "NLPActivatorRefuses",
        "10m",
        bad={
            'nlp_activator_refused_total{reason="NotReady",instance="a"}': "0x10 4x30",
            'nlp_activator_refused_total{reason="NotReady",instance="b"}': "3x10 5x30",
            'nlp_activator_refused_total{reason="Untold",instance="a"}': "2x40",
        },
        well={
            'nlp_activator_refused_total{reason="NotReady",instance="a"}': "9x40",
            'nlp_activator_left_total{instance="a"}': "0+1x40",
        },
        labels={"reason": "NotReady"},
        summary="Requests to models that sleep are refused: NotReady, 6 in ten minutes.",
    ),
    Case(
        "NLPActivatorDown",
        "6m",
        bad={'up{job="ours-nlp-operator-activator",pod="a"}': "0x20"},
        well={
            'up{job="nlp-operator-activator",pod="a"}': "0x5 1x20",
            'up{job="their-activator",pod="a"}': "0x20",
        },
        labels={"job": "ours-nlp-operator-activator", "pod": "a"},
        summary="Prometheus gets no metrics of the activator pod a.",
    ),
    Case(
        "NLPActivatorDown",
        "11m",
        bad={'up{job="nlp-operator-activator",pod="a"}': "1x4 stale"},
        well={
            'up{job="nlp-operator-activator",pod="a"}': "1x4 stale",
            'up{job="nlp-operator-activator",pod="b"}': "1x40",
        },
        summary="Prometheus gets no metrics of any pod of the activator.",
    ),
    Case(
        "NLPActivatorDown",
        "80m",
        bad={
            'up{job="nlp-operator-activator",pod="a"}': "1x4 stale",
            f"nlp_operator_model_replicas{{{MODEL}}}": "0x200",
            f"nlp_operator_model_ready{{{MODEL}}}": "1x200",
        },
        well={
            'up{job="nlp-operator-activator",pod="a"}': "1x4 stale",
            f"nlp_operator_model_replicas{{{MODEL}}}": "0x200",
            f"nlp_operator_model_ready{{{MODEL}}}": "0x200",
            'nlp_operator_model_replicas{namespace="demo",model="words"}': "1x200",
            'nlp_operator_model_ready{namespace="demo",model="words"}': "1x200",
        },
        summary="Prometheus gets no metrics of any pod of the activator.",
    ),
    Case(
        "NLPModelStalled",
        "6m",
        bad={f"nlp_operator_model_stalled{{{MODEL}}}": "1x20"},
        well={f"nlp_operator_model_stalled{{{MODEL}}}": "1x5 0x20"},
        labels=OF_MODEL,
        summary="demo/novels waits for somebody to do something.",
    ),
    Case(
        "NLPModelNotReady",
        "31m",
        bad={
            f"nlp_operator_model_ready{{{MODEL}}}": "0x80",
            f"nlp_operator_model_stalled{{{MODEL}}}": "0x80",
        },
        well={
            f"nlp_operator_model_ready{{{MODEL}}}": "0x80",
            f"nlp_operator_model_stalled{{{MODEL}}}": "1x80",
        },
        labels=OF_MODEL,
        summary="demo/novels has not been ready for half an hour.",
    ),
    Case(
        "NLPModelDown",
        "6m",
        bad={
            f"nlp_operator_model_replicas_ready{{{MODEL}}}": "0x20",
            f"nlp_operator_model_replicas{{{MODEL}}}": "2x20",
        },
        well={
            f"nlp_operator_model_replicas_ready{{{MODEL}}}": "0x20",
            f"nlp_operator_model_replicas{{{MODEL}}}": "0x20",
        },
        labels=OF_MODEL,
        summary="No replica of demo/novels takes requests.",
    ),
    Case(
        "NLPModelLate",
        "11m",
        bad={
            f"nlp_operator_model_late_ratio{{{MODEL}}}": "0.2x40",
            f"nlp_operator_model_latency_target_quantile{{{MODEL}}}": "0.9x40",
            f"nlp_operator_model_requests_per_second{{{MODEL}}}": "5x40",
        },
        well={
            f"nlp_operator_model_late_ratio{{{MODEL}}}": "0.04x40",
            f"nlp_operator_model_latency_target_quantile{{{MODEL}}}": "0.95x40",
            f"nlp_operator_model_requests_per_second{{{MODEL}}}": "5x40",
        },
        labels=OF_MODEL,
        summary="20% of the requests of demo/novels are late.",
    ),
    Case(
        "NLPModelLate",
        "11m",
        bad={
            f"nlp_operator_model_late_ratio{{{MODEL}}}": "1x40",
            f"nlp_operator_model_latency_target_quantile{{{MODEL}}}": "0.95x40",
            f"nlp_operator_model_requests_per_second{{{MODEL}}}": "0.2x40",
        },
        well={
            f"nlp_operator_model_late_ratio{{{MODEL}}}": "1x40",
            f"nlp_operator_model_latency_target_quantile{{{MODEL}}}": "0.95x40",
            f"nlp_operator_model_requests_per_second{{{MODEL}}}": "0.01x40",
        },
        labels=OF_MODEL,
        summary="100% of the requests of demo/novels are late.",
    ),
    Case(
        "NLPModelFailing",
        "11m",
        bad={
            f'envoy_vhost_route_upstream_rq_xx{{{ROUTE},envoy_response_code_class="5"}}': "0+30x40",
            f"envoy_vhost_route_upstream_rq_completed{{{ROUTE}}}": "0+300x40",
        },
        well={
            f'envoy_vhost_route_upstream_rq_xx{{{ROUTE},envoy_response_code_class="4"}}': "0+30x40",
            f"envoy_vhost_route_upstream_rq_completed{{{ROUTE}}}": "0+300x40",
        },
        labels={**OF_MODEL, "envoy_route": "novels"},
        summary="10% of the requests of demo/novels fail.",
    ),
    Case(
        "NLPModelFailing",
        "11m",
        bad={  # Envoy refuses everything, and sends nothing on
            f'envoy_vhost_route_upstream_rq_xx{{{ROUTE},envoy_response_code_class="5"}}': "0+300x40",
            f"envoy_vhost_route_upstream_rq_completed{{{ROUTE}}}": "0+300x40",
            f"envoy_vhost_route_upstream_rq_total{{{ROUTE}}}": "0x40",
        },
        well={
            f"envoy_vhost_route_upstream_rq_completed{{{ROUTE}}}": "0+300x40",
            f"envoy_vhost_route_upstream_rq_total{{{ROUTE}}}": "0+300x40",
        },
        labels={**OF_MODEL, "envoy_route": "novels"},
        summary="100% of the requests of demo/novels fail.",
    ),
    Case(
        "NLPModelFailing",
        "11m",
        bad={
            f'nv_inference_request_failure{{{MODEL},reason="BACKEND"}}': "0+30x40",
            f'nv_inference_request_failure{{{MODEL},reason="CANCELED"}}': "0+30x40",
            f"nv_inference_request_success{{{MODEL}}}": "0+60x40",
        },
        well={
            f'nv_inference_request_failure{{{MODEL},reason="BACKEND"}}': "0x40",
            f'nv_inference_request_failure{{{MODEL},reason="CANCELED"}}': "0+30x40",
            f"nv_inference_request_success{{{MODEL}}}": "0+60x40",
        },
        labels=OF_MODEL,
        summary="25% of the requests of demo/novels fail.",
    ),
    Case(
        "NLPModelQuarantined",
        "6m",
        bad={f'nlp_agent_model_quarantined{{{MODEL},pod="a",reason="WrongAnswers"}}': "1x20"},
        well={f'nlp_agent_model_quarantined{{{MODEL},pod="a",reason="WrongAnswers"}}': "1x3 stale"},
        labels={**OF_MODEL, "reason": "WrongAnswers"},
        summary="A version of demo/novels is refused: WrongAnswers.",
    ),
    Case(
        "NLPModelAnswersWrong",
        "10m",
        # A pod that had just begun to serve; then it is asked twice at once, and reloaded or refused.
        bad={f'nlp_agent_canary_requests_total{{{MODEL},pod="a",result="wrong"}}': "_x15 0 2x20"},
        well={
            f'nlp_agent_canary_requests_total{{{MODEL},pod="a",result="wrong"}}': "_x15 0x20",
            f'nlp_agent_canary_requests_total{{{MODEL},pod="a",result="slow"}}': "_x15 0 2x20",
        },
        labels=OF_MODEL,
        summary="demo/novels gave a wrong answer to a recorded question.",
    ),
    Case(
        "NLPModelReloads",
        "20m",
        bad={f"nlp_agent_reloads_total{{{MODEL}}}": "_x10 0 5x50"},
        well={f"nlp_agent_reloads_total{{{MODEL}}}": "0x10 1x50"},
        labels=OF_MODEL,
        summary="The backend of demo/novels was reloaded 5 times in half an hour.",
    ),
    Case(
        "NLPModelScaleLimited",
        "11m",
        bad={f'nlp_operator_model_scale_limited{{{MODEL},reason="NoRoom"}}': "1x40"},
        well={f'nlp_operator_model_scale_limited{{{MODEL},reason="NoRoom"}}': "1x5 stale"},
        labels={**OF_MODEL, "reason": "NoRoom"},
        summary="demo/novels does not get the replicas it needs: NoRoom.",
    ),
    Case(
        "NLPModelSignalsUnknown",
        "11m",
        bad={f"nlp_operator_model_signals_known{{{MODEL}}}": "0x40"},
        well={f"nlp_operator_model_signals_known{{{MODEL}}}": "1x40"},
        labels=OF_MODEL,
        summary="Nothing is known of the load of demo/novels.",
    ),
    Case(
        "NLPServerUnscraped",
        "11m",
        bad={'up{job="nlp-system/nlp-operator-servers",namespace="demo",pod="a"}': "0x40"},
        well={'up{job="something-else",namespace="demo",pod="a"}': "0x40"},
        labels={"job": "nlp-system/nlp-operator-servers", "namespace": "demo", "pod": "a"},
        summary="Prometheus gets no metrics of the server pod demo/a.",
    ),
    Case(
        "NLPServerUnscraped",
        "11m",
        bad={'up{job="nlp-system/team-nlp-operator-servers",namespace="demo",pod="a"}': "0x40"},
        well={'up{job="nlp-system/mynlp-operator-servers",namespace="demo",pod="a"}': "0x40"},
        labels={"job": "nlp-system/team-nlp-operator-servers", "namespace": "demo", "pod": "a"},
        summary="Prometheus gets no metrics of the server pod demo/a.",
    ),
    Case(
        "NLPPoolUnusable",
        "11m",
        bad={'nlp_operator_pool_ready{pool="l4"}': "0x40"},
        well={'nlp_operator_pool_ready{pool="l4"}': "1x40"},
        labels={"pool": "l4"},
        summary="Pool l4 is not used as its spec says.",
    ),
    Case(
        "NLPPoolPending",
        "16m",
        bad={'nlp_operator_pool_devices_pending{pool="l4"}': "2x40"},
        well={'nlp_operator_pool_devices_pending{pool="l4"}': "2x20 0x20"},
        labels={"pool": "l4"},
        summary="Pods have waited a quarter of an hour for 2 devices of pool l4.",
    ),
    Case(
        "NLPPoolFull",
        "31m",
        bad={
            'nlp_operator_pool_devices_ours{pool="l4"}': "4x80",
            'nlp_operator_pool_devices_most{pool="l4"}': "4x80",
        },
        well={
            'nlp_operator_pool_devices_ours{pool="l4"}': "3x80",
            'nlp_operator_pool_devices_most{pool="l4"}': "4x80",
        },
        labels={"pool": "l4"},
        summary="Pool l4 is full.",
    ),
)


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    program = debian.unpack(["prometheus"], ["prometheus"]).find("promtool")
    assert program is not None
    return subprocess.run(
        [str(program), *map(str, words)], capture_output=True, text=True, timeout=120, check=False
    )


def told(case: Case) -> list[dict[str, Any]]:
    """The alert that is to fire, in promtool's words."""
    (rule,) = (one for one in rules() if one["alert"] == case.alert)
    return [
        {
            "exp_labels": case.labels | rule["labels"],
            "exp_annotations": rule["annotations"] | {"summary": case.summary},
        }
    ]


def question(case: Case, series: dict[str, str], alerts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "interval": "30s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": case.at, "alertname": case.alert, "exp_alerts": alerts}],
    }


@pytest.mark.jobs
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert} {case.summary}")
def test_an_alert_fires_when_it_is_bad_and_is_silent_when_it_is_well(case: Case, tmp_path: Path) -> None:
    for name, series, alerts in (("bad", case.bad, told(case)), ("well", case.well, [])):
        asked = tmp_path / f"{name}.yaml"
        whole = {"rule_files": [str(ALERTS)], "evaluation_interval": "30s"}
        asked.write_text(yaml.safe_dump(whole | {"tests": [question(case, series, alerts)]}))
        ran = promtool("test", "rules", asked)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_has_a_case() -> None:
    assert {case.alert for case in CASES} == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_what_is_wrong_and_where_to_read_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["labels"].keys() == {"severity"}
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert (page, anchor) == (PAGE, rule["alert"].lower())
    assert f'<a id="{anchor}"></a>`{rule["alert"]}`' in (ROOT / PAGE).read_text(encoding="utf-8")
    assert "vector(0)" not in rule["expr"], "what is not there is not zero"


@pytest.mark.jobs
def test_prometheus_takes_the_rules_and_the_scrape_configuration(tmp_path: Path) -> None:
    checked = promtool("check", "rules", ALERTS)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    scrape = yaml.safe_load((ALERTS.parent / "scrape.yaml").read_text(encoding="utf-8"))
    for job in scrape["scrape_configs"]:
        # Debian builds Prometheus without it.
        assert job.pop("kubernetes_sd_configs")[0]["role"] == "pod"
        job["static_configs"] = [{"targets": ["127.0.0.1:8002"]}]
    whole = tmp_path / "prometheus.yml"
    whole.write_text(yaml.safe_dump(scrape | {"rule_files": [str(ALERTS)]}))
    checked = promtool("check", "config", whole)
    assert checked.returncode == 0, checked.stdout + checked.stderr
