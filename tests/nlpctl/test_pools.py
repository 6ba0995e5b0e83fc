from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from nlpctl import show, values
from nlpctl.pools import counts, page, picture
from tests.nlpctl.test_why import make_member, make_model, make_pool


def with_status(
    pool: dict[str, Any], ready: str = "True", message: str = "", **devices: int
) -> dict[str, Any]:
    condition = {"type": "Ready", "status": ready, "reason": "R", "message": message}
    return pool | {"status": {"conditions": [condition], "devices": devices}}


POOLS = [
    with_status(make_pool("dear", "9", max_devices=3), "False", "No node matches.", pending=2),
    with_status(make_pool("cheap", "0.5"), present=4),
]
MODELS = [
    make_model("novels", pool="cheap", replicas=2),
    make_model("wide", pool="dear", serving={"devicesPerReplica": 2}),
    make_model("unplaced"),
]


def test_the_cheapest_pool_comes_first_with_what_lies_on_it() -> None:
    cheap, dear = picture(POOLS, MODELS)
    assert [one.name for one in (cheap, dear)] == ["cheap", "dear"]
    assert cheap.cells() == ["demo/novels", "demo/novels", "", ""]
    assert dear.cells() == ["demo/wide", "demo/wide", ""]
    assert cheap.headline == "2 of 4 devices held, 4 present; 1,024 MiB each at 0.5 an hour"
    assert dear.headline == "2 of 3 devices held, 0 present, 2 waited for; 1,024 MiB each at 9 an hour"
    assert (cheap.problem, dear.problem) == ("", "No node matches.")


def test_a_pool_that_holds_more_than_it_may_shows_all_of_it() -> None:
    (pool,) = picture([make_pool("a", max_devices=1)], [make_model(pool="a", replicas=3)])
    assert pool.cells() == ["demo/novels"] * 3
    assert pool.problem == "The operator has not looked at this pool yet."


def test_a_shared_server_is_told_with_how_busy_it_is() -> None:
    models = [make_member(name, replicas=2) for name in ("novels", "words")]
    models[0]["status"]["scaling"] = {"desired": 2, "busyMillis": 300}
    models[1]["status"]["scaling"] = {"desired": 1, "busyMillis": 120}
    (pool,) = picture([make_pool("a")], models)
    assert [counts(one) for one in pool.lying] == ["2 replicas, up to 36 % busy"]


def test_a_pool_that_cannot_be_read_is_shown_with_the_reason() -> None:
    (odd,) = picture([{"metadata": {"name": "odd"}, "spec": {"device": 7}}], [])
    assert odd.cells() == []
    assert odd.problem


def test_the_terminal_shows_a_square_for_each_device() -> None:
    out = io.StringIO()
    show.print_pools(Console(file=out, width=100), picture(POOLS, MODELS))
    assert out.getvalue().splitlines() == [
        "cheap  2 of 4 devices held, 4 present; 1,024 MiB each at 0.5 an hour",
        "  ■■□□",
        "  ■ demo/novels  2 replicas",
        "",
        "dear  2 of 3 devices held, 0 present, 2 waited for; 1,024 MiB each at 9 an hour",
        "  ✗ No node matches.",
        "  ■■□",
        "  ■ demo/wide  1 replica of 2 devices",
        "",
    ]


def test_a_large_pool_is_drawn_in_lines() -> None:
    out = io.StringIO()
    show.print_pools(Console(file=out, width=200), picture([make_pool("a", max_devices=130)], []))
    assert [line.count("□") for line in out.getvalue().splitlines() if "□" in line] == [60, 60, 10]


@pytest.mark.parametrize(
    ("replicas", "drawn", "more"),
    [
        pytest.param(2, 2, "and 99,400 more, 99,400 of them free", id="most are free"),
        pytest.param(700, 600, "and 99,400 more, 99,300 of them free", id="some that are held are not drawn"),
        pytest.param(100_002, 600, "and 99,402 more, none of them free", id="more are held than it may"),
    ],
)
def test_of_the_largest_pool_the_first_devices_are_drawn_and_the_others_counted(
    replicas: int, drawn: int, more: str
) -> None:
    pictures = picture([make_pool("a", max_devices=100_000)], [make_model(pool="a", replicas=replicas)])
    out = io.StringIO()
    show.print_pools(Console(file=out, width=100), pictures)
    lines = out.getvalue().splitlines()
    assert len(lines) < 20
    assert sum(line.count("■") for line in lines) == drawn + 1, "and the one beside the model's name"
    assert f"  {more}" in lines
    text = page(pictures)
    assert (text.count("<i "), more in text) == (601, True)


def test_a_pool_of_as_many_devices_as_are_drawn_has_no_more() -> None:
    (pool,) = picture([make_pool("a", max_devices=600)], [])
    assert (len(pool.cells()), pool.not_drawn) == (600, "")


def test_the_page_names_every_model_and_loads_nothing() -> None:
    odd = make_model("odd", pool="cheap")
    odd["metadata"]["namespace"] = "<b>"
    text = page(picture(POOLS, [*MODELS, odd]), ["Models of other namespaces are not shown."])
    assert text.count('title="demo/novels"') == 2
    assert text.count('title="free"') == 2
    assert "&lt;b&gt;/odd" in text
    assert "<b>" not in text
    assert "Models of other namespaces are not shown." in text
    assert "http" not in text


def test_json_has_the_numbers() -> None:
    cheap, _ = values.pools_value(picture(POOLS, MODELS))
    assert (cheap["pool"], cheap["held"], cheap["maxDevices"], cheap["present"]) == ("cheap", 2, 4, 4)
    assert cheap["models"] == [
        {"model": "demo/novels", "replicas": 2, "devicesPerReplica": 1, "busyMillis": 0}
    ]


def test_a_shared_server_is_one_square_a_device_with_all_its_models() -> None:
    (pool,) = picture([make_pool("a")], [make_member("words"), make_member("novels"), make_model(pool="a")])
    assert pool.cells() == ["demo/nlp-shared-0 (novels, words)", "demo/novels", "", ""]
