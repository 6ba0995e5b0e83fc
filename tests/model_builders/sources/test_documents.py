# ruff: noqa: E501 - a table reads best with a row a line
"""What the sources are told by others, as documents alone: lists of files, manifests, Secrets, settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_builders.errors import Refused
from model_builders.messages import HuggingFaceSource
from model_builders.sources.credentials import Credentials, read_credentials
from model_builders.sources.hugging_face import HuggingFaceRepository, parse_listing
from model_builders.sources.oci import TITLE, parse_layers

REVISION = "0123456789abcdef0123456789abcdef01234567"
SMALL = {"rfilename": "config.json", "blobId": "a" * 40, "size": 3}
LARGE = {"rfilename": "model.safetensors", "lfs": {"sha256": "b" * 64, "size": 9}}
OTHER = "Is the operator's setting hugging-face-endpoint a Hugging Face hub?"


def listing(*siblings: Any, sha: str = REVISION) -> bytes:
    return json.dumps({"sha": sha, "siblings": siblings}).encode()


LISTINGS = [
    pytest.param(b"<html>", "the hub's list of files cannot be read (JSONDecodeError: ", id="no JSON"),
    pytest.param(b"[]", "cannot be read (TypeError: ", id="a list"),
    pytest.param(b"{}", "cannot be read (KeyError: 'sha').", id="nothing in it"),
    pytest.param(b'{"sha": "a", "siblings": null}', "cannot be read (TypeError: ", id="no files"),
    pytest.param(listing("config.json"), "cannot be read (TypeError: ", id="names alone"),
    pytest.param(listing({"rfilename": "config.json"}), "cannot be read (KeyError: 'blobId').", id="no hash"),
    pytest.param(listing({**SMALL, "blobId": "none"}), "(ValueError: the blobId of 'config.json' is 'none').", id="a hash that is none"),
    pytest.param(listing({**LARGE, "lfs": {"sha256": "B" * 64, "size": 9}}), "(ValueError: the sha256 of 'model.safetensors' is 'BBBB", id="a large file's hash that is none"),
    pytest.param(listing({**SMALL, "size": None}), "cannot be read (TypeError: ", id="no size"),
    pytest.param(listing({**SMALL, "size": 1e999}), "cannot be read (OverflowError: ", id="a size without end"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "sentence"), LISTINGS)
def test_list_of_files_that_cannot_be_read_is_refused(content: bytes, sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_listing("weights", content, REVISION)
    assert refused.value.reason == "InputInvalid"
    assert sentence in refused.value.message
    assert refused.value.message.startswith("Input 'weights': the hub's list of files cannot be read (")
    assert refused.value.message.endswith(OTHER)


def test_files_of_another_revision_are_refused_with_both() -> None:
    assert [file.path for file in parse_listing("weights", listing(SMALL, LARGE), REVISION)] == [
        "config.json",
        "model.safetensors",
    ]
    with pytest.raises(Refused) as refused:
        parse_listing("weights", listing(SMALL, sha="f" * 40), REVISION)
    assert refused.value.reason == "HashMismatch"
    assert f"the hub answered with revision {'f' * 40!r}, not {REVISION}." in refused.value.message


@pytest.mark.parametrize("endpoint", ["http://hub.example", "hub.example"])
def test_hub_without_tls_is_refused(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(Refused) as refused:
        HuggingFaceRepository(HuggingFaceSource("novels/encoder", REVISION, ()), Credentials("weights"), ())
    assert refused.value.reason == "NetworkRefused"
    assert refused.value.message == (
        f"HF_ENDPOINT is {endpoint!r}; it must begin with https://. It is the operator's setting "
        "hugging-face-endpoint."
    )


LAYER = {
    "mediaType": "application/octet-stream",
    "digest": "sha256:" + "a" * 64,
    "size": 3,
    "annotations": {TITLE: "a.txt"},
}
UNDESCRIBED = "the manifest does not say of layer 0 its digest, size and mediaType ("

MANIFESTS = [
    pytest.param({}, "the manifest (application/vnd.oci.image.manifest.v1+json) has no layers to take files from.", id="no layers"),
    pytest.param({"layers": []}, "has no layers to take files from.", id="not one layer"),
    pytest.param({"layers": {"0": LAYER}}, "has no layers to take files from.", id="layers that are no list"),
    pytest.param({"mediaType": "text/plain", "layers": [LAYER]}, "the manifest (text/plain) has no layers", id="a document of another kind"),
    pytest.param({"layers": ["a.txt"]}, UNDESCRIBED + "TypeError: ", id="a name alone"),
    pytest.param({"layers": [{**LAYER, "size": "many"}]}, UNDESCRIBED + "ValueError: ", id="a size that is no number"),
    pytest.param({"layers": [{**LAYER, "size": 1e999}]}, UNDESCRIBED + "OverflowError: ", id="a size without end"),
    pytest.param({"layers": [{"size": 3, "mediaType": "text/plain"}]}, UNDESCRIBED + "KeyError: 'digest').", id="no digest"),
    pytest.param({"layers": [{**LAYER, "annotations": "a.txt"}]}, UNDESCRIBED + "ValueError: ", id="annotations that are none"),
    pytest.param({"layers": [{**LAYER, "digest": "sha512:" + "a" * 128}]}, f"layer 0 (a.txt) has the digest 'sha512:{'a' * 128}'; it must be sha256: and 64 hexadecimal digits in lower case.", id="a digest of another kind"),
]  # fmt: skip


@pytest.mark.parametrize(("manifest", "sentence"), MANIFESTS)
def test_manifest_without_files_that_can_be_taken_is_refused(manifest: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_layers("corpus", manifest)
    assert refused.value.reason == "InputInvalid"
    assert refused.value.message.startswith("Input 'corpus': ")
    assert sentence in refused.value.message


def test_key_of_a_secret_that_is_no_text_is_named_without_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("막걸리", encoding="utf-8")
    (tmp_path / "token").write_bytes(b"\xffsecret")
    with pytest.raises(Refused) as refused:
        read_credentials("corpus", str(tmp_path))
    assert refused.value.reason == "CredentialsInvalid"
    assert refused.value.message == (
        "Input 'corpus': the key 'token' of its Secret is not text in UTF-8. Every key is read as text: "
        "correct it, or take it out of the Secret."
    )
