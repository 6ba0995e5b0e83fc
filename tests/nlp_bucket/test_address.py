from __future__ import annotations

from pathlib import Path

import pytest

from nlp_bucket.address import Address, AddressInvalid, address_in


def test_folder_is_no_bucket() -> None:
    assert address_in({"NLP_STORE": "/store"}) is None
    assert address_in({}) is None


def test_address_is_read_with_its_defaults() -> None:
    address = address_in({"NLP_STORE": "s3://models/nlp/demo/"})
    assert address == Address("models", "nlp/demo", endpoint="", region="us-east-1", credentials=None)
    assert str(address) == "s3://models/nlp/demo"


def test_address_of_another_server_says_where() -> None:
    address = address_in(
        {
            "NLP_STORE": "s3://models",
            "NLP_STORE_ENDPOINT": "http://[fd00::1]:9000/",
            "NLP_STORE_REGION": "eu",
            "NLP_STORE_CREDENTIALS": "/credentials/store",
        }
    )
    assert address == Address("models", "", "http://[fd00::1]:9000", "eu", Path("/credentials/store"))
    assert str(address) == "s3://models at http://[fd00::1]:9000"


@pytest.mark.parametrize(
    ("variables", "wrong"),
    [
        pytest.param({"NLP_STORE": "s3://"}, ["NLP_STORE"], id="no bucket"),
        pytest.param({"NLP_STORE": "s3://Models"}, ["NLP_STORE"], id="a bucket that cannot be"),
        pytest.param({"NLP_STORE": "s3://models/a/../b"}, ["NLP_STORE"], id="a way up"),
        pytest.param({"NLP_STORE": "s3://models//b"}, ["NLP_STORE"], id="an empty folder"),
        pytest.param(
            {
                "NLP_STORE": "s3://models",
                "NLP_STORE_ENDPOINT": "https://user:password@host",
                "NLP_STORE_CREDENTIALS": "credentials",
            },
            ["NLP_STORE_ENDPOINT", "NLP_STORE_CREDENTIALS"],
            id="two at once",
        ),
    ],
)
def test_every_wrong_variable_is_named(variables: dict[str, str], wrong: list[str]) -> None:
    with pytest.raises(AddressInvalid) as caught:
        address_in(variables)
    assert [
        part.split(" is ")[0] for part in str(caught.value).split("; ") if part.startswith("NLP")
    ] == wrong
