"""Lanes of small commands, and the parts that CI really has."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tools import lanes
from tools.lanes import Part, Run, table, told_again
from tools.tiers import TIERS


def part(name: str, program: str = "", after: str = "") -> Part:
    return Part(name, (sys.executable, "-c", program), after)


def run(tmp_path: Path, *parts: tuple[Part, ...]) -> Run:
    run = Run({str(number): lane for number, lane in enumerate(parts)}, tmp_path)
    run.run()
    return run


def test_every_tier_runs_once() -> None:
    words = [word for parts in lanes.lanes("7").values() for one in parts for word in one.command]
    told = [word.removeprefix("TIERS=") for word in words if word.startswith("TIERS=")]
    assert sorted(" ".join(told).split()) == sorted(TIERS)


def test_no_part_waits_for_ever() -> None:
    """Every part begins once those before it in its lane have ended, and the one that it names."""
    left = {name: list(parts) for name, parts in lanes.lanes("7").items()}
    ended: set[str] = set()
    while begins := [parts for parts in left.values() if parts and {parts[0].after} <= {"", *ended}]:
        ended |= {parts.pop(0).name for parts in begins}
    assert not any(left.values())


def test_lanes_run_side_by_side_and_a_part_after_the_one_it_waits_for(tmp_path: Path) -> None:
    """Each of the first two waits for the other's file: they end only when they run at the same time."""
    wait = "import os, time\nopen({!r}, 'w')\nwhile not os.path.exists({!r}): time.sleep(0.01)"
    one, other = str(tmp_path / "file-1"), str(tmp_path / "file-2")
    ended = run(
        tmp_path,
        (part("one", wait.format(one, other)), part("slow", "import time; time.sleep(0.3)")),
        (part("other", wait.format(other, one)), part("late", after="slow")),
    )
    assert ended.good
    assert [one.part.name for one in ended.results][2:] == ["slow", "late"]


def test_what_failed_is_told_again_and_the_rest_runs_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = part("bad", "print('\\n'.join(f'line {n}' for n in range(100)))\nraise SystemExit(3)")
    ended = run(tmp_path, (bad, part("next", "print('3 passed, 0 failed, 0 skipped')")))
    assert not ended.good
    assert "line 0\n" in capsys.readouterr().out, "the whole of it, once"
    failed, following = ended.results
    again = told_again(failed)
    assert again.endswith("line 99")
    assert "line 40\n" in again
    assert "line 39\n" not in again
    assert following.good
    rows = table(ended).splitlines()
    assert rows[1].split() == ["bad", "0", "s", "FAILED"]
    assert rows[2].split() == ["next", "0", "s", "ok", "3", "passed,", "0", "failed,", "0", "skipped"]


def test_parts_that_never_began_are_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane may break off; the others, and who waits for a part of it, go on."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    broken = Part("broken", (str(tmp_path / "no such program"),))
    ended = run(tmp_path, (broken, part("next")), (part("late", after="next"),))
    assert not ended.good
    rows = [line.split() for line in table(ended).splitlines()[1:]]
    assert rows[0][0] == "late"
    assert rows[1:] == [["broken", "-", "not", "run"], ["next", "-", "not", "run"]]


def test_one_that_is_ended_ends_what_runs_and_begins_nothing_more(tmp_path: Path) -> None:
    ready, gone = tmp_path / "ready", tmp_path / "gone"
    program = f"""
import pathlib, signal, sys, threading
from tools.lanes import Part, Run, table
from localcluster.interrupts import interruptible

child = '''
import pathlib, signal, sys
def end(*_):
    pathlib.Path({str(gone)!r}).touch()
    sys.exit(1)
signal.signal(signal.SIGTERM, end)
pathlib.Path({str(ready)!r}).touch()
signal.pause()
'''
parts = (Part("long", (sys.executable, "-c", child)), Part("next", ("false",)))
with interruptible(signal.SIGTERM):
    run = Run({{"lane": parts}}, pathlib.Path({str(tmp_path)!r}))
    run.run()
assert not run.good
print(table(run))
"""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (lanes.ROOT, lanes.ROOT / "operator"))),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True
    )
    while not ready.exists():
        assert process.poll() is None
        threading.Event().wait(0.02)
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert gone.exists()
    assert "next begins" not in told
    *_, stopped, left = (line.split() for line in told.splitlines())
    assert (stopped[0], stopped[-1]) == ("long", "stopped")
    assert left == ["next", "-", "not", "run"]
