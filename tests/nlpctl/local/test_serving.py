"""`nlpctl build` and `serve` as a user runs them, with the real builders, agent, Triton and Envoy."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from localcluster.environments import BUILDER, environment
from localcluster.progress import Progress
from localcluster.serving_env import serving_environment
from nlpctl.local.processes import end_session, running_in_session, session_members
from tests.nlp_agent.running import program, wait_until
from tests.nlpctl.local.making import SAMPLES, make_model, write

pytestmark = pytest.mark.triton

SOURCES = Path(__file__).resolve().parents[3] / "operator"
NOVELS = SAMPLES / "korean-novels.yaml"
NOBODY = 65534


@dataclass
class Ran:
    code: int
    stdout: str
    stderr: str

    @property
    def value(self) -> Any:
        return json.loads(self.stdout)


@dataclass
class User:
    """Somebody with folders of his own, so that nothing of this machine's user is seen or left."""

    home: Path
    prefix: tuple[str, ...] = ()

    @property
    def variables(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH",) if name in os.environ}
        return {
            **kept,
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def command(self, *words: str) -> list[str]:
        return [*self.prefix, sys.executable, "-m", "nlpctl", *words]

    def nlpctl(self, *words: str, **variables: str) -> Ran:
        done = subprocess.run(
            self.command(*words),
            env=self.variables | variables,
            cwd=SOURCES,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    @contextlib.contextmanager
    def serving(self, *words: str) -> Iterator[Serving]:
        log = self.home / f"serve-{len(list(self.home.glob('serve-*')))}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                # A shell makes its background jobs, and so perhaps this test, deaf to Ctrl-C.
                ["env", "--default-signal=INT", *self.command("serve", "--json", *words)],
                env=self.variables,
                cwd=SOURCES,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=sink,
                start_new_session=True,
            )
        serving = Serving(process, log)
        try:
            serving.wait_ready()
            yield serving
        finally:
            for pid in serving.agents:
                for member in session_members(pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(member, signal.SIGKILL)
            end_session(process)
            assert process.stdout is not None
            process.stdout.close()


class Serving:
    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        self.said: Mapping[str, Any] = {}
        self.agents: list[int] = []

    def wait_ready(self) -> None:
        """Until the JSON object on stdout is whole."""
        assert self.process.stdout is not None
        text = ""
        for line in self.process.stdout:
            text += line.decode()
            if line.rstrip() == b"}":
                break
        self.said = json.loads(text or "{}")
        assert "models" in self.said, self.log.read_text()
        assert [one["refused"] for one in self.said["models"]] == [""] * len(self.said["models"])
        self.agents = children_of(self.process.pid)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(120)

    def processes(self) -> list[int]:
        """Those that run: who reaps what has ended, and when, is not ours to say."""
        return [pid for leader in self.agents for pid in running_in_session(leader)]


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextlib.contextmanager
def user_with_environments() -> Iterator[User]:
    """A new user's folders, in which the environments of this machine's cache are linked: to install them
    anew would take minutes of the network."""
    home = Path(tempfile.mkdtemp(prefix="nlp-"))
    try:
        cache = home / "cache/nlp-operator"
        cache.mkdir(parents=True)
        for root in (environment(BUILDER, Progress(quiet=True)), serving_environment().root):
            (cache / root.name).symlink_to(root)
        yield User(home)
    finally:
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    with user_with_environments() as found:
        yield found


@pytest.fixture(scope="module")
def files(user: User) -> tuple[str, ...]:
    """The sample, and a model that counts other texts in the sample's words."""
    inputs = [
        {"name": "corpus", "source": {"persistentVolumeClaim": {"claimName": "texts"}}},
        {"name": "vocabulary", "source": {"nlpModel": {"name": "korean-novels"}}},
    ]
    texts = user.home / "texts"
    texts.mkdir()
    (texts / "역.txt").write_text("기차 기차 막걸리 바다", encoding="utf-8")
    other = write(user.home, make_model("other-texts", inputs=inputs), name="other.yaml")
    return ("-f", other, "-f", str(NOVELS), "--input", f"other-texts/corpus={texts}")


@pytest.fixture(scope="module")
def serving(user: User, files: tuple[str, ...]) -> Iterator[Serving]:
    with user.serving(*files) as found:
        yield found


def address(serving: Serving, protocol: str) -> tuple[str, ...]:
    return ("--address", str(serving.said[protocol]), "--protocol", protocol)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_both_models_of_the_files_are_served_by_one_server(
    user: User, serving: Serving, protocol: str
) -> None:
    novels = user.nlpctl("infer", "korean-novels", "막걸리", "--json", *address(serving, protocol))
    other = user.nlpctl("infer", "other-texts", "역", "--json", *address(serving, protocol))
    assert novels.value["outputs"]["word_vector"]["data"] == [0, 1, 0, 0]
    assert other.value["outputs"]["document_vector"]["data"] == [2, 1, 0]


def test_what_is_served_is_what_build_builds(user: User, serving: Serving, files: tuple[str, ...]) -> None:
    built = user.nlpctl("build", "--json", *files)
    assert built.code == 0, built.stderr
    digests = {model["name"]: model["digest"] for model in built.value["models"]}
    assert digests == {model["name"]: model["digest"] for model in serving.said["models"]}
    assert [model["cached"] for model in built.value["models"]] == [True, True]
    assert {"metric": "documents", "measured": "4", "bound": "at least 4"} in built.value["models"][1][
        "quality"
    ]
    for digest in digests.values():
        assert (Path(built.value["store"]) / "artifacts" / digest / "manifest.json").exists()


def test_seconds_are_reported_by_stage(serving: Serving) -> None:
    assert list(serving.said["seconds"]) == ["environment", "fetch", "build", "start"]


@pytest.mark.usefixtures("serving")
def test_without_a_kubeconfig_the_local_server_answers_and_says_so(user: User) -> None:
    asked = user.nlpctl("infer", "korean-novels", "운수 좋은 날")
    assert asked.code == 0, asked.stderr
    assert "over http (local server 127.0.0.1:" in asked.stdout
    assert user.nlpctl("infer", "korean-novels", "기차", "--local", "--json").value["via"] == "local"


@pytest.mark.usefixtures("serving")
def test_a_kubeconfig_is_never_passed_over(user: User) -> None:
    asked = user.nlpctl("infer", "korean-novels", "기차", KUBECONFIG="/nonexistent/kubeconfig")
    assert asked.code == 3
    assert asked.stderr.rstrip().endswith(
        "A server on this machine has 'korean-novels': ask it with --local."
    )


@pytest.mark.usefixtures("serving")
def test_a_model_that_no_local_server_has_is_told_from_those_it_has(user: User) -> None:
    asked = user.nlpctl("infer", "novel", "기차", "--local")
    assert asked.code == 4
    assert "there are korean-novels, other-texts." in asked.stderr


def test_a_second_server_takes_other_ports_and_ends_even_when_it_is_killed(
    user: User, serving: Serving
) -> None:
    with user.serving("-f", str(NOVELS)) as second:
        ports = {second.said[name] for name in ("http", "grpc")}
        assert not ports & {serving.said["http"], serving.said["grpc"]}
        assert "is in use; http listens on" in second.log.read_text()
        assert any(program(pid) == "tritonserver" for pid in second.processes())
        second.end(signal.SIGKILL)
        wait_until("everything of a killed server has ended", lambda: not second.processes())
    # The next look takes away what it left.
    assert user.nlpctl("infer", "korean-novels", "기차", "--local").code == 0
    assert len(list(user.home.glob("nlp-operator-*/serve-*"))) == 1


def test_ctrl_c_ends_everything_in_order(user: User, serving: Serving) -> None:
    assert serving.end(signal.SIGINT) == 0
    assert serving.processes() == []
    assert list(user.home.glob("nlp-operator-*/serve-*")) == []
    assert '"event": "stopped"' in Path(serving.said["log"]).read_text()
    assert user.nlpctl("infer", "korean-novels", "기차", "--local").code == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root anyway has shown it above")
def test_a_user_who_is_not_root_can_serve() -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is missing, by which another user is become")
    with user_with_environments() as user:
        # access(2) counts no capability, and by it Triton looks for its backend: a copy, of the same bytes.
        link = user.home / "cache/nlp-operator" / serving_environment().root.name
        link.unlink()
        shutil.copytree(serving_environment().root, link, symlinks=True, copy_function=link_or_copy)
        for path in (user.home, *user.home.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                os.chown(path, NOBODY, NOBODY)
        # Nothing may be written that is not his. He may read all: the interpreter may lie in root's home.
        ids = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
        capability = "+dac_read_search"
        user.prefix = (
            "setpriv",
            *ids,
            "--bounding-set=-all," + capability,
            f"--inh-caps=-all,{capability}",
            f"--ambient-caps=-all,{capability}",
        )
        with user.serving("-f", str(NOVELS)) as serving:
            assert {Path(f"/proc/{pid}").stat().st_uid for pid in serving.processes()} == {NOBODY}
            asked = user.nlpctl("infer", "korean-novels", "막걸리", "--json")
            assert asked.value["outputs"]["word_vector"]["data"] == [0, 1, 0, 0]
            assert serving.end(signal.SIGTERM) == 0
            assert serving.processes() == []


def link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
    return target
