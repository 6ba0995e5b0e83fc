"""A Kubernetes API server with its own etcd and certificates, as processes on this machine.

Any number of them run side by side, each in a folder of its own on ports of its own. They need neither root
nor containers. `localcluster.cluster` adds a real node to one of them.

    with ControlPlane.start(controllers=True, scheduler=True, kwok=True) as cluster:
        cluster.add_kwok_nodes(3, capacity={"nvidia.com/gpu": 4})
        cluster.kubectl("get", "nodes")
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType

import yaml

from localcluster import binaries, kwok, paths
from localcluster.access import Access, write_kubeconfig
from localcluster.api import Object
from localcluster.certificates import Authority, Pair, make_signing_key
from localcluster.ports import Ports
from localcluster.processes import Identity, Processes, identity_of
from localcluster.progress import Progress

_HERE = Path(__file__).parent

_READY_SECONDS = 120.0
"""The API server takes 3 s on an idle machine; a CI machine that compiles at the same time took 40."""


@dataclass(frozen=True)
class Options:
    """What a control plane is made of."""

    controllers: bool = False
    """Run kube-controller-manager: Jobs, Deployments, garbage collection, service accounts, volumes."""
    scheduler: bool = False
    kwok: bool = False
    address: str = "127.0.0.1"
    """Where the API server listens. Pods need an address they can reach, so a real node sets another."""
    service_network: str = "10.96.0.0/16"
    kwok_pod_network: str = "10.240.0.0/16"
    """Where the pods on kwok nodes get their addresses from."""
    kwok_stages: Sequence[Object | Path] = ()
    apiserver_flags: Mapping[str, str] = field(default_factory=dict)
    """More flags, or others in place of ours, by name without dashes."""
    controller_manager_flags: Mapping[str, str] = field(default_factory=dict)


class ControlPlane(Access):
    """A running control plane. `start` makes one; leaving the `with` block or `stop` ends it."""

    @classmethod
    def start(
        cls,
        *,
        controllers: bool = False,
        scheduler: bool = False,
        kwok: bool = False,
        kwok_stages: Sequence[Object | Path] = (),
        progress: Progress | None = None,
        **others: object,
    ) -> ControlPlane:
        """Start one in a new temporary folder and return it when it answers. See `Options` for the rest.

        Programs that are not in the cache are compiled first, which takes minutes.
        """
        options = Options(
            controllers=controllers,
            scheduler=scheduler,
            kwok=kwok,
            kwok_stages=kwok_stages,
            **others,  # type: ignore[arg-type]  # the fields of Options, spelled once there
        )
        base = paths.scratch_dir()
        sweep(base)
        folder = Path(tempfile.mkdtemp(dir=base, prefix="control-plane-"))
        write_owner(folder)
        plane = cls(folder, options, progress)
        try:
            plane.run()
        except BaseException:
            # Also a KeyboardInterrupt: nothing may outlive us.
            plane.stop()
            raise
        return plane

    def __init__(
        self,
        folder: Path,
        options: Options,
        progress: Progress | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.options = options
        self.processes = processes or Processes(folder)
        self._progress = progress or Progress(quiet=True)
        self._programs = binaries.ensure(_programs(options), self._progress)
        self._ports = Ports()
        self._port = self._ports.take(options.address)
        self._etcd_port = self._ports.take()
        self.pki = _make_pki(folder / "pki", options)
        super().__init__(
            url=f"https://{options.address}:{self._port}",
            folder=folder,
            authority=self.pki.authority.certificate,
            admin=self.pki.admin,
            kubectl=self._programs["kubectl"],
        )
        write_kubeconfig(self.kubeconfig, self.url, self.authority, self.pki.admin)

    def __enter__(self) -> ControlPlane:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def run(self) -> None:
        """Start the processes and wait until the API server, and the controllers if any, do their work."""
        self.start_etcd()
        self.start_apiserver()
        # The admin's kubeconfig serves the control plane's own parts badly: in the audit log and under RBAC
        # each has to be itself.
        if self.options.controllers:
            self.start_controller_manager()
        if self.options.scheduler:
            self.start_scheduler()
        if self.options.kwok:
            self.start_kwok()
        if self.options.controllers:
            self.processes.wait_until(
                "kube-controller-manager",
                lambda: self.api.find("/api/v1/namespaces/default/serviceaccounts/default") is not None,
                _READY_SECONDS,
                "did not make the default ServiceAccount",
            )

    def stop(self) -> None:
        """End all processes and remove the folder."""
        self.processes.stop_all()
        self._ports.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    # Each part alone, for tests that take one away. Data and ports stay, so a part comes back where it was.

    def start_etcd(self) -> None:
        self.processes.start("etcd", [self._programs["etcd"], *flags(self._etcd_flags())])

    def start_apiserver(self) -> None:
        """Start the API server and wait until it is ready."""
        policy = self.folder / "audit-policy.yaml"
        shutil.copyfile(_HERE / "audit-policy.yaml", policy)
        self.audit_log.parent.mkdir(exist_ok=True)
        self.processes.start(
            "kube-apiserver", [self._programs["kube-apiserver"], *flags(self._apiserver_flags())]
        )
        self.processes.wait_until("kube-apiserver", self.api.ready, _READY_SECONDS, "was not ready")

    def stop_apiserver(self, grace_seconds: float = 0.0) -> None:
        """SIGKILL, or SIGTERM first when there is a grace. etcd goes on."""
        self.processes.stop("kube-apiserver", grace_seconds)

    def start_controller_manager(self) -> None:
        name = "kube-controller-manager"
        config = self.component_kubeconfig(name, f"system:{name}")
        own = {
            "kubeconfig": str(config),
            "secure-port": "0",
            "leader-elect": "false",
            "use-service-account-credentials": "true",
            "service-account-private-key-file": str(self.pki.tokens.key),
            "root-ca-file": str(self.authority),
            # Twice as many as the default, for benchmarks that create hundreds of Jobs at once.
            "kube-api-qps": "200",
            "kube-api-burst": "300",
            **self.options.controller_manager_flags,
        }
        self.processes.start(name, [self._programs[name], *flags(own)])

    def start_scheduler(self) -> None:
        name = "kube-scheduler"
        config = self.component_kubeconfig(name, f"system:{name}")
        own = {
            "kubeconfig": str(config),
            "secure-port": "0",
            "leader-elect": "false",
            "kube-api-qps": "200",
            "kube-api-burst": "300",
        }
        self.processes.start(name, [self._programs[name], *flags(own)])

    def start_kwok(self) -> None:
        stages = self.folder / "stages.yaml"
        stages.write_text(yaml.safe_dump_all(kwok.load_stages(self.options.kwok_stages)))
        own = {
            "kubeconfig": str(self.component_kubeconfig("kwok", "kwok", "system:masters")),
            "config": str(stages),
            "cidr": self.options.kwok_pod_network,
            "node-ip": "127.0.0.1",
            "node-lease-duration-seconds": "40",
            "manage-nodes-with-annotation-selector": f"{kwok.SELECTOR_KEY}={kwok.SELECTOR_VALUE}",
        }
        self.processes.start("kwok", [self._programs["kwok"], *flags(own)])

    def add_kwok_nodes(
        self,
        count: int,
        *,
        prefix: str = "kwok",
        labels: Mapping[str, str] | None = None,
        capacity: Mapping[str, str | int] | None = None,
        taints: Iterable[Object] = (),
    ) -> list[str]:
        """Make nodes `<prefix>-0` and so on and wait until they are Ready; their names."""
        names = [f"{prefix}-{number}" for number in range(count)]
        taints = list(taints)
        for name in names:
            self.api.apply(kwok.make_node(name, labels, capacity, taints))
        for name in names:
            self.processes.wait_until(
                "kwok", partial(self._node_ready, name), _READY_SECONDS, f"left {name} unready"
            )
        return names

    def _node_ready(self, name: str) -> bool:
        status = self.api.get(f"/api/v1/nodes/{name}").get("status", {})
        return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))

    def component_kubeconfig(self, name: str, user: str, group: str = "") -> Path:
        """A kubeconfig for a part of Kubernetes, under the name RBAC knows it by."""
        pair = self.pki.authority.issue(name, user, group)
        return write_kubeconfig(self.folder / f"{name}.kubeconfig", self.url, self.authority, pair)

    def _etcd_flags(self) -> dict[str, str]:
        url = f"https://127.0.0.1:{self._etcd_port}"
        return {
            "data-dir": str(self.folder / "etcd"),
            "listen-client-urls": url,
            "advertise-client-urls": url,
            "listen-peer-urls": "http://127.0.0.1:0",
            "cert-file": str(self.pki.etcd_server.certificate),
            "key-file": str(self.pki.etcd_server.key),
            "client-cert-auth": "true",
            "trusted-ca-file": str(self.pki.etcd_authority),
            # The data is gone with the machine anyway; without it a write costs a disk's round trip.
            "unsafe-no-fsync": "true",
            "log-level": "warn",
        }

    def _apiserver_flags(self) -> dict[str, str]:
        pki, options = self.pki, self.options
        loopback = options.address.startswith("127.")
        return {
            "bind-address": options.address,
            "secure-port": str(self._port),
            "advertise-address": options.address,
            # A Service cannot have an endpoint on loopback; the reconciler would only log errors.
            "endpoint-reconciler-type": "none" if loopback else "lease",
            "etcd-servers": f"https://127.0.0.1:{self._etcd_port}",
            "etcd-cafile": str(pki.etcd_authority),
            "etcd-certfile": str(pki.etcd_client.certificate),
            "etcd-keyfile": str(pki.etcd_client.key),
            "tls-cert-file": str(pki.server.certificate),
            "tls-private-key-file": str(pki.server.key),
            "client-ca-file": str(self.authority),
            "kubelet-certificate-authority": str(self.authority),
            "kubelet-client-certificate": str(pki.kubelet_client.certificate),
            "kubelet-client-key": str(pki.kubelet_client.key),
            # The node's name is in no DNS.
            "kubelet-preferred-address-types": "InternalIP",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": str(pki.tokens.certificate),
            "service-account-signing-key-file": str(pki.tokens.key),
            "service-cluster-ip-range": options.service_network,
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "allow-privileged": "true",
            "audit-policy-file": str(self.folder / "audit-policy.yaml"),
            "audit-log-path": str(self.audit_log),
            # Never rotated: a reader of the log has one file to follow.
            "audit-log-maxsize": "100000",
            "profiling": "false",
            **options.apiserver_flags,
        }


@dataclass(frozen=True)
class _Pki:
    authority: Authority
    server: Pair
    admin: Pair
    kubelet_client: Pair
    tokens: Pair
    etcd_authority: Path
    etcd_server: Pair
    etcd_client: Pair


def _make_pki(folder: Path, options: Options) -> _Pki:
    authority = Authority(folder, "kubernetes-ca")
    # etcd trusts every certificate of its authority with everything, so it has one of its own.
    etcd = Authority(folder / "etcd", "etcd-ca")
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
    hosts = [
        *names,
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
        options.address,
        first_address(options.service_network),
    ]
    return _Pki(
        authority=authority,
        server=authority.issue("kube-apiserver", "kube-apiserver", hosts=hosts),
        admin=authority.issue("admin", "admin", "system:masters"),
        kubelet_client=authority.issue(
            "apiserver-to-kubelet", "kube-apiserver-kubelet-client", "system:masters"
        ),
        tokens=make_signing_key(folder, "tokens"),
        etcd_authority=etcd.certificate,
        etcd_server=etcd.issue("server", "etcd", hosts=["127.0.0.1"]),
        etcd_client=etcd.issue("client", "kube-apiserver"),
    )


def first_address(network: str) -> str:
    """The first usable address: the one the `kubernetes` Service gets."""
    return str(next(ipaddress.ip_network(network).hosts()))


def flags(values: Mapping[str, str]) -> list[str]:
    """`--name=value` for each."""
    return [f"--{name}={value}" for name, value in values.items()]


def _programs(options: Options) -> list[str]:
    wanted = {
        "kube-controller-manager": options.controllers,
        "kube-scheduler": options.scheduler,
        "kwok": options.kwok,
    }
    return ["etcd", "kube-apiserver", "kubectl", *(name for name, needed in wanted.items() if needed)]


def write_owner(folder: Path) -> None:
    """Write down that this process is responsible for what runs in `folder`."""
    identity = identity_of(os.getpid())
    assert identity is not None
    (folder / "owner.json").write_text(json.dumps(vars(identity)))


def owner_alive(folder: Path) -> bool:
    """Whether the process that made `folder` still runs. A folder without an owner is just being made."""
    path = folder / "owner.json"
    try:
        return Identity(**json.loads(path.read_text())).alive()
    except FileNotFoundError:
        return folder.exists()
    except (ValueError, TypeError):
        return False


def sweep(base: Path) -> None:
    """End and remove what owners left that were killed before they could."""
    for folder in base.glob("control-plane-*"):
        if not owner_alive(folder):
            Processes(folder).stop_all()
            shutil.rmtree(folder, ignore_errors=True)
