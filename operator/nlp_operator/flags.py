"""Settings as flags and environment variables: how one is declared, read and refused. Which there are is said
in `settings.py`, and by the activator."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any


class SettingsError(ValueError):
    """A setting cannot be used. The message names the key, the value, and what is allowed."""


def text(key: str, value: str) -> str:
    return value


def name(key: str, value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", value):
        raise SettingsError(
            f"{key} is {value!r}; it must be a Kubernetes name: lower-case letters, digits, '-' and '.' "
            "(at most 253)."
        )
    return value


def name_or_empty(key: str, value: str) -> str:
    return value and name(key, value)


def names(key: str, value: str) -> tuple[str, ...]:
    return tuple(name(key, one.strip()) for one in value.split(",") if one.strip())


def one_of(*allowed: str) -> Callable[[str, str], str]:
    def parse(key: str, value: str) -> str:
        if value not in allowed:
            raise SettingsError(f"{key} is {value!r}; it must be one of {', '.join(allowed)}.")
        return value

    return parse


def number(lowest: float, highest: float, whole: bool) -> Callable[[str, str], Any]:
    def parse(key: str, value: str) -> Any:
        try:
            number = int(value) if whole else float(value)
        except ValueError:
            number = None
        if number is None or not lowest <= number <= highest:
            what = "a whole number" if whole else "a number"
            raise SettingsError(f"{key} is {value!r}; it must be {what} from {lowest:g} to {highest:g}.")
        return number

    return parse


def setting(default: Any, parse: Callable[[str, str], Any], doc: str) -> Any:
    return field(default=default, metadata={"parse": parse, "doc": doc})


PORT = number(0, 65535, whole=True)


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def variable(prefix: str, name: str) -> str:
    return prefix + name.upper()


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(default) or "empty"
    return "none" if default is None else str(default) or "empty"


def make_parser(of: type[Any], prefix: str, program: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog="Each flag may also be given by the environment variable named beside it; the flag wins.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for one in dataclasses.fields(of):
        known = f"{variable(prefix, one.name)}; default: {_shown(one.default)}"
        parser.add_argument(
            flag(one.name),
            dest=one.name,
            metavar="VALUE",
            help=f"{one.metadata['doc']} [{known}]".replace("%", "%%"),
        )
    return parser


def values_of(
    of: type[Any],
    prefix: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    program: str,
    description: str,
) -> dict[str, Any]:
    """The settings of this class that were given, flags over environment, by name. Raises `SettingsError` for
    the first that cannot be used."""
    known = {variable(prefix, one.name) for one in dataclasses.fields(of)}
    unknown = sorted(key for key in environment if key.startswith(prefix) and key not in known)
    if unknown:
        # Kubernetes itself sets NLP_OPERATOR_SERVICE_HOST and the like in pods beside a Service of that name.
        unknown = [key for key in unknown if not re.match(prefix + r"(.*_)?(SERVICE|PORT)(_|$)", key)]
    if unknown:
        raise SettingsError(f"{', '.join(unknown)} is no setting of this release; --help lists them all.")
    given = vars(make_parser(of, prefix, program, description).parse_args(list(arguments)))
    values: dict[str, Any] = {}
    for one in dataclasses.fields(of):
        by_flag, named = given[one.name], variable(prefix, one.name)
        key, raw = (flag(one.name), by_flag) if by_flag is not None else (named, environment.get(named))
        if raw is not None:
            values[one.name] = one.metadata["parse"](key, raw)
    return values
