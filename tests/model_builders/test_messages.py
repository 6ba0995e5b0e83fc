import json

import pytest

from model_builders.errors import TryAgain
from model_builders.messages import (
    BuildResult,
    FetchedInput,
    FetchResult,
    InputOfBuild,
    build_key,
    encode_result,
    failure,
    parse_build_request,
    parse_fetch_request,
    parse_recipe,
)


def test_build_key_is_the_sha256_of_the_canonical_json() -> None:
    """printf '%s' '{"architecture":...}' | sha256sum, the text written out once by hand."""
    key = build_key(
        "TermDocumentMatrix",
        {"weighting": "Count", "vocabulary": ["기차"]},
        [{"metric": "documents", "atLeast": "4"}],
        {"precision": "Auto"},
        [InputOfBuild("corpus", "ab" * 32)],
    )
    assert key == "461ec282b1504289b5b911c23d6060e7d6a854dbd05f28f359ad7584c3cde439"


def test_long_message_is_cut_at_a_character() -> None:
    encoded = encode_result(failure("InputMissing", "막걸리\x01" * 3000))
    assert 3000 < len(encoded) <= 4096
    assert json.loads(encoded)["message"].endswith("…")


@pytest.mark.parametrize(("inputs", "told"), [(1, True), (33, False)], ids=["it has room", "it has none"])
def test_what_was_built_is_told_with_what_was_fetched_where(inputs: int, told: bool) -> None:
    fetched = tuple(FetchedInput(f"corpus-{number}", "ab" * 32, 1, 10) for number in range(inputs))
    built = BuildResult("cd" * 32, "ef" * 32, 4567, {"documents": "4"}, "Counted.")
    encoded = encode_result(FetchResult(fetched, "Fetched.", built).to_json())
    assert len(encoded) <= 4096
    assert len(json.loads(encoded)["inputs"]) == inputs
    assert ("built" in json.loads(encoded)) == told


def test_a_recipe_that_does_not_fit_names_every_field() -> None:
    with pytest.raises(TryAgain) as caught:
        parse_recipe(json.dumps({"version": 1, "architecture": 3, "parameters": [], "quality": {}}))
    for part in ("architecture is 3", "parameters is []", "quality is {}"):
        assert part in caught.value.message


def test_request_that_does_not_fit_names_every_field() -> None:
    request = {
        "version": 2,
        "model": 3,
        "deadlineSeconds": 0,
        "inputs": [{"name": "Bad_Name", "path": "/x", "sha256": "1"}],
    }
    with pytest.raises(TryAgain) as caught:
        parse_fetch_request(json.dumps(request))
    for part in (
        "version is 2",
        "model is 3",
        "deadlineSeconds is 0",
        "inputs[0].name is 'Bad_Name'",
        "inputs[0].sha256",
    ):
        assert part in caught.value.message


@pytest.mark.parametrize("text", ["", "[]", '{"version": 1}'])
def test_request_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(TryAgain):
        parse_fetch_request(text)


def test_build_request_with_another_key_is_refused() -> None:
    request = {
        "version": 1,
        "model": "a/b",
        "deadlineSeconds": 1,
        "key": "0" * 64,
        "architecture": "TermDocumentMatrix",
        "parameters": {},
        "quality": [],
        "export": {},
        "inputs": [{"name": "corpus", "sha256": "1" * 64}],
    }
    with pytest.raises(TryAgain, match="install both from the same release"):
        parse_build_request(json.dumps(request))
