from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.monitoring.manifests import FOLDER, panels, queries
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


def test_dashboards_are_told_apart_and_name_their_panels_once() -> None:
    files = [json.loads(one.read_text(encoding="utf-8")) for one in sorted((FOLDER / "dashboards").iterdir())]
    assert len({one["uid"] for one in files}) == len(files) == len(DASHBOARDS)
    assert max(Counter(where for where, _ in panels()).values()) == 1
