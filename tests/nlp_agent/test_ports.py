"""The ports of loopback that Triton gets."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from nlp_agent import triton
from nlp_agent.errors import SettingsInvalid
from nlp_agent.triton import free_ports


def test_ports_differ_and_no_outgoing_connection_gets_one() -> None:
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert not [port for port in ports if low <= port <= high]


def test_taken_port_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = sorted(free_ports(2))
    monkeypatch.setattr(triton, "PORTS", [first, second])
    with socket.create_server(("127.0.0.1", first)):
        assert free_ports(1) == [second]
        with pytest.raises(SettingsInvalid, match="2 free ports"):
            free_ports(2)


def test_a_kernel_that_gives_every_port_away_leaves_a_choice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "range").write_text("1024\t65535\n")
    monkeypatch.setattr(triton, "EPHEMERAL", tmp_path / "range")
    assert len(free_ports(3)) == 3


def test_port_that_somebody_is_still_to_open_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = sorted(free_ports(2))
    monkeypatch.setattr(triton, "PORTS", [first, second])
    assert free_ports(1, but=(first,)) == [second]
