"""Korean morphemes through the real Jobs, in the builders' environment, and out of the artifact there."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from localcluster.environments import BUILDER, environment
from localcluster.progress import Progress
from localcluster.serving_env import SERVING
from tests.model_builders.made import Jobs, Ran

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(900)]  # the first time, the environments are made

ROOT = Path(__file__).resolve().parents[2]
MORPHEMES = {"tokenizer": "KoreanMorphemes"}
STORIES = {
    "역.txt": "기차가 떠났다. 우리는 다음 기차를 기다렸다!\n",
    "선술집.txt": "막걸리를 마셨다.\n그 선술집의 막걸리는 달았다.\n",
}

ASK = """
import json, sys
sys.path.insert(0, sys.argv[1])
import answering
from pathlib import Path
loaded = answering.load(Path(sys.argv[1]))
asked = [answering.Question(**one) for one in json.loads(sys.argv[2])]
for name, tensor in answering.tensors(asked, loaded.answer(asked)).items():
    values = [x.decode() if isinstance(x, bytes) else x for x in tensor.reshape(-1).tolist()]
    print(json.dumps([name, values]))
"""


def build(jobs: Jobs, architecture: str, parameters: dict[str, Any]) -> Ran:
    """From a folder of documents."""
    for name, text in STORIES.items():
        jobs.put(name, text)
    fetched = jobs.fetch({"name": "corpus", "path": str(jobs.volumes / "corpus")})
    assert fetched.code == 0, fetched.log
    kiwi = dataclasses.replace(jobs, python=str(environment(BUILDER, Progress()) / "bin/python3"))
    digest = fetched.result["inputs"][0]["sha256"]
    where = f"{ROOT}:{ROOT / 'operator'}"
    return kiwi.build(digest, parameters, architecture=architecture, PYTHONPATH=where)


def ask(artifact: Path, *questions: dict[str, str]) -> dict[str, list[Any]]:
    """In the environment of the server, with nothing of the builders on its path."""
    python = environment(SERVING, Progress()) / "bin/python3"
    command = [str(python), "-I", "-W", "error", "-c", ASK, str(artifact / "1"), json.dumps(questions)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(line) for line in done.stdout.splitlines())


def test_a_folder_of_documents_is_counted_in_morphemes(jobs: Jobs) -> None:
    ran = build(jobs, "TermDocumentMatrix", MORPHEMES)
    assert ran.code == 0, ran.log
    artifact = jobs.store / "artifacts" / str(ran.result["digest"])
    terms = json.loads((artifact / "1/vocabulary.json").read_text(encoding="utf-8"))
    documents = json.loads((artifact / "1/documents.json").read_text(encoding="utf-8"))
    assert sorted(documents) == ["선술집", "역"]
    assert {"기차", "막걸리", "선술집", "를"} <= set(terms)
    assert not {"기차가", "기차를", "막걸리를", "막걸리는", ".", "!"} & set(terms)
    settings = json.loads((artifact / "1/settings.json").read_text(encoding="utf-8"))
    assert settings["tokenizer"] == "KoreanMorphemes"
    assert settings["kiwipiepy"].count(".") == 2

    answer = ask(artifact, {"text": "기차"})
    assert answer["interpreted_as"] == ["word"]
    assert answer["word_vector"] == [2.0 * (name == "역") for name in documents]
    # A text that the model has never seen is split as its documents were.
    answer = ask(artifact, {"text": "막걸리를 좋아한다", "text_pair": "막걸리는", "role": "text"})
    assert answer["document_vector"][terms.index("막걸리")] == 1
    assert answer["nearest_documents"][0] == "선술집"


def test_places_of_morphemes(jobs: Jobs) -> None:
    ran = build(jobs, "OneHot", MORPHEMES | {"vocabulary": ["기차", "막걸리"]})
    assert ran.code == 0, ran.log
    assert ran.result["metrics"]["texts"] == "3"
    answer = ask(jobs.store / "artifacts" / str(ran.result["digest"]), {"text": "막걸리는 기차보다"})
    assert answer["indices"] == [1, -1, 0, -1]


def test_a_vocabulary_that_no_morpheme_matches_says_how_it_is_split(jobs: Jobs) -> None:
    ran = build(jobs, "TermDocumentMatrix", MORPHEMES | {"vocabulary": ["기차를"]})
    assert (ran.code, ran.result["reason"]) == (10, "ParameterInvalid")
    assert (
        "vocabulary[0] is '기차를', which the tokenizer KoreanMorphemes reads as ['기차', '를']"
        in (ran.result["message"])
    )
