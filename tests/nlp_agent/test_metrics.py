"""What the agent's own gauges say of its models."""

from __future__ import annotations

import pytest

from nlp_agent.decisions import Model
from nlp_agent.measures import Measures
from nlp_agent.metrics import AgentMetrics, ModelsCollector
from nlp_agent.server_config import Spec

ONE, THREE = Spec("words", "a" * 64, 8, 1), Spec("words", "a" * 64, 8, 3)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        pytest.param(Model("words", live=THREE), {"words": 3.0}, id="proven"),
        pytest.param(Model("words", live=ONE, late=THREE), {"words": 1.0}, id="more are to come"),
        pytest.param(Model("words", live=ONE, late=THREE, late_seen=2), {"words": 2.0}, id="seen to work"),
        pytest.param(Model("words"), {}, id="it does not serve"),
    ],
)
def test_instances_are_those_at_work(model: Model, expected: dict[str, float]) -> None:
    collector = ModelsCollector(lambda: {model.name: model}, Measures)
    (gauge,) = [one for one in collector.collect() if one.name == "nlp_agent_model_instances"]
    assert {sample.labels["model"]: sample.value for sample in gauge.samples} == expected


def test_model_that_begins_to_serve_has_the_zeros_that_alerts_need() -> None:
    metrics = AgentMetrics(dict, Measures)
    metrics.reloads.labels("novels").inc()
    metrics.begin("words")
    metrics.begin("novels")
    page = metrics.page().splitlines()
    assert 'nlp_agent_canary_requests_total{model="words",result="wrong"} 0.0' in page
    assert 'nlp_agent_reloads_total{model="words"} 0.0' in page
    assert 'nlp_agent_reloads_total{model="novels"} 1.0' in page, "it had served before"
