from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.monitoring.manifests import FOLDER, panels, queries
from tests.monitoring.test_alerts import promtool
from tools.monitoring import DASHBOARDS, Dashboard, drawn


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: str(one.name))
def test_panels_lie_beside_each_other_within_the_width_of_the_page(dashboard: Dashboard) -> None:
    taken: Counter[tuple[int, int]] = Counter()
    for panel in drawn(dashboard)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        taken.update(
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        )
    assert set(taken.values()) == {1}


def test_every_query_is_of_one_program_and_uses_the_variables_there_are() -> None:
    for query in queries():
        assert query.names, query
        assert "$" not in query.text.replace("$__", ""), query
        assert "vector(0)" not in query.text, "what is not there is not zero"
        assert len(query.pages) == 1, f"{query.where} joins two scrapes: {query.text}"


@pytest.mark.jobs
def test_what_envoy_refuses_is_load_in_each_panel_that_shows_it(tmp_path: Path) -> None:
    """As the operator counts it, or a full pod looks calm there."""
    of = 'namespace="demo",envoy_route="novels",model="novels",pool="cpu"'
    series = {
        f"envoy_vhost_route_upstream_rq_total{{{of}}}": 60,
        f'envoy_vhost_route_upstream_rq{{{of},envoy_response_code="200"}}': 30,
        f'envoy_vhost_route_upstream_rq{{{of},envoy_response_code="504"}}': 30,
        f'envoy_vhost_route_upstream_rq{{{of},envoy_response_code="503"}}': 120,
    }
    shown = [one.text for one in queries(300) if "envoy_vhost_route_upstream_rq_total" in one.names]
    assert len(shown) == 5
    told = [{"labels": "{}", "value": 3}]
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": f"0+{each}x10"} for name, each in series.items()],
        "promql_expr_test": [
            {"expr": f"sum({text})", "eval_time": "10m", "exp_samples": told} for text in shown
        ],
    }
    asked = tmp_path / "panels.yaml"
    asked.write_text(yaml.safe_dump({"tests": [test]}))
    ran = promtool("test", "rules", asked)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_dashboards_are_told_apart_and_name_their_panels_once() -> None:
    files = [json.loads(one.read_text(encoding="utf-8")) for one in sorted((FOLDER / "dashboards").iterdir())]
    assert len({one["uid"] for one in files}) == len(files) == len(DASHBOARDS)
    assert max(Counter(where for where, _ in panels()).values()) == 1
