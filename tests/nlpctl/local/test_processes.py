"""Nothing runs any more once a session was ended, whatever is started meanwhile."""

from __future__ import annotations

import subprocess

import pytest

from nlpctl.errors import NotPossible
from nlpctl.local import processes
from nlpctl.local.processes import end_session, running_in_session, session_members
from tests.nlp_agent.running import wait_until

FORKS = "for _ in $(seq 300); do (sleep 60 & sleep 60) & sleep 0.01; done"
"""A shell that starts more and more, and ends in any case."""


def test_an_ended_session_has_no_process_that_runs_though_it_went_on_starting_some() -> None:
    shell = subprocess.Popen(["sh", "-c", FORKS], start_new_session=True)
    wait_until("it has started some", lambda: len(session_members(shell.pid)) >= 20)
    end_session(shell)
    assert running_in_session(shell.pid) == []


def test_what_has_ended_and_was_not_asked_for_is_a_member_that_does_not_run() -> None:
    shell = subprocess.Popen(["sh", "-c", ":"], start_new_session=True)
    wait_until("it has ended", lambda: not running_in_session(shell.pid))
    assert session_members(shell.pid) == [shell.pid]
    assert shell.wait() == 0


def test_what_cannot_be_ended_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = subprocess.Popen(["sh", "-c", ":"], start_new_session=True)
    monkeypatch.setattr(processes, "GONE_SECONDS", 0.1)
    monkeypatch.setattr(processes, "running_in_session", lambda leader: [leader])
    with pytest.raises(NotPossible, match=f"still run: {shell.pid}\\. .*-p {shell.pid}\\)"):
        end_session(shell)
    assert shell.wait(60) is not None
