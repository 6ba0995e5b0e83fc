"""docs/extending.md, followed to the letter.

What is written down here is what the page shows and nothing else: a folder outside `model_builders/`, an
entry in a copy of the CRD, a manifest. The programs are those of the repository. An architecture that needed
any other file to change would not get to its answer.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from nlp_operator.api.spec import parse_model
from nlp_operator.resources.jobs import FetchedInput, build_request
from tests.model_builders.asking import serving
from tests.model_builders.extending.page import (
    DOCKERFILE,
    ENTRY,
    FOLDER,
    KUSTOMIZATION,
    MANIFEST,
    ROOT,
    Page,
    crd,
    patched,
    read_page,
    spec_schema,
    write_image,
)
from tests.model_builders.made import Jobs, Ran, make_jobs
from tests.nlp_agent.running import RunningAgent
from tests.nlp_operator.api.test_schema import walk, with_inner_defaults
from tests.nlp_operator.making import SETTINGS, World
from tests.nlp_operator.schema import misfits

MODEL = "speech-levels"


def stored(page: Page) -> dict[str, Any]:
    """The page's NLPModel as an API server with the page's entry keeps it: checked, defaults filled in."""
    schema = spec_schema(patched(crd(), page.entry))
    model = page.model
    assert misfits(schema, model["spec"], "spec") == []
    metadata = {**model["metadata"], "namespace": "demo", "uid": "1", "generation": 1}
    return {**model, "metadata": metadata, "spec": with_inner_defaults(schema, model["spec"])}


@dataclass(frozen=True)
class Image:
    """A builder with the page's folder in it."""

    jobs: Jobs
    app: Path

    def fetch(self, page: Page) -> list[FetchedInput]:
        for name, text in page.config_map["data"].items():
            self.jobs.put(name, text)
        keys = {
            one["name"]: one["source"]["configMap"]["key"] for one in page.model["spec"]["build"]["inputs"]
        }
        ran = self.jobs.fetch(
            *({"name": name, "path": str(self.jobs.volumes / "corpus" / key)} for name, key in keys.items()),
            PYTHONPATH=str(self.app),
        )
        assert ran.code == 0, ran.log
        return [FetchedInput(one["name"], one["sha256"]) for one in ran.result["inputs"]]

    def build(self, model: dict[str, Any], fetched: list[FetchedInput]) -> Ran:
        """By the request that the operator writes into the Job."""
        request = build_request(model, parse_model(model).build, fetched)
        return self.jobs.run("build", request, PYTHONPATH=str(self.app))

    def artifact(self, page: Page) -> Path:
        ran = self.build(stored(page), self.fetch(page))
        assert ran.code == 0, ran.log
        return self.jobs.store / "artifacts" / str(ran.result["digest"])


def make_image(page: Page, folder: Path) -> Image:
    return Image(make_jobs(folder), write_image(page, folder))


@pytest.fixture
def page() -> Page:
    return read_page()


def test_the_page_shows_one_folder_and_one_entry_and_what_a_user_writes(page: Page) -> None:
    assert {path for path in page.files if not path.startswith(FOLDER)} == {
        DOCKERFILE,
        ENTRY,
        KUSTOMIZATION,
        MANIFEST,
    }
    assert {path.removeprefix(FOLDER) for path in page.folder} == {
        "__init__.py",
        "builder.py",
        "served/__init__.py",
        "served/answering.py",
        "served/model.py",
    }
    assert page.text.count("\n```python\n") == len(page.folder)


@pytest.mark.parametrize("under", ["operator", "model_builders", "crds", "images", "manifests", "charts"])
def test_nothing_of_ours_knows_the_architecture_of_the_page(under: str) -> None:
    """Or the page would not show what it takes. The name stands as an example in a comment or two."""
    named = re.compile(r"NgramProfiles|ngramProfiles|ngram_profiles")
    shown = {"model_builders/architectures.py"}
    files = [path for path in (ROOT / under).rglob("*") if path.suffix in (".py", ".yaml", ".txt", "")]
    assert {
        str(path.relative_to(ROOT))
        for path in files
        if path.is_file() and named.search(path.read_text(encoding="utf-8"))
    } <= shown


