"""A real node: containerd, the kubelet and kube-proxy in a room, CoreDNS and volumes beside it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from localcluster import binaries, cgroups, containerd, paths
from localcluster.api import Object
from localcluster.containerd import Containerd
from localcluster.control_plane import ControlPlane, flags
from localcluster.debian import Unpacked
from localcluster.network import Networks, cni_config
from localcluster.processes import plain_environment
from localcluster.progress import Progress
from localcluster.room import HOSTNAME, Room

DEBIAN_PACKAGES = ("containerd", "crun", "containernetworking-plugins", "nftables", "iproute2")
DEBIAN_PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr", "crun", "nft", "ip", "ptp", "host-local")
GO_PROGRAMS = ("kubelet", "kube-proxy", "coredns", "pause")

STORAGE_CLASS = "local"
PROVISIONER = "nlp-operator.io/local"

_READY_SECONDS = 120.0

_EVICTION_SIGNALS = (
    "memory.available",
    "imagefs.available",
    "imagefs.inodesFree",
    "nodefs.available",
    "nodefs.inodesFree",
)

_DNS_PORT = 5300
"""Where CoreDNS listens on the machine's end of the link. Not 53: another server may hold it."""


class Node:
    """Starts the node of one cluster, part by part."""

    def __init__(
        self, *, folder: Path, room: Room, networks: Networks, programs: Unpacked, plane: ControlPlane
    ) -> None:
        self.folder = folder
        self.room = room
        self.networks = networks
        self.plane = plane
        self.containerd = Containerd(room, programs)
        self._programs = programs
        self._go = binaries.ensure(GO_PROGRAMS)
        # Libraries and programs of unpacked packages are found by name, down to the runtime of a container;
        # containers themselves get none of these variables.
        self._environment = {**plain_environment(), **programs.environment()}

    def run(self, progress: Progress) -> None:
        """Start everything and wait until the node is Ready and a name resolves through a Service."""
        with progress.step("start containerd"):
            self.start_containerd()
        with progress.step("start kubelet, kube-proxy and CoreDNS"):
            self.start_kubelet()
            self.start_kube_proxy()
            self.plane.apply(*addons(self.networks))
            self.start_coredns()
            self.start_provisioner()
        with progress.step("wait until the node is ready"):
            self.plane.processes.wait_until(
                "kubelet", self._ready, _READY_SECONDS, "did not make the node Ready"
            )

    def start_containerd(self) -> None:
        """containerd with the sandbox image, and nothing of an earlier cluster but its images."""
        crun = self._programs.find("crun")
        plugin = self._programs.find("ptp")
        assert crun is not None
        assert plugin is not None
        image = containerd.write_pause_image(self._go["pause"], self.folder / "pause.tar")
        config = self.folder / "containerd.toml"
        root = paths.cache_dir() / "containerd"
        root.mkdir(parents=True, exist_ok=True)
        config.write_text(
            containerd.make_config(root=root, sandbox_image=image, crun=crun, cni_bin=plugin.parent)
        )
        cni = self.folder / "nlp-operator.conflist"
        cni.write_text(json.dumps(cni_config(self.networks, Path("/var/lib/cni/networks")), indent=2))
        self.room.run("mkdir", "-p", containerd.CNI_CONFIG)
        self.room.run("cp", cni, f"{containerd.CNI_CONFIG}/10-nlp-operator.conflist")
        self._launch_containerd(config)
        if self.containerd.remove_containers():
            # The CRI part read them when it started and would speak of them as if they were there.
            self.room.stop("containerd")
            self._launch_containerd(config)
        if not self.containerd.has_image(image):
            self.containerd.import_image(self.folder / "pause.tar")

    def _launch_containerd(self, config: Path) -> None:
        program = self._programs.find("containerd")
        assert program is not None
        log = self.plane.processes.log("containerd")
        before = log.stat().st_size if log.exists() else 0
        self.room.start("containerd", [program, "--config", config], self._environment)
        self.plane.processes.wait_until(
            "containerd",
            lambda: serves_pods(log, before) and self._containerd_answers(),
            60,
            "did not answer",
        )

    def _containerd_answers(self) -> bool:
        socket = Path(f"/proc/{self.room.init.pid}/root{containerd.SOCKET}")
        if not socket.exists():
            return False
        ctr = self._programs.find("ctr")
        assert ctr is not None
        answer = self.room.run("sh", "-c", f"{ctr} --address {containerd.SOCKET} plugins list -q || true")
        return "cri" in answer

    def start_kubelet(self) -> None:
        cgroups.make()
        pair = self.plane.pki.authority.issue(
            "kubelet", f"system:node:{HOSTNAME}", "system:nodes", hosts=[self.networks.node, HOSTNAME]
        )
        config = self.folder / "kubelet.yaml"
        config.write_text(
            yaml.safe_dump(kubelet_config(self.networks, self.plane.authority, pair.certificate, pair.key))
        )
        kubeconfig = self.plane.component_kubeconfig(
            "kubelet-to-apiserver", f"system:node:{HOSTNAME}", "system:nodes"
        )
        own = {
            "config": str(config),
            "kubeconfig": str(kubeconfig),
            "node-ip": self.networks.node,
            "hostname-override": HOSTNAME,
            "root-dir": "/var/lib/kubelet",
        }
        self.room.start("kubelet", [self._go["kubelet"], *flags(own)], self._environment)

    def start_kube_proxy(self) -> None:
        config = self.folder / "kube-proxy.yaml"
        kubeconfig = self.plane.component_kubeconfig("kube-proxy", "system:kube-proxy")
        config.write_text(yaml.safe_dump(kube_proxy_config(self.networks, kubeconfig)))
        self.room.start("kube-proxy", [self._go["kube-proxy"], f"--config={config}"], self._environment)

    def start_coredns(self) -> None:
        """CoreDNS on the machine's side, where the machine's own resolvers can be reached."""
        kubeconfig = self.plane.component_kubeconfig("coredns", "coredns")
        resolvers = Path("/etc/resolv.conf")
        upstream = resolvers.exists() and "nameserver" in resolvers.read_text()
        file = self.folder / "Corefile"
        file.write_text(corefile(self.networks, kubeconfig, upstream=upstream))
        self.plane.processes.start("coredns", [self._go["coredns"], "-conf", file])

    def start_provisioner(self) -> None:
        volumes = self.folder / "volumes"
        volumes.mkdir(mode=0o755, exist_ok=True)
        plane = self.plane
        pair = plane.pki.authority.issue("provisioner", "localcluster:provisioner", "system:masters")
        place: list[str | Path] = [plane.url, plane.authority, pair.certificate, pair.key, volumes]
        argv = [sys.executable, "-m", "localcluster.provisioner", *place]
        source_root = str(Path(__file__).resolve().parent.parent)
        self.plane.processes.start("provisioner", argv, {**plain_environment(), "PYTHONPATH": source_root})

    def _ready(self) -> bool:
        node = self.plane.api.find(f"/api/v1/nodes/{HOSTNAME}")
        conditions: Sequence[Object] = (node or {}).get("status", {}).get("conditions", ())
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def serves_pods(log: Path, start: int) -> bool:
    """Whether the containerd whose log begins at byte `start` has its CRI part ready.

    It lists that part, and answers on its socket, before the part has read what is left of earlier pods; a
    kubelet that asks meanwhile is told "server is not initialized yet", and ends. This line comes after.
    """
    with log.open("rb") as file:
        file.seek(start)
        return b"Start streaming server" in file.read()


