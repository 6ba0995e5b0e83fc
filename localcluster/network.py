"""Addresses of a cluster with a real node, and the cable between the machine and the node's room.

The machine sees pods and Services through one veth link: routes to both networks lead into the room, where
kube-proxy's nftables and the pods' links are. Both ends of the link, the routes, and all of nftables go with
the room.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from localcluster.debian import Unpacked
from localcluster.errors import CommandFailed, NotPossible
from localcluster.processes import plain_environment
from localcluster.room import Room

LINK = "nlp-node0"
"""The machine's end. There is one real node at a time, so there is one name."""

_CANDIDATES = range(244, 200, -1)
"""Second octets to try: 10.244.0.0 is where Kubernetes' documentation puts pods, and VPNs seldom are."""


@dataclass(frozen=True)
class Networks:
    """Three networks that nothing on this machine uses."""

    pods: str
    services: str
    link: str

    @property
    def host(self) -> str:
        """The machine's address on the link: where pods find the API server and CoreDNS."""
        return str(IPv4Network(self.link)[1])

    @property
    def node(self) -> str:
        return str(IPv4Network(self.link)[2])

    @property
    def dns(self) -> str:
        """The ClusterIP of DNS: the tenth address, as everywhere."""
        return str(IPv4Network(self.services)[10])


def choose_networks(taken: Sequence[IPv4Network]) -> Networks:
    """The first of our candidates that overlaps with nothing taken. Raises NotPossible when all do."""
    for octet in _CANDIDATES:
        block = IPv4Network(f"10.{octet}.0.0/16")
        if not any(block.overlaps(network) for network in taken):
            return Networks(
                pods=f"10.{octet}.0.0/18", services=f"10.{octet}.64.0/18", link=f"10.{octet}.255.0/30"
            )
    first, last = _CANDIDATES[0], _CANDIDATES[-1]
    raise NotPossible(
        f"Routes of this machine cover every network from 10.{last}.0.0/16 to 10.{first}.0.0/16."
    )


def parse_routes(output: str) -> list[IPv4Network]:
    """Networks from `ip -json -4 route show table all`, without the default route."""
    found = []
    for route in json.loads(output):
        destination = route.get("dst", "default")
        if destination != "default":
            found.append(ipaddress.IPv4Network(destination, strict=False))
    return [network for network in found if network.prefixlen > 0]


@dataclass(frozen=True)
class Ip:
    """`ip` of iproute2: the machine's, or unpacked with the node's programs where it has none."""

    programs: Unpacked

    def __call__(self, *arguments: str) -> str:
        command = [self._program(), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=self._environment())
        if done.returncode != 0:
            raise CommandFailed(command, done.returncode, done.stderr)
        return done.stdout

    def inside(self, room: Room, *arguments: str) -> None:
        room.run(self._program(), *arguments, env=self._environment())

    def _program(self) -> str:
        found = self.programs.find("ip")
        if found is None:
            raise NotPossible("There is no program `ip` (Debian's package iproute2).")
        return str(found)

    def _environment(self) -> dict[str, str]:
        return {**plain_environment(), **self.programs.environment()}


def networks_taken(ip: Ip) -> list[IPv4Network]:
    return parse_routes(ip("-json", "-4", "route", "show", "table", "all"))


def connect(room: Room, networks: Networks, ip: Ip) -> None:
    """Lay the link and the routes."""
    try:
        ip("link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", str(room.init.pid))
    except CommandFailed as error:
        if "File exists" not in error.output:
            raise
        raise NotPossible(
            f"This machine has a network link {LINK!r}: another cluster with a node runs here, started where "
            "its files cannot be seen from (another container, or chroot). End it there."
        ) from error
    ip("address", "add", f"{networks.host}/30", "dev", LINK)
    ip("link", "set", LINK, "up")
    ip.inside(room, "link", "set", "lo", "up")
    ip.inside(room, "address", "add", f"{networks.node}/30", "dev", "eth0")
    ip.inside(room, "link", "set", "eth0", "up")
    ip.inside(room, "route", "add", "default", "via", networks.host)
    # /proc/sys/net shows the network namespace of who opens it: this forwards in the room only.
    room.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
    for network in (networks.pods, networks.services):
        ip("route", "add", network, "via", networks.node)


def cni_config(networks: Networks, allocations: Path) -> dict[str, object]:
    """A point-to-point link for each pod, routed. A bridge would let answers of a pod on the same node
    pass below netfilter, where a Service's address is not translated back."""
    return {
        "cniVersion": "0.4.0",
        "name": "nlp-operator",
        "plugins": [
            {
                "type": "ptp",
                "mtu": 1500,
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(allocations),
                    "ranges": [[{"subnet": networks.pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }
