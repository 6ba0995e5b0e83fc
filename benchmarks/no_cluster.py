"""From an empty virtual environment to an answer, without a cluster: how long, and where the time goes.

    python -m benchmarks.no_cluster --json build/no_cluster.json
    python -m benchmarks.no_cluster --encoder FOLDER --json FILE     a Hugging Face folder beside the sample

Everything is done as a newcomer does it: `python -m venv`, `pip install` of this checkout with the extra
`cli`, `nlpctl serve`, `nlpctl infer`; then all of it again with what the first time left in the cache. The
caches of nlpctl, of pip and of uv begin empty, in a folder that goes away at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measures import table, write_json

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "manifests/samples/korean-novels.yaml"

ENCODER = {
    "apiVersion": "nlp-operator.io/v1alpha1",
    "kind": "NLPModel",
    "metadata": {"name": "sentences"},
    "spec": {
        "build": {
            "architecture": "SentenceEncoder",
            "sentenceEncoder": {},
            "inputs": [
                {"name": "weights", "source": {"persistentVolumeClaim": {"claimName": "given-by-input"}}}
            ],
        }
    },
}

HOW = {
    "install_seconds": "python -m venv, pip install '.[cli]'",
    "download_seconds": "packages of builder and server: download, unpack, compile to byte code",
    "fetch_seconds": "the inputs into the store",
    "build_seconds": "the artifact: train or convert, check, write",
    "start_seconds": "agent, Triton, Envoy; until the recorded examples gave the recorded answers",
    "serve_seconds": "nlpctl serve as a whole, from the command to ready",
    "answer_seconds": "nlpctl infer as a whole: a process, a request, a table",
}


@dataclass(frozen=True)
class Newcomer:
    """A user with nothing but this checkout and a Python."""

    home: Path

    @property
    def variables(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "UV_"))}
        return kept | {
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "PIP_CACHE_DIR": str(self.home / "pip"),
            "UV_CACHE_DIR": str(self.home / "uv"),
            "XDG_CACHE_HOME": str(self.home / "cache"),
        }

    def run(self, *words: str | Path) -> str:
        """A command to its end; its output. What it says on stderr is shown."""
        done = subprocess.run(
            [str(word) for word in words], env=self.variables, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout

    @property
    def nlpctl(self) -> Path:
        return self.home / "venv/bin/nlpctl"

    def install(self) -> float:
        started = time.monotonic()
        self.run(sys.executable, "-m", "venv", self.home / "venv")
        pip = self.home / "venv/bin/pip"
        self.run(pip, "install", "--quiet", "--disable-pip-version-check", f"{ROOT}[cli]")
        return time.monotonic() - started

    @contextmanager
    def serving(self, *words: str) -> Iterator[tuple[dict[str, Any], float]]:
        """What `nlpctl serve --json` says when it is ready, and how long that took."""
        started = time.monotonic()
        process = subprocess.Popen(
            [str(self.nlpctl), "serve", "--json", *words],
            env=self.variables,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line == "}\n":
                    break
            said = json.loads("".join(lines) or "{}")
            if "models" not in said:
                raise SystemExit(f"error: nlpctl serve {' '.join(words)} did not become ready: {said}")
            yield said, time.monotonic() - started
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
            process.stdout.close()

    def round(self, model: str, text: str, *words: str) -> dict[str, float]:
        """Serve, ask once, end; seconds by what they went into."""
        with self.serving(*words) as (said, serve_seconds):
            started = time.monotonic()
            self.run(self.nlpctl, "infer", "--local", model, text)
            answer_seconds = time.monotonic() - started
        seconds = {f"{stage}_seconds": spent for stage, spent in said["seconds"].items()}
        seconds["download_seconds"] = seconds.pop("environment_seconds")
        return seconds | {"serve_seconds": serve_seconds, "answer_seconds": answer_seconds}


def measure(newcomer: Newcomer, model: str, text: str, *words: str) -> dict[str, Any]:
    first = newcomer.round(model, text, *words)
    again = newcomer.round(model, text, *words)
    return {"first": rounded(first), "again": rounded(again)}


def rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(seconds[name], 2) for name in HOW if name in seconds}


def megabytes(folder: Path) -> int:
    """What a folder takes on disk, in 10^6 bytes; a file with several names counts once."""
    seen: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        found = path.lstat()
        seen[found.st_dev, found.st_ino] = found.st_blocks * 512
    return round(sum(seen.values()) / 1e6)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.no_cluster",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--encoder", type=Path, metavar="FOLDER", help="a sentence encoder to serve as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the numbers")
    options = parser.parse_args(words)
    # Short, for Envoy's socket lies below it.
    home = Path(tempfile.mkdtemp(prefix="nlp-"))
    try:
        newcomer = Newcomer(home)
        install_seconds = newcomer.install()
        result: dict[str, Any] = {
            "load": os.getloadavg()[0],
            "cores": len(os.sched_getaffinity(0)),
            "python": sys.version.split()[0],
            "sample": measure(newcomer, "korean-novels", "막걸리", "-f", str(SAMPLE)),
        }
        result["sample"]["first"] = {
            "install_seconds": round(install_seconds, 2),
            **result["sample"]["first"],
        }
        result["environment_megabytes"] = megabytes(home / "venv")
        result["cache_megabytes"] = megabytes(home / "cache")
        if options.encoder is not None:
            manifest = home / "encoder.yaml"
            manifest.write_text(yaml.safe_dump(ENCODER), encoding="utf-8")
            given = ("-f", str(manifest), "--input", f"weights={options.encoder.absolute()}")
            result["encoder"] = measure(newcomer, "sentences", "a guitar", *given)
            result["cache_megabytes_with_torch"] = megabytes(home / "cache")
    finally:
        shutil.rmtree(home)
    for name in ("sample", "encoder"):
        if name in result:
            print(f"\n{name}")
            first, again = result[name]["first"], result[name]["again"]
            rows = [("seconds", "first time", "again", "what")]
            rows += [
                (
                    key,
                    f"{first[key]:.1f}" if key in first else "",
                    f"{again[key]:.1f}" if key in again else "",
                    how,
                )
                for key, how in HOW.items()
                if key in first
            ]
            print(table(rows))
    write_json(options.json, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
