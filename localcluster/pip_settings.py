"""Where this machine gets Python packages from: pip's configuration, for programs that do not read it.

uv ignores pip's configuration, and a build in a container sees none of the machine's. Both must use the
mirror, the certificates and the timeouts that the owner of the machine chose, and no address may stand in
this repository: so they are read here, at run time. Credentials in an index URL stay in memory and in
files that only the owner can read.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PipSettings:
    """The part of pip's configuration that says where packages come from; empty means pip's default."""

    index_url: str = ""
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    certificates: str = ""
    """Path of a CA bundle on this machine."""
    timeout_seconds: str = ""

    def for_uv(self) -> dict[str, str]:
        """The environment variables that make uv look where pip would."""
        variables = {
            "UV_DEFAULT_INDEX": self.index_url,
            "UV_INDEX": " ".join(self.extra_index_urls),
            "UV_FIND_LINKS": ",".join(self.find_links),
            "UV_INSECURE_HOST": " ".join(self.trusted_hosts),
            "SSL_CERT_FILE": self.certificates,
            "UV_HTTP_TIMEOUT": self.timeout_seconds,
        }
        return {name: value for name, value in variables.items() if value}

    def as_file(self, certificates: str) -> str:
        """A pip.conf for a container in which the CA bundle lies at `certificates`.

        Folders of this machine given to --find-links are left out: they do not exist in there.
        """
        settings = {
            "index-url": self.index_url,
            "extra-index-url": "\n    ".join(self.extra_index_urls),
            "find-links": "\n    ".join(link for link in self.find_links if "://" in link),
            "trusted-host": "\n    ".join(self.trusted_hosts),
            "cert": certificates if self.certificates else "",
            "timeout": self.timeout_seconds,
        }
        lines = [f"{name} = {value}" for name, value in settings.items() if value]
        return "\n".join(["[global]", "disable-pip-version-check = true", *lines, ""])


def read_pip_settings(
    files: Iterable[Path] | None = None, environment: Mapping[str, str] | None = None
) -> PipSettings:
    """What pip is configured with here: its files in its order, then its PIP_ variables; the last one
    wins.
    """
    environment = os.environ if environment is None else environment
    found: dict[str, str] = {}
    for path in _pip_files(environment) if files is None else files:
        parser = configparser.RawConfigParser()
        parser.read(path, encoding="utf-8")
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update(parser.items(section))
    for name, value in environment.items():
        if name.startswith("PIP_") and value:
            found[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    links = found.get("find-links", "").split()
    return PipSettings(
        index_url=found.get("index-url", ""),
        extra_index_urls=tuple(found.get("extra-index-url", "").split()),
        find_links=tuple(link for link in links if "://" in link or Path(link).is_dir()),
        trusted_hosts=tuple(found.get("trusted-host", "").split()),
        certificates=found.get("cert", "") or environment.get("SSL_CERT_FILE", ""),
        timeout_seconds=found.get("timeout", "") or found.get("default-timeout", ""),
    )


def _pip_files(environment: Mapping[str, str]) -> list[Path]:
    """pip's configuration files, weakest first (pip's documentation, "Location")."""
    named = environment.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:  # pip's own way to say: read no file at all
        return []
    home = Path(environment.get("HOME", "/nonexistent"))
    xdg_folders = reversed(environment.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":"))
    return [
        *(Path(folder) / "pip/pip.conf" for folder in xdg_folders if folder),
        Path("/etc/pip.conf"),
        home / ".pip/pip.conf",
        Path(environment.get("XDG_CONFIG_HOME", str(home / ".config"))) / "pip/pip.conf",
        Path(sys.prefix) / "pip.conf",
        *([Path(named)] if named else []),
    ]
