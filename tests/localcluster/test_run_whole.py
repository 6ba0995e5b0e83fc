"""Commands that start others end with whoever started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from localcluster.processes import end_group, identity_of, run_whole

STARTER = """
import sys
from localcluster.processes import run_whole
run_whole(["sh", "-c", "echo $$ > $0.part; mv $0.part $0; exec sleep 600", sys.argv[1]])
"""


def test_output_and_code_are_the_commands_own() -> None:
    done = run_whole(["sh", "-c", "echo 기차; echo away >&2; exit 7"])
    assert (done.stdout, done.stderr, done.returncode) == ("기차\n", "away\n", 7)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_ends_with_a_starter_that_cannot_end_it(tmp_path: Path, end: signal.Signals) -> None:
    told = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", STARTER, str(told)]) as starter:
        while not told.exists():
            assert starter.poll() is None
        sleeper = identity_of(int(told.read_text()))
        assert sleeper is not None
        starter.send_signal(end)
        assert starter.wait(30) == -end
    while sleeper.alive():
        pass


def test_a_group_that_was_ended_is_gone_whole() -> None:
    """Also those in it that are nobody's child any more."""
    script = "sleep 600 & sleep 600 & echo $!; wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        end_group(process)
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
        assert identity_of(child) is None
