"""The alerts and the queries of the dashboards, as a Prometheus gets them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.prometheus_server import PrometheusServer

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "manifests" / "monitoring"
ALERTS = FOLDER / "alerts.yaml"
VARIABLES = {"$namespace": ".*", "$model": ".*", "$pool": ".*"}
"""What Grafana puts in for "All"."""
NAME = re.compile(r"\b(?:nlp_operator|nlp_activator|nlp_agent|nv|envoy|process)_\w+\b")
LABELS = {"envoy_route", "envoy_response_code", "envoy_response_code_class"}


@dataclass(frozen=True)
class Query:
    where: str
    text: str

    @property
    def names(self) -> set[str]:
        """The metrics it is of."""
        return set(NAME.findall(self.text)) - LABELS

    @property
    def pages(self) -> set[str]:
        """Whose pages it asks for: one's, for scrapes are not of one moment."""
        return {page_of(name) for name in self.names if not name.startswith("process_")}


def page_of(name: str) -> str:
    """Who tells of a metric."""
    return next((who for who in ("operator", "activator") if name.startswith(f"nlp_{who}_")), "server")


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted((FOLDER / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]:
            yield f"{file.stem}: {panel['title']}", panel


def queries(rate_seconds: int = 60) -> list[Query]:
    """Of every panel, with what Grafana puts in its variables' place."""
    found = []
    for where, panel in panels():
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", f"{rate_seconds}s")
            for name, value in VARIABLES.items():
                text = text.replace(name, value)
            found.append(Query(where, text))
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def fault_of(server: PrometheusServer, query: Query) -> str:
    """Why a panel would show nothing; empty when it shows finite numbers."""
    rows = server.query(query.text)
    if not rows:
        return f"{query.where}: nothing for {query.text}"
    odd = [row["value"][1] for row in rows if not math.isfinite(float(row["value"][1]))]
    return f"{query.where}: {odd[0]} for {query.text}" if odd else ""
