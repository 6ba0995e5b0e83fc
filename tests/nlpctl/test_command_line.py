"""The command line as a user runs it, judged by exit code and by what it prints."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from nlpctl.__main__ import main

SOURCES = Path(__file__).resolve().parents[2] / "operator"


@dataclass(frozen=True)
class Result:
    code: int
    stdout: str
    stderr: str


class Terminal:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: str) -> Result:
        code: object = 0
        try:
            main(words)
        except SystemExit as ended:
            code = ended.code
        out, err = self.capsys.readouterr()
        return Result(code if isinstance(code, int) else 0, out, err)


@pytest.fixture
def nlpctl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    return Terminal(capsys)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        pytest.param(("status",), 3, "/none (KUBECONFIG) does not exist. Set", id="no kubeconfig"),
        pytest.param(
            ("--kubeconfig", "/nonexistent/k", "status"),
            3,
            "No usable kubeconfig: /nonexistent/k (--kubeconfig) does not exist.",
            id="kubeconfig misspelt",
        ),
        pytest.param(
            ("status", "--kubeconfig", "/nonexistent/k"),
            3,
            "No usable kubeconfig: /nonexistent/k (--kubeconfig) does not exist.",
            id="kubeconfig after the command",
        ),
        pytest.param(
            ("infer", "novels", "x", "--local"),
            4,
            "No server on this machine has 'novels'",
            id="no local server",
        ),
        pytest.param(
            ("--kubeconfig", "/dev/null", "status"),
            3,
            "/dev/null (--kubeconfig) cannot be used: ",
            id="kubeconfig empty",
        ),
        pytest.param(("infer", "novels"), 2, "Missing argument 'TEXT'", id="text left out"),
        pytest.param(
            ("infer", "novels", "x", "--address", "nowhere"),
            2,
            "it must be HOST:PORT",
            id="address without port",
        ),
        pytest.param(
            ("infer", "novels", "x", "--address", "foo:bar"), 2, "it must be HOST:PORT", id="port is a word"
        ),
        pytest.param(
            ("infer", "novels", "x", "--address", "http://127.0.0.1:1"),
            2,
            "it must be HOST:PORT",
            id="address with a scheme",
        ),
        pytest.param(
            ("infer", "novels", "x", "--input", "k"), 2, "it must be NAME=VALUE", id="input without value"
        ),
        pytest.param(
            ("infer", "novels", "x", "--address", "127.0.0.1:1"),
            3,
            "Connection refused",
            id="nobody listens, http",
        ),
        pytest.param(
            ("infer", "novels", "x", "--address", "127.0.0.1:1", "--protocol", "grpc"),
            3,
            "Connection refused",
            id="nobody listens, grpc",
        ),
        pytest.param(("status", "--wait", "3"), 2, "--wait needs the name", id="wait without a model"),
        pytest.param(
            ("build", "-f", "/none.yaml"), 2, "/none.yaml: it cannot be read: No such", id="no file"
        ),
        pytest.param(("serve",), 2, "Missing option '-f'", id="no manifest"),
        pytest.param(("dance",), 2, "No such command 'dance'", id="unknown command"),
    ],
)
def test_a_failure_is_a_sentence_and_an_exit_code(
    nlpctl: Terminal, words: tuple[str, ...], code: int, sentence: str
) -> None:
    result = nlpctl(*words)
    assert (result.code, sentence in result.stderr) == (code, True), result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_json_tells_a_failure_too(nlpctl: Terminal) -> None:
    result = nlpctl("infer", "novels", "x", "--address", "127.0.0.1:1", "--json")
    assert json.loads(result.stdout)["error"]["kind"] == "ClusterUnreachable"


@pytest.mark.parametrize(
    "command", [(), ("infer",), ("status",), ("top",), ("why",), ("build",), ("serve",), ("cluster",)]
)
def test_help_teaches_with_examples(nlpctl: Terminal, command: tuple[str, ...]) -> None:
    result = nlpctl(*command, "--help")
    assert result.code == 0
    assert "nlpctl " in result.stdout.split("Options:")[0].split("\n", 1)[1]


def test_default_kubeconfig_is_named_too(
    nlpctl: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG")
    result = nlpctl("status")
    assert f"No usable kubeconfig: {tmp_path}/.kube/config (the default) does not exist." in result.stderr


@pytest.mark.parametrize("command", [(), ("cluster",)])
def test_every_summary_of_a_command_is_whole(nlpctl: Terminal, command: tuple[str, ...]) -> None:
    summaries = nlpctl(*command, "--help").stdout.split("Commands:")[1].split("Exit codes:")[0]
    assert "..." not in summaries


@pytest.mark.parametrize("command", ["up", "down", "status"])
def test_help_of_the_cluster_commands_is_nlpctls(nlpctl: Terminal, command: str) -> None:
    result = nlpctl("cluster", command, "--help")
    assert (result.code, result.stdout.split("\n")[0].split(" [")[0]) == (
        0,
        f"usage: nlpctl cluster {command}",
    )


@pytest.fixture
def no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """State and locks of our own, so that no cluster of this machine is seen or waited for."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("localcluster.paths.runtime_dir", lambda: tmp_path)


@pytest.mark.usefixtures("no_cluster")
def test_cluster_commands_take_json(nlpctl: Terminal) -> None:
    status = nlpctl("cluster", "status", "--json")
    assert (status.code, json.loads(status.stdout)["running"]) == (1, False)
    down = nlpctl("cluster", "down", "--json")
    assert (down.code, json.loads(down.stdout), down.stderr) == (0, {"ended": False}, "")


@pytest.mark.usefixtures("no_cluster")
def test_cluster_up_tells_a_refusal_as_json(nlpctl: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("YES", raising=False)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    result = nlpctl("cluster", "up", "--api-only", "--json")
    assert (result.code, json.loads(result.stdout)["error"]["kind"]) == (1, "NotAgreed")
    assert "error: " in result.stderr


def test_cluster_up_on_a_machine_that_is_too_small_ends_with_the_code_for_that(
    nlpctl: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localcluster.cluster._memory_available", lambda: 1_000_000_000)
    result = nlpctl("cluster", "up", "--api-only", "--yes", "--json")
    assert (result.code, json.loads(result.stdout)["error"]["kind"]) == (7, "NotPossible")
    assert "1.0 GB of memory are free; the cluster without a node takes 2 GB." in result.stderr


def test_an_api_server_that_does_not_answer_is_named(
    nlpctl: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "{apiVersion: v1, kind: Config, current-context: c,"
        " contexts: [{name: c, context: {cluster: k, user: u}}],"
        " clusters: [{name: k, cluster: {server: 'http://127.0.0.1:1'}}], users: [{name: u, user: {}}]}"
    )
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    result = nlpctl("status")
    assert result.code == 3
    assert "The Kubernetes API at http://127.0.0.1:1 cannot be reached (Connection refused)." in result.stderr


def test_module_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "nlpctl", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=SOURCES)
    assert (result.returncode, result.stdout.split()[:2]) == (0, ["Usage:", "nlpctl"]), result.stderr
