"""The sample of mixed pools: every model on the cheapest slot that holds it."""

from __future__ import annotations

from pathlib import Path

import yaml

from nlp_operator.api.objects import Obj, name
from nlp_operator.api.spec import parse_model
from nlp_operator.planning.packing.reading import ask_of
from nlp_operator.planning.together import Decision, Question, decide
from tests.nlp_operator.planning.packing.making import waited

SAMPLE = Path(__file__).resolve().parents[3] / "manifests" / "samples" / "mixed-pools"


def manifests(file: str, kind: str) -> list[Obj]:
    read = yaml.safe_load_all((SAMPLE / file).read_text(encoding="utf-8"))
    return [one for one in read if one["kind"] == kind]


def placed(*files: str, gone: str = "", without: str = "") -> Decision:
    """`gone`: a pool in which pods of all waited for nodes in vain; `without`: one that is not there."""
    pools = [one for file in ("pools.yaml", *files) for one in manifests(file, "DevicePool")]
    pools = [one for one in pools if name(one) != without]
    for number, pool in enumerate(pools):
        pool["metadata"]["uid"] = str(number)
    models = [one for file in files for one in manifests(file, "NLPModel")]
    specs = [(name(one), parse_model(one)) for one in models]
    asks = [ask_of("demo", one, spec, spec.scaling.min_replicas) for one, spec in specs]
    asked = tuple(sorted(asks, key=lambda one: one.key))
    undelivered = {one.key: waited(gone) for one in asked if gone}
    return decide(Question(asked, tuple(pools), undelivered=undelivered))


def lying(made: Decision) -> dict[str, list[list[str]]]:
    """The models of each server, by pool; of each replica once."""
    found: dict[str, list[list[str]]] = {}
    for server in made.plan.servers:
        models = [one.partition("/")[2] for one in server.models]
        found.setdefault(server.pool, []).extend([models] * server.replicas)
    return {pool: sorted(servers) for pool, servers in found.items()}


def test_without_gpus_everything_of_the_first_file_is_on_cores() -> None:
    made = placed("models.yaml")
    assert lying(made) == {"mixed-cpu": [["menus", "stops", "weather"], ["menus-alone"]]}


def test_with_gpus_each_model_is_where_all_together_cost_least() -> None:
    """The small one joins those who need a T4 anyway: cores for it would cost more. The others compute
    on cores only."""
    made = placed("models.yaml", "models-on-gpus.yaml")
    assert made.plan.missing == {}
    assert lying(made) == {
        "mixed-cpu": [["menus-alone"], ["stops", "weather"]],
        "t4-shared": [["menus", "questions-en", "questions-ko"]],
        "a100-mig": [["answers"], ["answers"]],
        "l4": [["archive"]],
    }


def test_half_of_the_replicas_are_on_spot_nodes_and_half_are_not() -> None:
    made = placed("models.yaml", "spot.yaml")
    assert made.plan.missing == {}
    assert lying(made) == {
        "mixed-cpu": [["stops-always"]] * 2,
        "mixed-cpu-spot": [["menus", "stops", "weather"], ["menus-alone"], *[["stops-always"]] * 2],
    }


def test_without_spot_nodes_half_of_the_replicas_serve() -> None:
    made = placed("models.yaml", "spot.yaml", gone="mixed-cpu-spot")
    assert made.plan.missing == {"demo/stops-always": 2}
    assert lying(made)["mixed-cpu"].count(["stops-always"]) == 2
    told = made.shares["demo/stops-always"].missing
    assert told is not None
    assert [one.reason for one in told.refusals if one.pool == "mixed-cpu-spot"] == ["NotDelivered"]


def test_a_model_that_computes_on_cores_only_is_told_so_where_there_are_none() -> None:
    """Its server would refuse it on a GPU, for which it would have paid."""
    made = placed("models-on-gpus.yaml", "models.yaml", without="mixed-cpu")
    assert set(made.plan.missing) == {"demo/stops", "demo/weather"}
    told = made.shares["demo/stops"].missing
    assert told is not None
    assert {one.reason for one in told.refusals} == {"CoresOnly"}
    assert told.change.endswith(
        "would take a replica more if it were a pool of cores (spec.device.type Cpu)."
    )
    assert all("computes on nothing else" in one.message for one in told.refusals)
