"""The commands of the demo, as a user types them: kubectl and nlpctl, shown before they run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from localcluster.access import Access
from localcluster.errors import ClusterError, CommandFailed
from localcluster.processes import plain_environment

ROOT = Path(__file__).resolve().parents[2]

COMMAND_SECONDS = 900
"""Longer than any --timeout given below: a command that hangs must not hang the demo for ever."""


class DemoFailed(ClusterError):
    """Something that the demo promises did not happen."""


@dataclass(frozen=True)
class Commands:
    access: Access
    say: Callable[[str], None]

    def kubectl(self, *words: str | Path, stdin: str | None = None, quiet: bool = False) -> str:
        """Run kubectl; its output. Raises CommandFailed with what it said on stderr."""
        if not quiet:
            given = json.loads(stdin) if stdin else None
            note = f"  # {given['kind']} {given['metadata']['name']}" if given else ""
            self.say(f"  $ kubectl {' '.join(quoted(str(word)) for word in words)}{note}")
        return self.access.kubectl(*words, stdin=stdin)

    def read(self, *words: str) -> Any:
        return json.loads(self.kubectl("get", "-o", "json", *words, quiet=True))

    def nlpctl(self, *words: str, quiet: bool = False) -> str:
        """Run nlpctl against this cluster; its standard output. Raises CommandFailed."""
        if not quiet:
            self.say(f"  $ nlpctl {' '.join(quoted(word) for word in words)}")
        environment = {**plain_environment(), "KUBECONFIG": str(self.access.kubeconfig), "COLUMNS": "110"}
        environment.pop("NLPCTL_DEBUG", None)
        done = subprocess.run(
            [sys.executable, "-m", "nlpctl", *words],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=COMMAND_SECONDS,
            cwd=ROOT / "operator",
        )
        if done.returncode:
            raise CommandFailed(["nlpctl", *words], done.returncode, done.stderr or done.stdout)
        return done.stdout

    def infer(
        self, namespace: str, model: str, words: Sequence[str], protocol: str, *, quiet: bool = False
    ) -> Any:
        """Ask a model through its Service; the whole answer."""
        options = ("-n", namespace, "--protocol", protocol, "--via", "service", "--json")
        return json.loads(self.nlpctl("infer", model, *words, *options, quiet=quiet))


def quoted(word: str) -> str:
    """A word as one would type it in this folder."""
    word = word.removeprefix(f"{ROOT}/")
    return f"'{word}'" if " " in word or word.startswith("{") else word


class InBackground:
    """What it does, it does in a thread of its own for as long as the `with` lasts."""

    _over: threading.Event
    _thread: threading.Thread

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        """Until `_over`."""
        raise NotImplementedError


@dataclass
class Asker(InBackground):
    """Asks the same question over and over in the background, and keeps what was refused."""

    ask: Callable[[], Any]
    pause_seconds: float = 0.5
    answered: int = 0
    refused: list[str] = field(default_factory=list)

    def _run(self) -> None:
        while not self._over.wait(self.pause_seconds):
            try:
                self.ask()
                self.answered += 1
            except CommandFailed as error:
                self.refused.append(error.output.strip() or str(error))


def until(what: str, seconds: float, true: Callable[[], bool], look_every_seconds: float = 0.25) -> None:
    """Wait until something is true; raises DemoFailed that says what was waited for."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise DemoFailed(f"After {seconds:.0f} s still not so: {what}.")
        time.sleep(look_every_seconds)


def is_root() -> bool:
    return os.geteuid() == 0
