"""The node itself: what the tests beside this one take for granted."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from localcluster.cluster import Cluster, resolves
from localcluster.room import HOSTNAME

Object = dict[str, Any]


def make_pod(name: str, namespace: str, image: str, script: str, **spec: Any) -> Object:
    """A pod that runs a shell script under Pod Security `restricted`."""
    container = {
        "name": "main",
        "image": image,
        "args": [script],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "readOnlyRootFilesystem": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **spec.pop("container", {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            **spec,
        },
    }


def eventually(check: Callable[[], Any], seconds: float = 60) -> Any:
    """What `check` gives once it is true."""
    deadline = time.monotonic() + seconds
    while not (seen := check()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)
    return seen


def resolve(name: str) -> str:
    """Shell that sets `$a` to a name's address. A static wget cannot look names up itself."""
    return f"a=$(nslookup {name} | awk '/^Address: /{{print $2}}'); "


def status_of(cluster: Cluster, namespace: str, pod: str) -> Object:
    status: Object = cluster.api.get(f"/api/v1/namespaces/{namespace}/pods/{pod}")["status"]
    return status


def output_of(cluster: Cluster, namespace: str, pod: str) -> str:
    """What a pod printed, after its end."""
    eventually(lambda: status_of(cluster, namespace, pod)["phase"] in ("Succeeded", "Failed"))
    return cluster.kubectl("logs", "-n", namespace, pod)


def test_pod_runs_as_nobody_and_its_logs_come_back(cluster: Cluster, namespace: str, toolbox: str) -> None:
    cluster.apply(make_pod("speaks", namespace, toolbox, "echo 막걸리; id -u"))
    assert output_of(cluster, namespace, "speaks") == "막걸리\n65535\n"


