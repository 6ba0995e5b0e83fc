"""The operator that asks a real Prometheus: models follow their load, and what it tells of itself is what the
dashboards and alerts ask for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress

import pytest

from nlp_operator.api.objects import Obj
from nlpctl.__main__ import main
from tests.cluster.running.loaded import ByPrometheus, by_prometheus
from tests.cluster.running.rig import make_pool, until
from tests.monitoring.manifests import Query, fault_of, page_of, queries, rules

BUSY, QUIET = 25.0, 2.0
HURRIED = {"quantile": "0.95", "milliseconds": 80}
"""Less than a request takes: all are late, with any number of replicas."""


@pytest.fixture(scope="module")
def told() -> Iterator[ByPrometheus]:
    with by_prometheus("127.80.0.0/16") as found:
        yield found


def test_models_follow_the_load_that_prometheus_tells_and_the_dashboards_show_it(told: ByPrometheus) -> None:
    signals, scene = told.signals, told.signals.scene
    signals.model("novels", BUSY)
    signals.model("hurried", QUIET, scaling={"maxReplicas": 1, "latencyTarget": HURRIED})
    for model in ("novels", "hurried"):
        scene.wait_ready(model, seconds=60)
    until(lambda: signals.replicas("novels") >= 3, "more replicas of novels", seconds=90)
    assert scene.wait_for("novels", "SignalsAvailable", "True", "Measured", seconds=60)
    assert scene.wait_for("hurried", "ScaleLimited", "True", "Ineffective", seconds=90)
    asked = [query for query in queries() if query.pages == {"operator"}]
    assert len(asked) > 50

    found: list[str] = []

    def whole() -> bool:
        found[:] = [fault for query in asked if (fault := fault_of(told.server, query))]
        return not found

    # Panels tell of the last minute, and a fleet at rest is not planned: a pool that nobody needs is news.
    signals.plane.apply(make_pool("test-dear", devices=1, pricePerHour="99"))
    with suppress(AssertionError):  # what is said is which panels do not
        until(whole, "every panel of the operator shows finite numbers", seconds=60)
    assert found == []
    wanted = {name for rule in rules() for name in Query("", rule["expr"]).names}
    own = {name for name in wanted if page_of(name) == "operator"}
    assert len(own) > 10
    assert [name for name in sorted(own) if not told.server.query(name)] == []

    def namespace_of_the_load() -> str:
        (load,) = told.server.query('nlp_operator_model_requests_per_second{model="novels"}')
        whole = float(load["value"][1]) == pytest.approx(BUSY, rel=0.2)
        return str(load["metric"]["namespace"]) if whole else ""

    whose = until(namespace_of_the_load, "the whole load of novels is told", seconds=60)
    assert whose == "signals", "the model's own, not that of the operator's pod"


def test_nlpctl_shows_the_load_and_how_the_model_was_scaled(
    told: ByPrometheus, capsys: pytest.CaptureFixture[str]
) -> None:
    def nlpctl(*words: str) -> Obj:
        with suppress(SystemExit):  # what it prints says whether it could
            main(["--kubeconfig", str(told.signals.plane.kubeconfig), *words, "--json"])
        found: Obj = json.loads(capsys.readouterr().out)
        return found

    port = told.signals.operator.port_of("metrics")

    def at_rest() -> Obj | None:
        """What is told in one look in which every wanted replica is ready and the whole load is measured: of
        pods that have changed nothing is known first, and then not what one counted before it was asked."""
        looked = nlpctl("top", "-n", "signals", "--address", f"127.0.0.1:{port}")
        rows = {row["model"]: row for row in looked["models"]}
        ready = {row["readyReplicas"] == row["replicas"] == row["wantedReplicas"] for row in rows.values()}
        measured = {
            row[signal] is not None for row in rows.values() for signal in ("requestsPerSecond", "lateShare")
        }
        whole = rows["novels"]["requestsPerSecond"] == pytest.approx(BUSY, rel=0.2)
        return looked if whole and ready == measured == {True} else None

    shown = until(at_rest, "every wanted replica is ready and the whole load is measured", seconds=60)
    assert shown["unread"] == []
    hurried, novels = shown["models"]
    assert (hurried["model"], novels["model"]) == ("hurried", "novels"), "who is late comes first"
    assert hurried["scaleLimited"] == "Ineffective"
    assert hurried["lateShare"] == pytest.approx(1.0)
    assert (hurried["quantile"], hurried["targetSeconds"]) == (0.95, 0.08)
    assert 0.1 < novels["latencySeconds"] < 0.15
    assert novels["readyReplicas"] == novels["replicas"] == novels["wantedReplicas"] >= 3
    assert novels["lateShare"] == 0

    def why() -> Obj | None:
        """Once what is told of the last change is that of now."""
        scaling = nlpctl("why", "novels", "-n", "signals")["scaling"]
        now, wanted = told.signals.told("novels"), told.signals.replicas("novels")
        agree = scaling["history"][-1]["to"] == scaling["desired"] == wanted
        return scaling if agree and scaling["reason"] == now["reason"] else None

    scaling = until(why, "the history ends with what is wanted")
    assert scaling["history"][0]["from"] == 1
    assert scaling["history"][0]["why"].startswith("About ")


def test_of_a_server_that_models_share_prometheus_tells_the_load_of_each(told: ByPrometheus) -> None:
    signals, scene = told.signals, told.signals.scene
    signals.plane.apply(make_pool("test-shared", devices=5, memoryMebibytes=2048))
    server = signals.together("test-shared", verbs=BUSY, nouns=QUIET)
    until(lambda: signals.replicas_of(server) >= 3, "more replicas of the server", seconds=90)
    for model in ("verbs", "nouns"):
        scene.wait_for(model, "SignalsAvailable", "True", "Measured", seconds=60)
    until(lambda: signals.told("verbs")["desired"] == signals.replicas_of(server), "it is told")
    assert signals.told("nouns")["desired"] == 1
