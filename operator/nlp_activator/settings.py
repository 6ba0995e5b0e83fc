"""Everything an administrator can set of the activator, each with a flag and an environment variable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nlp_operator.flags import PORT, name, name_or_empty, names, number, one_of, setting, text, values_of

PREFIX = "NLP_ACTIVATOR_"


@dataclass(frozen=True)
class Settings:
    """One process's settings. A field's description is its `doc`: it is what --help prints."""

    config_map: str = setting(
        "nlp-operator-activator",
        name,
        "ConfigMap in this process's namespace in which it tells the operator which sleeps are over.",
    )
    namespace: str = setting(
        "", name_or_empty, "Namespace of that ConfigMap; empty means $POD_NAMESPACE, else nlp-system."
    )
    namespaces: tuple[str, ...] = setting(
        (),
        names,
        "Namespaces to serve, those of the operator, separated by commas; empty means all.",
    )
    hold_seconds: float = setting(
        60.0,
        number(1, 3600, whole=False),
        "How long a request is held until its model is ready; then it is refused, with Retry-After.",
    )
    most_held: int = setting(
        1000, number(1, 100_000, whole=True), "Connections that are held at a time; more are refused."
    )
    most_connections: int = setting(
        4000,
        number(1, 1_000_000, whole=True),
        "Connections of all kinds, those that have reached their pod among them; more are cut off.",
    )
    kubeconfig: str = setting(
        "",
        text,
        "kubeconfig file; empty means this pod's ServiceAccount, else $KUBECONFIG or ~/.kube/config.",
    )
    listen_address: str = setting("0.0.0.0", text, "Address of all ports.")  # noqa: S104
    health_port: int = setting(
        8080, PORT, "Port of /healthz, /readyz and /metrics; 0 means any free one (it is logged)."
    )
    log_format: str = setting("json", one_of("json", "human"), "Shape of the log lines on stderr.")
    log_level: str = setting(
        "info", one_of("debug", "info", "warning", "error"), "Least level that is logged."
    )


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Flags over environment over defaults; raises `SettingsError` for the first value that cannot be
    used."""
    values = values_of(
        Settings,
        PREFIX,
        arguments,
        environment,
        program="python -m nlp_activator",
        description="Holds the first requests of models that sleep, and wakes them.",
    )
    values["namespace"] = values.get("namespace") or environment.get("POD_NAMESPACE") or "nlp-system"
    return Settings(**values)
