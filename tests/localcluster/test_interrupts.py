from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, time, weakref
from localcluster.interrupts import interruptible, signals_do

number = signal.Signals(int(sys.argv[1]))

class Anything:
    pass

def ended(_reference):
    os.kill(os.getpid(), number)
    for _ in range(1000):  # the handler runs here, and what it raises ends in the callback
        pass

with interruptible(signal.SIGTERM):
    try:
        thing = Anything()
        reference = weakref.ref(thing, ended)
        del thing
        print("went on", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        with signals_do(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_signal_that_meets_a_callback_ends_the_program_all_the_same(number: signal.Signals) -> None:
    command = ["env", "--default-signal=INT", sys.executable, "-c", PROGRAM, str(number.value)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout.split("\n")) == (130, ["went on", "interrupted", ""]), done.stderr
    assert done.stderr == ""