def test_the_entry_adds_to_the_schema_and_changes_nothing_of_it(page: Page) -> None:
    before, after = spec_schema(crd()), spec_schema(patched(crd(), page.entry))
    build, more = before["properties"]["build"], after["properties"]["build"]
    assert set(more["properties"]) - set(build["properties"]) == {"ngramProfiles"}
    assert [one for one in more["properties"]["architecture"]["enum"] if one != "NgramProfiles"] == build[
        "properties"
    ]["architecture"]["enum"]
    assert more["x-kubernetes-validations"][:-1] == build["x-kubernetes-validations"]
    del more["properties"]["ngramProfiles"], more["properties"]["architecture"]["enum"][-1]
    del more["x-kubernetes-validations"][-1]
    assert after == before


def test_the_entry_is_bounded_and_small(page: Page) -> None:
    member = page.entry[-1]["value"]
    for path, node in walk(member, "ngramProfiles"):
        assert "description" in node, path
        assert node["type"] == "object" or {"minimum", "maximum", "default"} <= node.keys(), path
    assert len(page.files[ENTRY].encode()) < 1536


def test_the_model_is_refused_without_the_entry(page: Page) -> None:
    found = misfits(spec_schema(crd()), page.model["spec"], "spec")
    assert sorted(found) == ["spec.build.architecture breaks enum", "spec.build.ngramProfiles is unknown"]


def test_a_parameter_outside_the_entrys_bounds_is_refused(page: Page) -> None:
    spec = page.model["spec"]
    spec["build"]["ngramProfiles"] = {"longest": 6, "size": 3}
    found = misfits(spec_schema(patched(crd(), page.entry)), spec, "spec")
    assert sorted(found) == [
        "spec.build.ngramProfiles.longest breaks maximum",
        "spec.build.ngramProfiles.size is unknown",
    ]


def test_the_operator_passes_the_parameters_on_and_builds_with_the_plain_image(page: Page) -> None:
    world = World(stored(page), settings=replace(SETTINGS, torch_builder_image="builder-torch:1"))
    world.settle()
    world.fetched()
    world.settle()
    request = world.request("build")
    assert (request["architecture"], request["parameters"]) == (
        "NgramProfiles",
        {"longest": 5, "profileSize": 300},
    )
    assert world.job("build")["spec"]["template"]["spec"]["containers"][0]["image"] == "builder:1"


