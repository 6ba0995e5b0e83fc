"""What the audit-log reader makes of lines. Against a real API server: `tests/cluster/test_witnesses.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.audit import (
    AuditLog,
    AuditLogError,
    count_by_kind,
    parse_line,
    rights_used,
    service_account,
)

OPERATOR = service_account("nlp-system", "nlp-operator")


def make_line(**changes: Any) -> str:
    """A line of the log: the operator creates a Job and is answered with 201."""
    event: dict[str, Any] = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "auditID": "1",
        "stage": "ResponseComplete",
        "requestURI": "/apis/batch/v1/namespaces/demo/jobs?fieldManager=nlp-operator",
        "verb": "create",
        "user": {"username": OPERATOR},
        "userAgent": "nlp-operator/0.1",
        "objectRef": {"resource": "jobs", "namespace": "demo", "apiGroup": "batch", "apiVersion": "v1"},
        "responseStatus": {"code": 201},
        "requestObject": {"kind": "Job", "metadata": {"name": "novels-build-1a2b3c4d"}},
        "requestReceivedTimestamp": "2026-11-25T12:00:00.000000Z",
        "stageTimestamp": "2026-11-25T12:00:00.012345Z",
    }
    return json.dumps({**event, **changes}) + "\n"


def make_target(resource: str, group: str = "", subresource: str = "") -> dict[str, Any]:
    return {
        "resource": resource,
        "apiGroup": group,
        "subresource": subresource,
        "namespace": "demo",
        "name": "x",
    }


def test_a_creation_has_the_name_of_its_body_when_the_url_has_none() -> None:
    entry = parse_line(make_line())

    assert entry is not None
    assert (entry.kind, entry.namespace, entry.name) == ("jobs.batch", "demo", "novels-build-1a2b3c4d")
    assert (entry.answered - entry.received).microseconds == 12345


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="a creation"),
        pytest.param(
            {"verb": "patch", "responseStatus": {"code": 200}}, id="a server-side apply, changed or not"
        ),
        pytest.param({"verb": "delete"}, id="a deletion"),
        pytest.param({"objectRef": make_target("nlpmodels", "nlp-operator.io", "status")}, id="a status"),
        pytest.param({"objectRef": make_target("serviceaccounts")}, id="a ServiceAccount itself"),
    ],
)
def test_it_counts_as_a_write(changes: dict[str, Any]) -> None:
    entry = parse_line(make_line(**changes))

    assert entry is not None
    assert entry.counted


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"verb": "list"}, id="a read"),
        pytest.param({"verb": "watch"}, id="a watch"),
        pytest.param({"responseStatus": {"code": 409}}, id="a conflict"),
        pytest.param({"responseStatus": {"code": 422}}, id="an object refused"),
        pytest.param({"objectRef": make_target("leases", "coordination.k8s.io")}, id="a Lease"),
        pytest.param({"objectRef": make_target("events", "events.k8s.io")}, id="an Event"),
        pytest.param(
            {"objectRef": make_target("subjectaccessreviews", "authorization.k8s.io")}, id="a review"
        ),
        pytest.param({"objectRef": make_target("serviceaccounts", "", "token")}, id="a token"),
        pytest.param({"requestURI": "/apis/batch/v1/namespaces/demo/jobs?dryRun=All"}, id="a dry run"),
    ],
)
def test_it_does_not_count_as_a_write(changes: dict[str, Any]) -> None:
    entry = parse_line(make_line(**changes))

    assert entry is not None
    assert not entry.counted


def test_a_request_is_read_once_from_its_answer() -> None:
    assert parse_line(make_line(stage="RequestReceived")) is None
    assert parse_line(make_line(stage="ResponseStarted")) is None


def test_a_request_for_no_resource_is_left_out() -> None:
    line = json.loads(make_line(requestURI="/healthz", verb="get"))
    del line["objectRef"]

    assert parse_line(json.dumps(line)) is None


def test_a_line_that_is_not_json_is_an_error_with_the_line() -> None:
    with pytest.raises(AuditLogError, match="not JSON: 'garbage"):
        parse_line("garbage\n")


def test_a_mark_hides_what_came_before_and_a_half_written_line_waits(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")
    log.path.write_text(make_line(auditID="before"))
    mark = log.mark()
    second = make_line(auditID="after")
    with log.path.open("a") as file:
        file.write(second[:40])
        file.flush()
        assert list(log.entries(since=mark)) == []
        file.write(second[40:])

    assert [entry.audit_id for entry in log.entries(since=mark)] == ["after"]
    assert [entry.audit_id for entry in log.entries(until=mark)] == ["before"]


def test_writes_are_filtered_by_user_verb_kind_namespace_and_name(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")
    log.path.write_text(
        make_line(auditID="1")
        + make_line(auditID="2", user={"username": "admin"})
        + make_line(auditID="3", verb="delete", objectRef=make_target("pods"))
    )

    assert [entry.audit_id for entry in log.writes(user=OPERATOR)] == ["1", "3"]
    assert [entry.audit_id for entry in log.writes(user=OPERATOR, verb="delete")] == ["3"]
    assert [entry.audit_id for entry in log.writes(kind="pods", name="x", namespace="demo")] == ["3"]
    assert count_by_kind(log.writes()) == {"create jobs.batch": 2, "delete pods": 1}


def test_waiting_for_an_entry_that_does_not_come_says_what_was_there(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")
    log.path.write_text(make_line())

    with pytest.raises(AuditLogError, match=r"did not show a deletion within 0.1 s; it has 1 entries"):
        log.wait_for(
            lambda entries: any(entry.verb == "delete" for entry in entries),
            timeout_seconds=0.1,
            what="a deletion",
        )


def test_rights_used_leave_out_what_was_forbidden(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")
    log.path.write_text(
        make_line()
        + make_line(verb="get", objectRef=make_target("secrets"), responseStatus={"code": 403})
        + make_line(verb="patch", objectRef=make_target("nlpmodels", "nlp-operator.io", "status"))
    )

    assert rights_used(log.entries(), OPERATOR) == {
        ("create", "batch", "jobs"),
        ("patch", "nlp-operator.io", "nlpmodels/status"),
    }
