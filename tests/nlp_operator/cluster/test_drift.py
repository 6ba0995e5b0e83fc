"""What counts as a hand-edited object, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from nlp_operator.api.objects import Obj
from nlp_operator.cluster.drift import drift, merge_patch, quantity


def make_deployment(**container: Any) -> Obj:
    return {
        "metadata": {"labels": {"app": "x"}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"server": "s"}},
            "template": {"spec": {"containers": [{"name": "serving", "image": "i:1", **container}]}},
        },
    }


SAME = [
    pytest.param({"a": 1}, {"a": 1, "b": 2}, id="a field the server added"),
    pytest.param(
        {"labels": {"a": "1"}}, {"labels": {"a": "1", "team": "blue"}}, id="a label of somebody else"
    ),
    pytest.param({"volumes": []}, {}, id="an empty list that the server leaves out"),
    pytest.param({"emptyDir": {}}, {"emptyDir": {}}, id="an empty object"),
    pytest.param({"storageClassName": ""}, {}, id="an empty string that the server leaves out"),
    pytest.param({"limits": {"cpu": "1000m"}}, {"limits": {"cpu": "1"}}, id="a quantity spelled anew"),
    pytest.param({"sizeLimit": "1Gi"}, {"sizeLimit": "1024Mi"}, id="a quantity in another unit"),
    pytest.param(
        {"env": [{"name": "A", "value": "1"}]},
        {"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]},
        id="a variable of somebody else, and another order",
    ),
    pytest.param(
        {"ports": [{"name": "http", "port": 80}]},
        {"ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 80}]},
        id="a port with defaults",
    ),
    pytest.param({"status": {"x": 1}}, {"status": {"x": 2}}, id="the status"),
]


@pytest.mark.parametrize(("wanted", "seen"), SAME)
def test_this_is_no_drift(wanted: Obj, seen: Obj) -> None:
    assert drift(wanted, seen) is None


DIFFERENT = [
    pytest.param({"replicas": 1}, {"replicas": 0}, "replicas", id="another value"),
    pytest.param({"replicas": 0}, {}, "replicas", id="a zero taken away"),
    pytest.param({"a": False}, {}, "a", id="a false taken away"),
    pytest.param({"labels": {"a": "1"}}, {}, "labels", id="all labels taken away"),
    pytest.param({"labels": {"a": "1"}}, {"labels": {"b": "1"}}, "labels.a", id="a label taken away"),
    pytest.param(
        {"selector": {"a": "1"}},
        {"selector": {"a": "1", "b": "2"}},
        "selector",
        id="a selector made narrower",
    ),
    pytest.param({"ingress": []}, {"ingress": [{}]}, "ingress", id="a rule where none may be"),
    pytest.param({"args": ["a"]}, {"args": ["a", "b"]}, "args", id="an argument more"),
    pytest.param({"limits": {"cpu": "1"}}, {"limits": {"cpu": "2"}}, "limits.cpu", id="another quantity"),
    pytest.param({"image": "1000m"}, {"image": "1"}, "image", id="what is no quantity is not read as one"),
    pytest.param(
        make_deployment(),
        make_deployment(image="i:2"),
        "spec.template.spec.containers[serving].image",
        id="an image, with the path a person reads",
    ),
    pytest.param(
        {"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "B"}]}, "env[A]", id="a variable taken away"
    ),
]


@pytest.mark.parametrize(("wanted", "seen", "where"), DIFFERENT)
def test_this_is_drift(wanted: Obj, seen: Obj, where: str) -> None:
    assert drift(wanted, seen) == where


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("1500m", 1.5),
        ("2Gi", 2 * 2**30),
        ("3k", 3000),
        ("1e3", 1000),
        ("12E2", 1200),
        ("i:1", None),
    ],
)
def test_quantities_are_read(text: str, expected: float | None) -> None:
    found = quantity(text)
    assert (None if found is None else float(found)) == expected


@pytest.mark.parametrize(
    ("seen", "wanted", "patch"),
    [
        pytest.param({"a": 1}, {"a": 1}, {}, id="equal"),
        pytest.param({"a": 1, "b": 2}, {"a": 1}, {"b": None}, id="removed"),
        pytest.param({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"a": {"b": 3, "c": None}}, id="nested"),
        pytest.param({"l": [1, 2]}, {"l": [2]}, {"l": [2]}, id="lists are sent whole"),
        pytest.param({}, {"a": {"b": 1}}, {"a": {"b": 1}}, id="new"),
    ],
)
def test_a_merge_patch_turns_one_into_the_other(seen: Obj, wanted: Obj, patch: Obj) -> None:
    assert merge_patch(seen, wanted) == patch
