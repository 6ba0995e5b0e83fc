"""Which addresses a fetch may connect to: those of the internet, and the networks an administrator allowed.

A URL comes from a user of the cluster and the connection is made from inside of it, so without a limit a
source could be the cloud's metadata service or another tenant's database. Names are no limit: a name may be
resolved to another address the second time it is asked for. So while a source is read, every connection of
the process is looked at in the moment it is made, by an audit hook of Python's sockets, whichever library
makes it. A library that connects by other means (Rust, C) has no place in a source; nor has a proxy, which
would connect on our behalf to where we may not.
"""

import ipaddress
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from model_builders.errors import Refused, TryAgain

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NAT64 = IPv6Network("64:ff9b::/96")


def parse_networks(text: str) -> tuple[Network, ...]:
    """CIDRs separated by commas. Raises TryAgain: the operator has checked them."""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise TryAgain("BuildFailed", f"NLP_FETCH_ALLOWED_NETWORKS is {text!r}: {error}.") from error


def is_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """Global addresses are; of all others (private, loopback, link-local, shared, multicast, reserved) those
    in an allowed network."""
    if any(address.version == network.version and address in network for network in allowed):
        return True
    inner = _carried(address)
    if inner is not None:
        return is_allowed(inner, allowed)
    site_local = isinstance(address, IPv6Address) and address.is_site_local
    return address.is_global and not address.is_multicast and not site_local


def _carried(address: Address) -> IPv4Address | None:
    """The IPv4 address that a connection to this IPv6 address ends at, where there is one."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def explain(address: str) -> Refused:
    return Refused(
        "NetworkRefused",
        f"The source leads to the address {address}, which is private, loopback, link-local or reserved; "
        "fetches connect to public addresses only. The administrator can allow a network with the "
        "operator's setting fetch-allowed-networks.",
    )


_limits: list[tuple[Network, ...]] = []
"""The networks of each `guarded` that is entered; the innermost counts. Empty: no limit."""


@contextmanager
def guarded(allowed: Sequence[Network]) -> Iterator[None]:
    """In here no connection of this process leads anywhere else: `connect` raises Refused."""
    _install()
    _limits.append(tuple(allowed))
    try:
        yield
    finally:
        _limits.pop()


@cache
def _install() -> None:
    """Once, for an audit hook cannot be removed."""
    sys.addaudithook(_look)


def _look(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "socket.connect" or not _limits:
        return
    connecting, address = arguments
    if connecting.family not in (socket.AF_INET, socket.AF_INET6):
        return
    host = str(address[0]).partition("%")[0]
    try:
        allowed = is_allowed(ipaddress.ip_address(host), _limits[-1])
    except ValueError:
        allowed = (
            False  # a name, which the system would resolve out of our sight; no library of ours does that
        )
    if not allowed:
        connecting.close()  # libraries close after an OSError only
        raise explain(host)
