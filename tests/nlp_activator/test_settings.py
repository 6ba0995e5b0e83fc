"""What an administrator can set of the activator."""

from __future__ import annotations

import pytest

from nlp_activator.__main__ import main
from nlp_activator.settings import read_settings


def test_defaults_are_those_of_the_manifest() -> None:
    settings = read_settings([], {"POD_NAMESPACE": "somewhere", "NLP_ACTIVATOR_SERVICE_HOST": "10.0.0.1"})
    assert (settings.config_map, settings.namespace) == ("nlp-operator-activator", "somewhere")
    assert (settings.hold_seconds, settings.most_held, settings.health_port) == (60.0, 1000, 8080)
    assert settings.namespaces == ()


def test_a_flag_wins_over_the_environment() -> None:
    settings = read_settings(["--hold-seconds", "5"], {"NLP_ACTIVATOR_HOLD_SECONDS": "7"})
    assert settings.hold_seconds == 5.0
    assert read_settings([], {"NLP_ACTIVATOR_NAMESPACES": "a, b"}).namespaces == ("a", "b")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--hold-seconds", "0"], "--hold-seconds is '0'; it must be a number from 1 to 3600."),
        (["--most-held", "many"], "--most-held is 'many'; it must be a whole number from 1 to 100000."),
    ],
)
def test_what_cannot_be_used_is_said_with_what_is_allowed(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"nlp-activator: {said}\n"
