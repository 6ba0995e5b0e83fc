"""Signals that end a program in order, also where Python would lose them.

A handler runs between any two instructions, also within a callback of a weak reference or the garbage
collector. What it raises there is printed and dropped, and the program goes on as if nobody had asked it to
end. Here it is raised again a moment later.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

MOMENT_SECONDS = 0.01
"""By then a callback has ended. If it has not, the interrupt is lost, and raised, once more."""

Handler = Callable[[int, FrameType | None], None] | signal.Handlers


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Any signal becomes what SIGINT is in Python, so that it undoes things too."""
    raise KeyboardInterrupt(signal.Signals(number).name)


@contextmanager
def interruptible(*numbers: signal.Signals) -> Iterator[None]:
    """KeyboardInterrupt for these signals, and not one of them lost, nor a Ctrl-C."""
    with signals_do(interrupt, *numbers):
        before = sys.unraisablehook

        def once_more(lost: sys.UnraisableHookArgs) -> None:
            if isinstance(lost.exc_value, KeyboardInterrupt):
                _thread.start_new_thread(_interrupt_soon, (_signal_of(lost.exc_value),))
            else:
                before(lost)

        sys.unraisablehook = once_more
        try:
            yield
        finally:
            sys.unraisablehook = before


@contextmanager
def signals_do(action: Handler, *numbers: signal.Signals) -> Iterator[None]:
    """Handle signals in another way for a while. In a thread nothing changes: Python forbids it there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What is ignored stays ignored: so nohup and a shell's background jobs mean it.
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, action) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt_soon(number: signal.Signals) -> None:
    time.sleep(MOMENT_SECONDS)
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, number)  # so it ends a wait too; `_thread.interrupt_main` would not


def _signal_of(interrupt: KeyboardInterrupt) -> signal.Signals:
    """The signal it stands for; Python's own, of a Ctrl-C, names none."""
    return signal.Signals[str(interrupt)] if str(interrupt) else signal.SIGINT
