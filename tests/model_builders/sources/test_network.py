"""Which addresses may be connected to, and that no connection of the process escapes the question."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from model_builders.errors import Refused, TryAgain
from model_builders.sources.network import guarded, is_allowed, parse_networks
from model_builders.sources.web import is_declared

ALLOWED = parse_networks("10.20.0.0/16, fd00:20::/32")


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("10.20.3.4", True),
        ("fd00:20::1", True),
        ("::ffff:10.20.3.4", True),
        ("64:ff9b::5db8:d822", True),  # NAT64 of 93.184.216.34
        ("10.21.3.4", False),
        ("127.0.0.1", False),
        ("127.255.0.1", False),
        ("0.0.0.0", False),
        ("169.254.169.254", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fec0::1", False),
        ("fd00:21::1", False),
        ("ff02::1", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::a9fe:a9fe", False),  # NAT64 of the metadata service
        ("2002:a9fe:a9fe::1", False),  # 6to4 of it
    ],
)
def test_public_addresses_and_allowed_networks_may_be_connected_to(address: str, allowed: bool) -> None:
    assert is_allowed(ipaddress.ip_address(address), ALLOWED) is allowed


def test_networks_that_are_none_are_told() -> None:
    with pytest.raises(TryAgain, match=r"NLP_FETCH_ALLOWED_NETWORKS is '10\.0\.0\.1/8'"):
        parse_networks("10.0.0.1/8")


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost"])
def test_connection_is_looked_at_when_it_is_made(address: str) -> None:
    """A name is refused too: the system would resolve it after the look."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with guarded(()), socket.socket() as client, pytest.raises(Refused) as refused:
            client.connect((address, port))
        assert refused.value.reason == "NetworkRefused"
        with guarded(parse_networks("127.0.0.0/8")), socket.socket() as client:
            client.connect(("127.0.0.1", port))
        with socket.socket() as client:  # and afterwards nothing is looked at
            client.connect(("127.0.0.1", port))


@pytest.mark.parametrize(
    ("host", "declared"),
    [
        ("cdn.example", True),
        ("a.storage.example", True),
        ("storage.example", False),
        ("evilstorage.example", False),
        ("cdn.example:8443", False),
        ("cdn.example.evil.example", False),
    ],
)
def test_host_is_declared_as_a_whole_or_by_its_domain(host: str, declared: bool) -> None:
    assert is_declared(host, ("CDN.example", "*.storage.example", "")) is declared
