"""What an overlay gets that names the component, and whether it finds the pods it is for."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest
import yaml

from localcluster.binaries import ensure
from localcluster.progress import Progress
from nlp_operator.api.objects import Obj, kind, labels
from tests.monitoring.manifests import ALERTS, FOLDER, ROOT
from tests.nlp_operator.making import World, make_model

Built = dict[tuple[str, str], Obj]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    overlay = tmp_path_factory.mktemp("overlay")
    resources = [os.path.relpath(ROOT / "manifests" / "with-activator", overlay)]
    components = [os.path.relpath(FOLDER, overlay)]
    whole = {"resources": resources, "components": components}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(whole))
    kubectl = ensure(["kubectl"], Progress(quiet=True))["kubectl"]
    ran = subprocess.run([kubectl, "kustomize", overlay], capture_output=True, text=True, check=True)
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(ran.stdout)}


@pytest.mark.cluster
def test_the_overlay_has_the_dashboards_the_alerts_and_the_monitors(built: Built) -> None:
    dashboards = built["ConfigMap", "nlp-operator-dashboards"]
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    titles = {json.loads(text)["title"] for text in dashboards["data"].values()}
    assert titles == {f"NLP models: {one}" for one in ("fleet", "one model", "device pools", "the operator")}
    assert built["PrometheusRule", "nlp-operator"]["spec"] == yaml.safe_load(ALERTS.read_text())
    assert ("Deployment", "nlp-operator") in built
    (endpoint,) = built["ServiceMonitor", "nlp-operator-metrics"]["spec"]["endpoints"]
    assert endpoint["honorLabels"], "a model's namespace is its own"


def selected(selector: Obj, pod: Obj) -> bool:
    wanted: dict[str, str] = selector["matchLabels"]
    return wanted.items() <= labels(pod).items()


@pytest.mark.cluster
def test_the_pod_monitor_finds_server_pods_and_no_others(built: Built) -> None:
    monitor = built["PodMonitor", "nlp-operator-servers"]["spec"]
    templates = [
        one["spec"]["template"]
        for one in World(make_model()).up().objects.values()
        if kind(one) in ("Deployment", "Job")
    ]
    found = [one for one in templates if selected(monitor["selector"], one)]
    assert [component(one) for one in found] == ["server"]
    assert {"fetch", "build"} <= {component(one) for one in templates if one not in found}
    (endpoint,) = monitor["podMetricsEndpoints"]
    ports = {port["name"]: port["containerPort"] for port in found[0]["spec"]["containers"][0]["ports"]}
    assert ports[endpoint["port"]] == 8002
    (relabel,) = endpoint["relabelings"]
    (label,) = relabel["sourceLabels"]
    assert label.removeprefix("__meta_kubernetes_pod_label_") in {
        name.replace(".", "_").replace("/", "_").replace("-", "_") for name in labels(found[0])
    }


def component(template: Obj) -> Any:
    return labels(template)["app.kubernetes.io/component"]


def test_the_plain_configuration_scrapes_what_the_monitors_do() -> None:
    jobs = yaml.safe_load((FOLDER / "scrape.yaml").read_text(encoding="utf-8"))["scrape_configs"]
    servers, operator, activator = jobs
    monitor = yaml.safe_load((FOLDER / "pod-monitor.yaml").read_text(encoding="utf-8"))["spec"]
    (selector,) = servers["kubernetes_sd_configs"][0]["selectors"]
    wanted = dict(pair.split("=") for pair in selector["label"].split(","))
    assert wanted == monitor["selector"]["matchLabels"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert (servers["scrape_interval"], servers["scrape_timeout"]) == (
        endpoint["interval"],
        endpoint["scrapeTimeout"],
    )
    assert operator["honor_labels"] is True
    assert label_of(activator) == activator_labels()["app.kubernetes.io/name"] == activator["job_name"]
    assert {one.get("target_label") for one in servers["relabel_configs"]} >= {"namespace", "pod", "pool"}


def label_of(job: Obj) -> str:
    (selector,) = job["kubernetes_sd_configs"][0]["selectors"]
    return str(selector["label"]).removeprefix("app.kubernetes.io/name=")


def activator_labels() -> dict[str, str]:
    text = (ROOT / "manifests" / "activator" / "deployment.yaml").read_text(encoding="utf-8")
    return labels(yaml.safe_load(text)["spec"]["template"])


@pytest.mark.cluster
def test_the_monitor_of_the_activator_finds_its_service_and_the_port_of_its_page(built: Built) -> None:
    monitor = built["ServiceMonitor", "nlp-operator-activator"]["spec"]
    services = [
        one for one in built.values() if kind(one) == "Service" and selected(monitor["selector"], one)
    ]
    (service,) = services
    (endpoint,) = monitor["endpoints"]
    (port,) = service["spec"]["ports"]
    assert port["name"] == endpoint["port"]
    template = built["Deployment", "nlp-operator-activator"]["spec"]["template"]
    assert service["spec"]["selector"].items() <= labels(template).items()
    (listening,) = template["spec"]["containers"][0]["ports"]
    assert listening["name"] == port["targetPort"]
    assert (
        service["metadata"]["namespace"]
        == built["ServiceMonitor", "nlp-operator-activator"]["metadata"]["namespace"]
    )
    others = built["ServiceMonitor", "nlp-operator-metrics"]["spec"]["selector"]
    assert not selected(others, service), "else the activator would be scraped as the operator"