@pytest.mark.jobs
def test_it_becomes_an_artifact(page: Page, tmp_path: Path) -> None:
    artifact = make_image(page, tmp_path).artifact(page)
    assert {path.name for path in (artifact / "1").iterdir()} == {
        "answering.py",
        "backend.py",
        "model.py",
        "profiles.json",
        "vectors.py",
        "words.py",
    }
    for path in (artifact / "1").glob("*.py"):
        imports = re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert not {"model_builders", "nlp_architectures"} & set(imports), path
    metrics = json.loads((artifact / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    assert metrics == {"accuracy": 1, "labels": 2, "trainTexts": 20, "testTexts": 12}
    assert "존댓말" in (artifact / "report.html").read_text(encoding="utf-8")


@pytest.mark.jobs
@pytest.mark.parametrize(
    ("changes", "reason", "sentence"),
    [
        pytest.param(
            {"ngramProfiles": {"longest": 6, "size": 3}},
            "ParameterInvalid",
            "spec.build.ngramProfiles.size is not known; there are longest, profileSize; "
            "spec.build.ngramProfiles.longest is 6; it must be a whole number, 1 to 5.",
            id="parameters that an older entry let pass",
        ),
        pytest.param(
            {"quality": [{"metric": "accuracy", "atMost": "0.5"}]},
            "QualityBelowFloor",
            "accuracy is 1, at most 0.5 was asked for",
            id="a bound that does not hold",
        ),
        pytest.param(
            {"architecture": "NgramProfile", "ngramProfile": {}},
            "ParameterInvalid",
            "spec.build.architecture is 'NgramProfile'; "
            "this builder builds HuggingFace, NgramProfiles, OneHot, ",
            id="a name that the image has not",
        ),
    ],
)
def test_the_builder_refuses_with_a_sentence(
    page: Page, tmp_path: Path, changes: dict[str, Any], reason: str, sentence: str
) -> None:
    image, model = make_image(page, tmp_path), stored(page)
    model["spec"]["build"] |= changes
    ran = image.build(model, image.fetch(page))
    assert (ran.code, ran.result["reason"]) == (10, reason), ran.log
    assert sentence in ran.result["message"]


@pytest.mark.jobs
@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        pytest.param(
            "import no_such_package\n",
            "The architecture NgramProfiles is nlp_architectures.ngram_profiles.builder in this builder's "
            "image, which cannot be loaded: ModuleNotFoundError: No module named 'no_such_package'.",
            id="cannot be imported",
        ),
        pytest.param(
            "from model_builders.one_hot.builder import OneHotArchitecture\n"
            "ARCHITECTURE = OneHotArchitecture()\n",
            "nlp_architectures.ngram_profiles.builder builds 'OneHot', with a contract of 'OneHot'; by its "
            "folder it is 'NgramProfiles', and all three must be one name.",
            id="has another name",
        ),
    ],
)
def test_a_broken_folder_stops_its_own_models_alone(
    page: Page, tmp_path: Path, broken: str, sentence: str
) -> None:
    image, model = make_image(page, tmp_path), stored(page)
    (image.app / FOLDER / "builder.py").write_text(broken, encoding="utf-8")
    fetched = image.fetch(page)
    ran = image.build(model, fetched)
    assert (ran.code, ran.result["reason"]) == (10, "BuildFailed"), ran.log
    assert ran.result["message"] == sentence
    del model["spec"]["build"]["ngramProfiles"], model["spec"]["build"]["quality"]
    model["spec"]["build"] |= {"architecture": "OneHot", "oneHot": {}}
    assert image.build(model, fetched).code == 0


@pytest.mark.jobs
def test_the_commands_of_the_page_build_by_hand(page: Page, tmp_path: Path) -> None:
    """Both of them, in a folder that holds the architecture and the texts."""
    commands = re.findall(r"^python (-m model_builders .*?)(?: +#.*)?$", page.text, re.MULTILINE)
    app = write_image(page, tmp_path)
    for name, text in page.config_map["data"].items():
        (app / name).write_text(text, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NLP_")}
    said = [
        subprocess.run(
            [sys.executable, *command.replace("/tmp/store", "store").split()],
            cwd=app,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for command in commands
    ]
    assert json.loads(said[0])["metrics"]["accuracy"] == "1"
    assert said[1].startswith("## NgramProfiles\n")
    assert "| `distances` | INT32 | [labels] |" in said[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    page = read_page()
    artifact = make_image(page, tmp_path_factory.mktemp("image")).artifact(page)
    with serving(MODEL, artifact, batch=32) as agent:
        yield agent


@pytest.mark.triton
def test_it_answers_as_the_page_says(server: RunningAgent, page: Page) -> None:
    found = server.model(MODEL)
    assert (found["state"], found["examples"]) == ("Serving", 2)
    given = generate(server, page.asked)
    assert {name: given[name] for name in page.answered} == page.answered
    plain = generate(server, {"text": page.asked["text"].replace("어요", "어")})
    assert plain["labels"] == ["반말", "존댓말"]


def generate(server: RunningAgent, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.http}/v2/models/{MODEL}/generate", json.dumps(body).encode()
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    return answer
