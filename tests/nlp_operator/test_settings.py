from __future__ import annotations

import pytest

from nlp_operator.flags import make_parser
from nlp_operator.settings import PREFIX, Settings, SettingsError, read_settings

IMAGES = {f"{PREFIX}BUILDER_IMAGE": "b:1", f"{PREFIX}SERVING_IMAGE": "s:1"}


def read(*arguments: str, **environment: str) -> Settings:
    return read_settings(arguments, {**IMAGES, **environment})


def test_defaults_are_those_of_the_manifest() -> None:
    settings = read(POD_NAME="nlp-operator-abc", POD_NAMESPACE="somewhere")
    assert settings.identity == "nlp-operator-abc"
    assert settings.lease_namespace == "somewhere"
    assert (settings.health_port, settings.metrics_port, settings.agent_port) == (8080, 9090, 8003)
    assert settings.namespaces == ()


def test_a_flag_wins_over_the_environment() -> None:
    settings = read("--workers", "3", NLP_OPERATOR_WORKERS="5", NLP_OPERATOR_NAMESPACES="a, b")
    assert (settings.workers, settings.namespaces) == (3, ("a", "b"))


def test_pods_are_asked_for_their_load_unless_somebody_says_otherwise() -> None:
    assert (read().signals, read().prometheus_url) == ("Scrape", "")
    assert read("--signals", "None").signals == "None"
    address = "https://prometheus.example:9090/select/0/prometheus/"
    settings = read("--signals", "Prometheus", "--prometheus-url", address)
    assert settings.prometheus_url == address.rstrip("/")


def test_there_are_no_traces_unless_a_collector_is_named() -> None:
    assert (read().traces_url, read().traces_share) == ("", 1.0)
    settings = read("--traces-url", "http://otel.monitoring:4318", "--traces-share", "0.05")
    assert (settings.traces_url, settings.traces_share) == ("http://otel.monitoring:4318", 0.05)


def test_processes_without_a_pod_never_share_an_identity() -> None:
    assert read().identity != read().identity


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        pytest.param(
            [],
            {"NLP_OPERATOR_WORKERS": "many"},
            "NLP_OPERATOR_WORKERS is 'many'; it must be a whole number from 1 to 64.",
            id="not a number",
        ),
        pytest.param(
            ["--traces-url", "https://otel:4318/v1/traces"],
            {},
            "--traces-url is 'https://otel:4318/v1/traces'; it must be http://host or http://host:port of a "
            "collector, without a path.",
            id="no collector",
        ),
        pytest.param(
            ["--workers", "0"],
            {},
            "--workers is '0'; it must be a whole number from 1 to 64.",
            id="too small",
        ),
        pytest.param(["--health-port", "70000"], {}, "--health-port is '70000'", id="no port"),
        pytest.param(
            ["--log-format", "xml"], {}, "it must be one of json, human.", id="not one of the allowed"
        ),
        pytest.param(
            ["--namespaces", "a,B"], {}, "--namespaces is 'B'; it must be a Kubernetes name", id="no name"
        ),
        pytest.param(["--store-size", "much"], {}, "such as 50Gi", id="no quantity"),
        pytest.param(
            ["--signals", "Guess"], {}, "it must be one of None, Scrape, Prometheus.", id="no source"
        ),
        pytest.param(["--signals", "Prometheus"], {}, "Prometheus needs an address", id="Prometheus nowhere"),
        pytest.param(
            ["--signals", "Scrape", "--prometheus-url", "http://prometheus:9090"],
            {},
            "nothing else has a use for one",
            id="an address for nobody",
        ),
        pytest.param(
            ["--signals", "Prometheus", "--prometheus-url", "http://user:secret@prometheus:9090"],
            {},
            "without a user",
            id="credentials in an address",
        ),
        pytest.param(
            [],
            {"NLP_OPERATOR_WORKER": "5"},
            "NLP_OPERATOR_WORKER is no setting of this release",
            id="a misspelled variable",
        ),
        pytest.param(
            ["--store-url", "minio/models"], {}, "it must be s3://bucket", id="no address of a bucket"
        ),
        pytest.param(["--store-url", "s3://models/../other"], {}, "with a prefix of letters", id="a way up"),
        pytest.param(
            ["--store-url", "s3://models", "--store-endpoint", "s3.example:9000"],
            {},
            "it must be https://host or https://host:port.",
            id="an endpoint without a scheme",
        ),
        pytest.param(
            ["--store-secret-name", "keys"],
            {},
            "--store-secret-name is set and --store-url is not",
            id="credentials for no bucket",
        ),
        pytest.param(
            ["--agent-silence-seconds", "6"],
            {},
            "it must not be less than --agent-poll-seconds (10)",
            id="two that do not fit",
        ),
        pytest.param(
            ["--builder-image", ""],
            {},
            "--builder-image (or NLP_OPERATOR_BUILDER_IMAGE) must be set",
            id="a required one is empty",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(
    arguments: list[str], environment: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingsError) as error:
        read(*arguments, **environment)
    assert message in str(error.value)


def test_variables_that_kubernetes_sets_for_a_service_are_no_mistake() -> None:
    read(
        NLP_OPERATOR_SERVICE_HOST="10.0.0.1",
        NLP_OPERATOR_METRICS_PORT_9090_TCP="tcp://10.0.0.1:9090",
        NLP_OPERATOR_METRICS_SERVICE_PORT="9090",
    )


def test_help_teaches_every_setting_with_its_variable_and_default() -> None:
    text = make_parser(Settings, PREFIX, "program", "What it does.").format_help()
    for name in ("builder-image", "namespaces", "lease-namespace", "look-seconds"):
        assert f"--{name}" in text
    assert "NLP_OPERATOR_STORE_CLAIM_NAME" in text.replace("\n", "")
    assert "default: nlp-store" in " ".join(text.split())
