from __future__ import annotations

import mmap
import os
import subprocess
import sys

from nlp_agent.memory import Held, held_by, maps_library, parse_rollup
from tests.nlp_agent.running import wait_until

MEBIBYTE = 1024 * 1024
ROLLUP = """55b0c0000000-7ffd00000000 ---p 00000000 00:00 0    [rollup]
Rss:               30000 kB
Pss:               18000 kB
Pss_Dirty:         12000 kB
Pss_Anon:          12000 kB
Shared_Clean:      16000 kB
Shared_Dirty:          0 kB
Private_Clean:      1000 kB
Private_Dirty:     12000 kB
Private_Hugetlb:    2048 kB
"""
HOLDER = """
import mmap, sys
memory = mmap.mmap(int(sys.argv[1]), int(sys.argv[2]))
sum(memory[place] for place in range(0, len(memory), mmap.PAGESIZE))
print("touched", flush=True)
input()
"""


def test_rollup_is_read_in_bytes() -> None:
    assert parse_rollup(ROLLUP) == Held(18000 * 1024, 15048 * 1024, 1)
    assert parse_rollup("") == Held()


def test_process_that_has_ended_holds_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert held_by([child.pid]) == Held()


def test_shared_pages_count_once_in_the_sum_and_in_no_ones_private_part() -> None:
    size = 64 * MEBIBYTE
    descriptor = os.memfd_create("shared")
    os.ftruncate(descriptor, size)
    before = held_by([os.getpid()])
    with mmap.mmap(descriptor, size) as memory:
        memory.write(b"x" * size)
        child = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(descriptor), str(size)],
            pass_fds=[descriptor],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"touched\n"
        both, alone = held_by([os.getpid(), child.pid]), held_by([child.pid])
        child.communicate()
    os.close(descriptor)
    assert both.processes == 2
    assert both.total - before.total < 1.5 * size, "not counted twice"
    assert alone.total > 0.45 * size, "half of it is the child's"
    assert alone.private < 0.45 * size, "and nothing of it is the child's alone"


def test_loaded_library_is_found_by_the_beginning_of_its_name() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import ctypes; input()"], stdin=subprocess.PIPE)
    try:
        wait_until("it has loaded ctypes", lambda: maps_library(child.pid, "libc"))
        assert not maps_library(child.pid, "libcuda.so")
    finally:
        child.communicate()
    assert not maps_library(child.pid, "libc")
