from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nlp_agent.backends import all_pids, find_dead, list_children, parse_stat
from tests.nlp_agent.running import state, wait_until


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12 (python3) S 1 12 12 0 -1 4194560", ("S", 1)),
        ("12 (a (b) c) Z 345 12 12 0 -1 4194560", ("Z", 345)),
    ],
)
def test_stat_is_read_whatever_the_command_is_called(text: str, expected: tuple[str, int]) -> None:
    assert parse_stat(text) == expected


def test_zombie_is_dead_before_it_is_reaped() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    remembered = {"words": frozenset({child.pid})}
    assert list_children(os.getpid())[child.pid] in "RSD"
    assert find_dead(os.getpid(), remembered) == {}
    assert child.pid in all_pids()
    child.kill()
    wait_until("it is a zombie", lambda: state(child.pid) == "Z")
    assert find_dead(os.getpid(), remembered) == remembered
    child.communicate()
    assert find_dead(os.getpid(), remembered) == remembered
    assert child.pid not in all_pids()
