from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from nlp_operator.cluster.client import make_configuration, proxy_of_environment


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "http_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")


@pytest.mark.parametrize(
    ("url", "excepted", "proxy"),
    [
        pytest.param("https://api.example:6443", "", "http://proxy.example:3128", id="a server far away"),
        pytest.param("https://10.0.0.1", "10.0.0.1", None, id="an excepted address"),
        pytest.param("https://api.example", ".example", None, id="an excepted domain"),
        pytest.param("http://api.example", "", None, id="another scheme"),
    ],
)
def test_the_proxy_of_the_environment_is_the_one_other_programs_take(
    url: str, excepted: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", excepted)
    assert proxy_of_environment(url) == proxy


@pytest.mark.parametrize(
    ("own", "proxy"),
    [
        pytest.param({}, "http://proxy.example:3128", id="from the environment"),
        pytest.param({"proxy-url": "http://own.example"}, "http://own.example", id="of the kubeconfig"),
    ],
)
async def test_every_call_goes_by_the_same_proxy(tmp_path: Path, own: dict[str, str], proxy: str) -> None:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "https://api.example:6443", **own}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    made = await make_configuration(str(tmp_path / "config"))
    assert made.proxy == proxy
    assert made.client_session_kwargs == {"trust_env": False}
