"""The sample of mixed pools: every model on the cheapest slot that holds it."""

from __future__ import annotations

from pathlib import Path

import yaml

from nlp_operator.api.objects import Obj, name
from nlp_operator.api.spec import parse_model
from nlp_operator.planning.packing.reading import ask_of
from nlp_operator.planning.together import Decision, Question, decide

SAMPLE = Path(__file__).resolve().parents[3] / "manifests" / "samples" / "mixed-pools"


def manifests(file: str, kind: str) -> list[Obj]:
    read = yaml.safe_load_all((SAMPLE / file).read_text(encoding="utf-8"))
    return [one for one in read if one["kind"] == kind]


def placed(*files: str) -> Decision:
    pools = manifests("pools.yaml", "DevicePool")
    for number, pool in enumerate(pools):
        pool["metadata"]["uid"] = str(number)
    models = [one for file in files for one in manifests(file, "NLPModel")]
    specs = [(name(one), parse_model(one)) for one in models]
    asks = [ask_of("demo", one, spec, spec.scaling.min_replicas) for one, spec in specs]
    return decide(Question(tuple(sorted(asks, key=lambda one: one.key)), tuple(pools)))


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
    """The small ones join those who need a T4 anyway: a slot of cores more would cost more."""
    made = placed("models.yaml", "models-on-gpus.yaml")
    assert made.plan.missing == {}
    assert lying(made) == {
        "mixed-cpu": [["menus-alone"]],
        "t4-shared": [["menus", "questions-en", "questions-ko", "stops", "weather"]],
        "a100-mig": [["answers"], ["answers"]],
        "l4": [["archive"]],
    }
