"""How a running server is found, and what its ports and pool are."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from localcluster.ports import Ports
from localcluster.processes import identity_of
from localcluster.progress import Progress
from nlpctl.errors import NotPossible
from nlpctl.local import servers
from nlpctl.local.servers import LocalServer
from nlpctl.local.serving import choose_ports, this_machine


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr("localcluster.paths.runtime_dir", lambda: folder)
    return folder


def make_server(work: Path, *models: str) -> LocalServer:
    address = "127.0.0.1:1"
    return LocalServer(
        servers.this_process(), models, address, address, address, address, str(work), str(work / "log")
    )


def test_a_recorded_server_is_found_by_its_models(tmp_path: Path) -> None:
    server = make_server(tmp_path / "work", "novels", "reviews")
    path = servers.record(server)
    assert servers.server_of("reviews") == server
    assert servers.server_of("others") is None
    path.unlink()
    assert servers.find_servers() == []


def test_a_server_whose_process_is_gone_is_taken_away_with_its_work_folder(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = identity_of(gone.pid)
    assert identity is not None
    gone.communicate(b"\n")
    work = tmp_path / "work"
    (work / "repository").mkdir(parents=True)
    path = servers.record(replace(make_server(work, "novels"), process=identity))
    assert servers.find_servers() == []
    assert (path.exists(), work.exists()) == (False, False)


def test_a_pid_that_belongs_to_another_process_now_is_not_taken_for_the_server(tmp_path: Path) -> None:
    server = make_server(tmp_path / "work", "novels")
    servers.record(replace(server, process=replace(server.process, started=server.process.started - 1)))
    assert servers.find_servers() == []


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"process": {"pid": 1}})])
def test_a_file_of_another_release_is_left_alone(runtime: Path, content: str) -> None:
    folder = runtime / "servers"
    folder.mkdir(mode=0o700)
    (folder / "1.json").write_text(content)
    assert servers.find_servers() == []
    assert (folder / "1.json").exists()


def test_a_runtime_folder_of_somebody_else_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open" / "servers").mkdir(mode=0o755)
    monkeypatch.setattr("localcluster.paths.runtime_dir", lambda: tmp_path / "open")
    assert servers.find_servers() == []


def test_a_port_in_use_is_replaced_and_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = taken.getsockname()[1]
        held, said = Ports(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("nlp_operator.api.names.GRPC_PORT", busy)
            ports = choose_ports(None, held, Progress(stream=said))
        held.release()
    assert busy not in ports.values()
    assert len(set(ports.values())) == 4
    assert f"port {busy} is in use; grpc listens on {ports['grpc']}" in said.getvalue()


def test_a_port_the_user_named_is_taken_or_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = taken.getsockname()[1]
        with pytest.raises(NotPossible, match=f"Port {busy} of 127.0.0.1 is in use"):
            choose_ports(busy, Ports(), Progress(quiet=True))
    held = Ports()
    assert choose_ports(busy, held, Progress(quiet=True))["http"] == busy
    held.release()


def test_this_machine_is_a_pool_of_the_cores_it_may_use() -> None:
    pool = this_machine()
    assert pool.device.cpu is not None
    assert pool.device.cpu.millicores == 1000 * len(os.sched_getaffinity(0))
