"""Runs the commands of a chapter as its reader would, in folders of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localcluster.environments import BUILDER, TORCH_BUILDER, environment
from localcluster.progress import Progress
from localcluster.serving_env import serving_environment
from tools.guide.chapter import ROOT

ENDING_SECONDS = 120


class Failed(Exception):
    """A command of the guide did not do what it is there for; the message holds what it said."""


@dataclass
class Reader:
    """Somebody who follows the guide: with a home of his own, so that nothing built before is found."""

    home: Path
    served: dict[str, Any] = field(default_factory=dict)
    """What `nlpctl serve --json` said last."""
    _server: subprocess.Popen[bytes] | None = None

    def run(self, words: list[str]) -> str:
        """What a command prints; nothing of `serve`, which goes on."""
        if words[0] == "serve":
            self._serve(words[1:])
            return ""
        done = subprocess.run(
            self._command(words), env=self._variables, cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Failed(f"nlpctl {' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    def value(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run([*words, "--json"]))
        return found

    def artifact(self, model: str) -> Path:
        """Of a model that is served."""
        digest = next(one["digest"] for one in self.served["models"] if one["name"] == model)
        return self.store / "artifacts" / str(digest)

    @property
    def store(self) -> Path:
        return self.home / "cache/nlp-operator/store"

    def _serve(self, words: list[str]) -> None:
        self.end()
        with (self.home / "serve.log").open("wb") as log:
            # A shell makes its background jobs deaf to Ctrl-C.
            self._server = subprocess.Popen(
                ["env", "--default-signal=INT", *self._command(["serve", "--json", *words])],
                env=self._variables,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._server.stdout is not None
        said = ""
        for line in self._server.stdout:
            said += line.decode()
            if line.rstrip() == b"}":
                break
        if not said:
            raise Failed(f"nlpctl serve ended:\n{(self.home / 'serve.log').read_text(encoding='utf-8')}")
        self.served = json.loads(said)
        for one in self.served["models"]:
            if one["refused"]:
                raise Failed(f"{one['name']} is not served. {one['refused']}")

    def end(self) -> None:
        if self._server is None:
            return
        self._server.send_signal(signal.SIGINT)
        self._server.wait(ENDING_SECONDS)
        assert self._server.stdout is not None
        self._server.stdout.close()
        self._server = None

    def _command(self, words: list[str]) -> list[str]:
        return [sys.executable, "-m", "nlpctl", *words]

    @property
    def _variables(self) -> Mapping[str, str]:
        return {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}",
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "LC_ALL": "C.UTF-8",
        }


@contextlib.contextmanager
def reader(*, torch: bool) -> Iterator[Reader]:
    """A new reader, with the environments of this machine's cache, which are made where they are missing."""
    progress = Progress()
    roots = [environment(BUILDER, progress), serving_environment(progress).root]
    roots += [environment(TORCH_BUILDER, progress)] if torch else []
    with tempfile.TemporaryDirectory(prefix="nlp-guide-") as folder:
        found = Reader(Path(folder))
        cache = Path(folder, "cache/nlp-operator")
        cache.mkdir(parents=True)
        for root in roots:
            (cache / root.name).symlink_to(root)
        try:
            yield found
        finally:
            found.end()
