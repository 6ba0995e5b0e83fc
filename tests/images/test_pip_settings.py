"""The machine's own pip configuration reaches uv and the builds in containers."""

from __future__ import annotations

from pathlib import Path

from localcluster.pip_settings import PipSettings, read_pip_settings

CONFIGURED = """\
[global]
index-url = https://mirror.example/simple
timeout = 60
cert = /etc/ca.pem

[install]
extra-index-url =
    https://one.example/simple
    https://two.example/simple
"""


def test_an_unconfigured_machine_says_nothing() -> None:
    assert read_pip_settings(files=[], environment={}) == PipSettings()
    assert PipSettings().for_uv() == {}
    assert PipSettings().as_file("/ca.pem") == "[global]\ndisable-pip-version-check = true\n"


def test_files_are_read_and_variables_win(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(CONFIGURED)
    found = read_pip_settings(
        [tmp_path / "pip.conf"], {"PIP_TIMEOUT": "9", "PIP_TRUSTED_HOST": "mirror.example"}
    )
    assert found == PipSettings(
        index_url="https://mirror.example/simple",
        extra_index_urls=("https://one.example/simple", "https://two.example/simple"),
        trusted_hosts=("mirror.example",),
        certificates="/etc/ca.pem",
        timeout_seconds="9",
    )


def test_a_later_file_wins_over_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "site").write_text("[global]\nindex-url = https://site.example\n")
    (tmp_path / "user").write_text("[global]\nindex-url = https://user.example\n")
    assert read_pip_settings([tmp_path / "site", tmp_path / "user"], {}).index_url == "https://user.example"


def test_uv_is_told_the_same_in_its_own_words() -> None:
    settings = PipSettings(
        index_url="https://a.example", extra_index_urls=("https://b.example",), certificates="/ca"
    )
    assert settings.for_uv() == {
        "UV_DEFAULT_INDEX": "https://a.example",
        "UV_INDEX": "https://b.example",
        "SSL_CERT_FILE": "/ca",
    }


def test_a_container_gets_addresses_but_no_folders_of_the_machine(tmp_path: Path) -> None:
    links = f"{tmp_path} https://wheels.example"
    settings = read_pip_settings([], {"PIP_FIND_LINKS": links, "PIP_CERT": "/etc/ca.pem"})
    assert settings.find_links == (str(tmp_path), "https://wheels.example")
    assert settings.as_file("/run/secrets/certificates.pem") == (
        "[global]\n"
        "disable-pip-version-check = true\n"
        "find-links = https://wheels.example\n"
        "cert = /run/secrets/certificates.pem\n"
    )


def test_what_was_written_for_a_container_reads_back_the_same(tmp_path: Path) -> None:
    settings = PipSettings(
        index_url="https://a.example",
        extra_index_urls=("https://b.example", "https://c.example"),
        trusted_hosts=("a.example",),
        certificates="/ca.pem",
        timeout_seconds="180",
    )
    (tmp_path / "pip.conf").write_text(settings.as_file("/ca.pem"))
    assert read_pip_settings([tmp_path / "pip.conf"], {}) == settings