def test_pod_finds_a_service_by_name_and_so_does_the_machine(
    cluster: Cluster, namespace: str, toolbox: str
) -> None:
    serve = "echo here >/tmp/index.html; exec httpd -f -p 8080 -h /tmp"
    volumes = {
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "container": {
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            "readinessProbe": {"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "answers", "namespace": namespace},
        "spec": {"selector": {"app": "answers"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    cluster.apply(service, make_pod("answers", namespace, toolbox, serve, **volumes))
    cluster.kubectl("wait", "-n", namespace, "pod/answers", "--for=condition=Ready", "--timeout=60s")

    get = r"printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 $a 80 | tail -n 1"
    ask = resolve(f"answers.{namespace}.svc.cluster.local") + get
    cluster.apply(make_pod("asks", namespace, toolbox, ask))
    assert output_of(cluster, namespace, "asks") == "here\n"

    address = cluster.api.get(f"/api/v1/namespaces/{namespace}/services/answers")["spec"]["clusterIP"]
    with urllib.request.urlopen(f"http://{address}/", timeout=5) as answer:
        assert answer.read() == b"here\n"
    dns = cluster.api.get("/api/v1/namespaces/kube-system/services/kube-dns")["spec"]["clusterIP"]
    assert resolves(dns, f"answers.{namespace}.svc.cluster.local")
    assert not resolves(dns, f"absent.{namespace}.svc.cluster.local")

    # From the pod to itself through its Service: the way back must not take a short cut.
    assert cluster.kubectl("exec", "-n", namespace, "answers", "--", "sh", "-c", ask) == "here\n"


def test_pod_reaches_the_api_server_through_its_service(
    cluster: Cluster, namespace: str, toolbox: str
) -> None:
    script = resolve("kubernetes.default.svc.cluster.local") + "nc -w 5 $a 443 </dev/null && echo reached"
    cluster.apply(make_pod("asks", namespace, toolbox, script))
    assert output_of(cluster, namespace, "asks") == "reached\n"


def test_container_over_its_memory_limit_is_oom_killed(
    cluster: Cluster, namespace: str, toolbox: str
) -> None:
    limits = {"container": {"resources": {"limits": {"memory": "32Mi"}}}}
    # The shell holds what it reads in memory.
    script = 'grow=$(head -c 200000000 /dev/zero | tr "\\0" x); echo survived'
    cluster.apply(make_pod("grows", namespace, toolbox, script, **limits))
    eventually(lambda: status_of(cluster, namespace, "grows")["phase"] in ("Succeeded", "Failed"))
    terminated = status_of(cluster, namespace, "grows")["containerStatuses"][0]["state"]["terminated"]
    assert (terminated["exitCode"], terminated["reason"]) == (137, "OOMKilled")


def test_container_that_dies_is_back_in_a_moment_each_time(
    cluster: Cluster, namespace: str, toolbox: str
) -> None:
    cluster.apply(make_pod("dies", namespace, toolbox, "sleep 1; exit 1", restartPolicy="Always"))

    def restarts() -> int:
        statuses = status_of(cluster, namespace, "dies").get("containerStatuses", [])
        return int(statuses[0]["restartCount"]) if statuses else 0

    eventually(lambda: restarts() >= 1)
    started = time.monotonic()
    eventually(lambda: restarts() >= 5)
    # By Kubernetes' default the pauses alone are 10 + 20 + 40 + 80 s.
    assert time.monotonic() - started < 40


def test_termination_message_comes_back(cluster: Cluster, namespace: str, toolbox: str) -> None:
    cluster.apply(
        make_pod("tells", namespace, toolbox, "printf '{\"ok\": true}' >/dev/termination-log; exit 10")
    )
    eventually(lambda: status_of(cluster, namespace, "tells")["phase"] == "Failed")
    terminated = status_of(cluster, namespace, "tells")["containerStatuses"][0]["state"]["terminated"]
    assert (terminated["exitCode"], terminated["message"]) == (10, '{"ok": true}')


def test_claim_without_a_class_is_bound_shared_and_removed(
    cluster: Cluster, namespace: str, toolbox: str
) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "store", "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    mounted = {
        "volumes": [{"name": "store", "persistentVolumeClaim": {"claimName": "store"}}],
        "container": {"volumeMounts": [{"name": "store", "mountPath": "/store"}]},
    }
    cluster.apply(claim, make_pod("writes", namespace, toolbox, "echo shared >/store/file", **mounted))
    assert output_of(cluster, namespace, "writes") == ""
    folder = cluster.volume(namespace, "store")
    assert (folder / "file").read_text() == "shared\n"
    cluster.apply(make_pod("reads", namespace, toolbox, "cat /store/file", **mounted))
    assert output_of(cluster, namespace, "reads") == "shared\n"

    cluster.kubectl("delete", "-n", namespace, "pod/writes", "pod/reads", "pvc/store", "--timeout=60s")
    eventually(lambda: not folder.exists())


def test_ordinary_pod_stays_away_from_nodes_that_do_not_exist(
    cluster: Cluster, namespace: str, toolbox: str
) -> None:
    (fake,) = cluster.add_kwok_nodes(1, prefix=namespace, capacity={"example.com/device": 4})
    wants = {"resources": {"limits": {"example.com/device": 1}}}
    tolerates = {"tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}]}
    cluster.apply(
        make_pod("plain", namespace, toolbox, "true"),
        make_pod("unlucky", namespace, toolbox, "true", container=wants),
        make_pod("tolerant", namespace, toolbox, "true", container=wants, **tolerates),
    )
    output_of(cluster, namespace, "plain")
    eventually(lambda: status_of(cluster, namespace, "tolerant")["phase"] == "Running")
    placed = {
        pod["metadata"]["name"]: pod["spec"].get("nodeName")
        for pod in cluster.api.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
    }
    assert placed == {"plain": HOSTNAME, "unlucky": None, "tolerant": fake}
    cluster.api.delete(f"/api/v1/nodes/{fake}")


def test_changed_config_map_is_in_the_container_soon_after_an_annotation(
    cluster: Cluster, namespace: str, toolbox: str
) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": namespace},
        "data": {"word": "old"},
    }
    mounted = {
        "volumes": [{"name": "settings", "configMap": {"name": "settings"}}],
        "container": {"volumeMounts": [{"name": "settings", "mountPath": "/settings"}]},
    }
    cluster.apply(config, make_pod("reads", namespace, toolbox, "sleep 600", **mounted))
    cluster.kubectl("wait", "-n", namespace, "pod/reads", "--for=condition=Ready", "--timeout=60s")
    cluster.apply({**config, "data": {"word": "new"}})
    cluster.kubectl("annotate", "-n", namespace, "pod/reads", "nudge=1")

    def word() -> str:
        return cluster.kubectl("exec", "-n", namespace, "reads", "--", "sh", "-c", "cat /settings/word")

    # The kubelet looks by itself once a minute.
    eventually(lambda: word() == "new", seconds=15)


def test_image_that_is_nowhere_is_said_to_be_missing(cluster: Cluster, namespace: str) -> None:
    cluster.apply(make_pod("absent", namespace, "nlp-operator.local/absent:1", "true"))

    def reason() -> str:
        statuses = status_of(cluster, namespace, "absent").get("containerStatuses", [])
        return str(statuses[0]["state"].get("waiting", {}).get("reason", "")) if statuses else ""

    eventually(lambda: reason() in ("ErrImagePull", "ImagePullBackOff"))


@pytest.mark.parametrize("command", [["version"], ["get", "--raw", "/readyz"]], ids=["version", "ready"])
def test_kubectl_talks_to_the_cluster(cluster: Cluster, command: list[str]) -> None:
    assert cluster.kubectl(*command)