def kubelet_config(networks: Networks, authority: Path, certificate: Path, key: Path) -> Object:
    """What differs from the kubelet's defaults, and why."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(certificate),
        "tlsPrivateKeyFile": str(key),
        "containerRuntimeEndpoint": f"unix://{containerd.SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroups.NAME}",
        # Version 1 is refused since Kubernetes 1.35 unless asked for; containers do not care.
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDomain": "cluster.local",
        "clusterDNS": [networks.dns],
        # Pods that ask for the node's resolvers get CoreDNS too: the machine's may be on its loopback.
        "resolvConf": "",
        # cAdvisor cannot map every root device, and then the kubelet logs an error a second.
        "localStorageCapacityIsolation": False,
        # This machine is a workstation: the kubelet shall not empty it when a disk gets full.
        "evictionHard": dict.fromkeys(_EVICTION_SIGNALS, "0%"),
        "imageGCHighThresholdPercent": 100,
        "imageMaximumGCAge": "0s",
        # A container that was killed is back after a second, not after ten seconds and up to five minutes.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
        "featureGates": {"KubeletCrashLoopBackOffMax": True},
        "serializeImagePulls": False,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    }


def kube_proxy_config(networks: Networks, kubeconfig: Path) -> Object:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        # Not a second, as by default, in which a pod that has just become ready is refused.
        "nftables": {"minSyncPeriod": "100ms"},
        "hostnameOverride": HOSTNAME,
        # What does not come from a pod is masqueraded: so an answer to this machine finds its way back.
        "detectLocalMode": "ClusterCIDR",
        "clusterCIDR": networks.pods,
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # The size of the connection table belongs to the whole machine; leave it.
        "conntrack": {"maxPerCore": 0, "min": 0},
    }


def corefile(networks: Networks, kubeconfig: Path, *, upstream: bool) -> str:
    """CoreDNS' configuration; without `upstream` names outside the cluster are refused."""
    forward = "    forward . /etc/resolv.conf\n" if upstream else ""
    return f"""\
.:{_DNS_PORT} {{
    bind {networks.host}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig}
        ttl 2
    }}
{forward}    cache 2
    loadbalance
}}
"""


def addons(networks: Networks) -> list[Object]:
    """The Service of DNS, what CoreDNS may read, and the storage class."""
    labels = {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}
    ports = [("dns", "UDP"), ("dns-tcp", "TCP")]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
            # No selector: CoreDNS is no pod, and the slice below says where it is.
            "spec": {
                "clusterIP": networks.dns,
                "ports": [
                    {"name": name, "protocol": protocol, "port": 53, "targetPort": _DNS_PORT}
                    for name, protocol in ports
                ],
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns-local",
                "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns", **labels},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [networks.host], "conditions": {"ready": True}}],
            "ports": [{"name": name, "protocol": protocol, "port": _DNS_PORT} for name, protocol in ports],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "localcluster:coredns"},
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["services", "pods", "namespaces"],
                    "verbs": ["list", "watch"],
                },
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["list", "watch"],
                },
            ],
        },
        _binding("localcluster:coredns", "coredns"),
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": STORAGE_CLASS,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": PROVISIONER,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "Immediate",
        },
    ]


def _binding(role: str, user: str) -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": role},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }
