import json

import pytest

from model_builders.errors import TryAgain
from model_builders.messages import (
    InputOfBuild,
    build_key,
    encode_result,
    failure,
    parse_build_request,
    parse_fetch_request,
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
