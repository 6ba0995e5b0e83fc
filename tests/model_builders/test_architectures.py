"""What the schema offers can be built, and what can be built is offered."""

from pathlib import Path

import pytest
import yaml

from model_builders.architectures import ARCHITECTURES, name_of
from nlp_operator.api import names

CRD = Path(__file__).resolve().parents[2] / "crds/nlpmodels.yaml"


def test_the_schema_and_the_builders_know_the_same_architectures() -> None:
    version = yaml.safe_load(CRD.read_text(encoding="utf-8"))["spec"]["versions"][0]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    offered = spec["properties"]["build"]["properties"]["architecture"]["enum"]
    assert sorted(offered) == sorted(ARCHITECTURES)
    assert set(offered) >= names.ARCHITECTURES_WITH_TORCH


def test_an_architecture_is_known_by_its_own_name() -> None:
    assert all(name == one.name == one.contract.architecture for name, one in ARCHITECTURES.items())


@pytest.mark.parametrize(
    ("folder", "name"),
    [("glove", "Glove"), ("ngram_profiles", "NgramProfiles"), ("word2_vec", "Word2Vec"), ("t5", "T5")],
)
def test_an_architecture_from_outside_is_named_by_its_folder(folder: str, name: str) -> None:
    assert name_of(folder) == name
