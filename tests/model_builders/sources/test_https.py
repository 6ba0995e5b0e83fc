"""The https source against a server with real TLS and an authority of its own."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster.certificates import Authority, Pair
from model_builders.errors import Refused, TryAgain
from tests.model_builders.made import Jobs, Ran, make_novels
from tests.model_builders.sources.fetching import contents, fetch_here, left_in_store, request_of, sha256
from tests.model_builders.sources.servers import (
    LOOPBACK,
    Asked,
    Reply,
    TlsServer,
    file_reply,
    make_secret,
    serving,
)

pytestmark = pytest.mark.jobs

NOVELS = make_novels().encode()


@pytest.fixture
def server(pair: Pair) -> Iterator[TlsServer]:
    with serving(pair, lambda asked: file_reply(asked, NOVELS)) as server:
        yield server


def https(url: str, pin: str = sha256(NOVELS), secret: str = "") -> dict[str, object]:
    return request_of({"https": {"url": url}}, pin, secret)


def run(jobs: Jobs, request: object, **environment: str) -> Ran:
    return jobs.run("fetch", request, NLP_FETCH_ALLOWED_NETWORKS=LOOPBACK, **environment)


def test_file_is_stored_under_its_name_and_pin(jobs: Jobs, server: TlsServer, secret: str) -> None:
    ran = run(jobs, https(server.url("/corpora/novels.tsv?version=3"), secret=secret))
    assert ran.code == 0, ran.log
    assert ran.result["inputs"] == [
        {"name": "corpus", "sha256": sha256(NOVELS), "files": 1, "bytes": len(NOVELS)}
    ]
    assert contents(jobs, sha256(NOVELS)) == {"novels.tsv": NOVELS}


def test_what_the_store_has_is_not_asked_for_again(jobs: Jobs, server: TlsServer, secret: str) -> None:
    for _ in range(2):
        fetch_here(jobs, https(server.url("/novels.tsv"), secret=secret))
    assert server.paths() == ["/novels.tsv"]


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        pytest.param({"token": "t0k3n\n"}, "Bearer t0k3n", id="a token"),
        pytest.param({"username": "kim", "password": "비밀"}, "Basic a2ltOuu5hOuwgA==", id="a password"),
    ],
)
def test_credentials_of_the_secret_are_sent(
    jobs: Jobs, server: TlsServer, tmp_path: Path, authority: Authority, keys: dict[str, str], sent: str
) -> None:
    secret = make_secret(tmp_path / "s", authority, keys)
    ran = run(jobs, https(server.url("/novels.tsv"), secret=secret))
    assert ran.code == 0, ran.log
    assert server.asked[0].headers["authorization"] == sent
    assert "t0k3n" not in ran.log


def test_half_a_key_pair_is_refused(
    jobs: Jobs, server: TlsServer, tmp_path: Path, authority: Authority
) -> None:
    secret = make_secret(tmp_path / "s", authority, {"username": "kim"})
    with pytest.raises(Refused, match="holds the key 'username' but nothing under 'password'") as refused:
        fetch_here(jobs, https(server.url("/novels.tsv"), secret=secret))
    assert refused.value.reason == "CredentialsInvalid"


# --- what breaks on the way


def kill_in_the_middle(jobs: Jobs, server: TlsServer, request: object) -> None:
    """Start the Job and kill it, with no chance to clean up, when the server has sent 20 MiB and the Job has
    noted that 16 MiB are safe."""
    server.pause_after = 20 * MIB
    log = jobs.folder / "termination-log"
    environment = jobs.environment(request, log, NLP_FETCH_ALLOWED_NETWORKS=LOOPBACK)
    job = subprocess.Popen([sys.executable, "-m", "model_builders", "fetch"], env=environment)
    try:
        deadline = time.monotonic() + 60
        while not any(
            json.loads(journal.read_text())["safe"].get("large.txt") == 16 * MIB
            for journal in (jobs.store / "tmp").glob("partial-*/journal.json")
        ):
            assert job.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        job.send_signal(signal.SIGKILL)
        assert job.wait(30) == -signal.SIGKILL
    finally:
        job.kill()
        job.wait()
    server.pause_after, server.sent = None, 0
    server.go_on.set()


MIB = 1 << 20


@pytest.fixture(scope="module")
def large() -> bytes:
    """24 MiB of text that no other file begins with."""
    return base64.b64encode(os.urandom(18 * MIB))


def test_killed_job_goes_on_where_it_was(jobs: Jobs, pair: Pair, secret: str, large: bytes) -> None:
    with serving(pair, lambda asked: file_reply(asked, large)) as server:
        request = https(server.url("/large.txt"), sha256(large), secret)
        kill_in_the_middle(jobs, server, request)

        found = fetch_here(jobs, request)

        assert server.sent == 8 * MIB
        assert server.asked[-1].headers["range"] == f"bytes={16 * MIB}-"
    assert contents(jobs, found.sha256) == {"large.txt": large}


def test_server_without_ranges_is_read_from_the_start_again(
    jobs: Jobs, pair: Pair, secret: str, large: bytes
) -> None:
    with serving(pair, lambda asked: file_reply(asked, large, ranges=False)) as server:
        request = https(server.url("/large.txt"), sha256(large), secret)
        kill_in_the_middle(jobs, server, request)
        assert fetch_here(jobs, request).sha256 == sha256(large)
        assert server.sent == 24 * MIB


def test_half_a_file_that_is_not_of_this_one_is_fetched_anew(
    jobs: Jobs, pair: Pair, secret: str, large: bytes
) -> None:
    with serving(pair, lambda asked: file_reply(asked, large)) as server:
        request = https(server.url("/large.txt"), sha256(large), secret)
        kill_in_the_middle(jobs, server, request)
        (half,) = (jobs.store / "tmp").glob("partial-*/source/data/large.txt")
        with half.open("r+b") as stream:
            stream.write(b"other")
        assert fetch_here(jobs, request).sha256 == sha256(large)
        assert server.sent == 8 * MIB + 24 * MIB


def test_broken_connection_is_taken_up_again(jobs: Jobs, pair: Pair, secret: str) -> None:
    """The server promises all of it and closes after a third, twice."""
    content = b"words\n" * 50_000
    cuts = iter((100_000, 200_000))

    def respond(asked: Asked) -> Reply:
        start = int(asked.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        whole = content[start:]
        cut = next(cuts, None)
        headers = {"Content-Length": str(len(whole))}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return Reply(206 if start else 200, [whole if cut is None else content[start:cut]], headers)

    with serving(pair, respond) as server:
        fetch_here(jobs, https(server.url("/novels.txt"), sha256(content), secret))
        assert [asked.headers.get("range") for asked in server.asked] == [
            None,
            "bytes=100000-",
            "bytes=200000-",
        ]


def test_server_that_is_down_is_tried_again_by_kubernetes(jobs: Jobs, pair: Pair, secret: str) -> None:
    with serving(pair, lambda asked: Reply(503)) as server, pytest.raises(TryAgain) as failed:
        fetch_here(jobs, https(server.url("/novels.tsv"), secret=secret))
    assert failed.value.reason == "InputUnreachable"
    assert "answered HTTP 503" in failed.value.message
    assert len(server.asked) == 4


# --- what is refused


@pytest.mark.parametrize(
    ("status", "reason", "sentence"),
    [
        pytest.param(404, "InputMissing", "has no https://{host}/novels.tsv (HTTP 404).", id="not there"),
        pytest.param(
            401,
            "InputForbidden",
            "refused https://{host}/novels.tsv (HTTP 401). Its Secret holds the keys ca.crt; token, "
            "username, password are read.",
            id="not allowed",
        ),
        pytest.param(400, "InputRefused", "answered HTTP 400 when asked for", id="not understood"),
    ],
)
def test_answer_without_the_file_is_told(
    jobs: Jobs, pair: Pair, secret: str, status: int, reason: str, sentence: str
) -> None:
    with serving(pair, lambda asked: Reply(status)) as server, pytest.raises(Refused) as refused:
        fetch_here(jobs, https(server.url("/novels.tsv"), secret=secret))
    assert refused.value.reason == reason
    assert sentence.format(host=server.host) in refused.value.message


def test_other_bytes_than_the_pinned_ones_are_refused(jobs: Jobs, server: TlsServer, secret: str) -> None:
    with pytest.raises(Refused) as refused:
        fetch_here(jobs, https(server.url("/novels.tsv"), "a" * 64, secret))
    assert refused.value.reason == "HashMismatch"
    assert f"has the sha256 {sha256(NOVELS)}, not {'a' * 64}" in refused.value.message
    assert left_in_store(jobs) == []


@pytest.mark.parametrize("said", [True, False], ids=["announced", "in chunks without end"])
def test_more_than_is_fetched_is_cut_off_on_the_way(jobs: Jobs, pair: Pair, secret: str, said: bool) -> None:
    """The server would send 1 GiB."""
    part = b"words " * 10_000
    headers = {"Content-Length": str(1 << 30)} if said else {}
    with serving(pair, lambda asked: Reply(200, (part for _ in range(20_000)), headers)) as server:
        with pytest.raises(Refused) as refused:
            fetch_here(jobs, https(server.url("/novels.txt"), secret=secret), max_bytes=1_000_000)
        assert server.sent < 20_000_000
    assert refused.value.reason == "InputTooLarge"
    assert "at most 1,000,000 are fetched" in refused.value.message
    assert left_in_store(jobs) == []


def test_redirect_to_another_host_is_refused_and_never_gets_the_token(
    jobs: Jobs, pair: Pair, tmp_path: Path, authority: Authority
) -> None:
    secret = make_secret(tmp_path / "s", authority, {"token": "t0k3n"})
    with serving(pair, lambda asked: file_reply(asked, NOVELS)) as other:
        target = f"https://localhost:{other.port}/novels.tsv?signature=s3cr3t"
        with serving(pair, lambda asked: Reply(302, headers={"Location": target})) as server:
            request = https(server.url("/novels.tsv"), secret=secret)
            with pytest.raises(Refused) as refused:
                fetch_here(jobs, request)
            assert refused.value.reason == "NetworkRefused"
            assert f"redirects to another host, localhost:{other.port}." in refused.value.message
            assert "s3cr3t" not in refused.value.message
            assert other.asked == []

            fetch_here(jobs, request, hosts=(f"localhost:{other.port}",))  # the administrator declared it
            assert "authorization" not in other.asked[0].headers
            assert server.asked[0].headers["authorization"] == "Bearer t0k3n"


def test_redirect_on_the_same_host_is_followed(jobs: Jobs, pair: Pair, secret: str) -> None:
    def respond(asked: Asked) -> Reply:
        if asked.path == "/old/novels.tsv":
            return Reply(301, headers={"Location": "/new/novels.tsv"})
        return file_reply(asked, NOVELS)

    with serving(pair, respond) as server:
        fetch_here(jobs, https(server.url("/old/novels.tsv"), secret=secret))
        assert server.paths() == ["/old/novels.tsv", "/new/novels.tsv"]


@pytest.mark.parametrize(
    ("location", "sentence"),
    [
        pytest.param("http://localhost/novels.tsv", "which is not https", id="to plain http"),
        pytest.param("file:///etc/passwd", "which is not https", id="to a file"),
        pytest.param("/again.tsv", "redirects more than 5 times in a row", id="in a circle"),
    ],
)
def test_redirect_that_leads_nowhere_is_refused(
    jobs: Jobs, pair: Pair, secret: str, location: str, sentence: str
) -> None:
    reply = Reply(302, headers={"Location": location})
    with serving(pair, lambda asked: reply) as server, pytest.raises(Refused, match=sentence) as refused:
        fetch_here(jobs, https(server.url("/novels.tsv"), secret=secret))
    assert refused.value.reason == "NetworkRefused"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
def test_private_address_is_refused_when_it_is_connected_to(
    jobs: Jobs, server: TlsServer, secret: str, host: str
) -> None:
    """`localhost` is a name that resolves to a private address, as a rebound name would."""
    url = server.url("/novels.tsv", f"{host}:{server.port}")
    ran = jobs.run("fetch", https(url, secret=secret), HTTPS_PROXY=f"http://{server.host}")
    assert (ran.code, ran.result["reason"]) == (10, "NetworkRefused")
    assert "is private, loopback, link-local or reserved" in ran.result["message"]
    assert "fetch-allowed-networks" in ran.result["message"]
    assert server.asked == []


def test_metadata_service_is_not_in_an_allowed_network_next_to_it(jobs: Jobs) -> None:
    with pytest.raises(Refused) as refused:
        fetch_here(jobs, https("https://169.254.169.254/latest.txt"), allowed="10.0.0.0/8,127.0.0.0/8")
    assert refused.value.reason == "NetworkRefused"
    assert "169.254.169.254" in refused.value.message


def test_certificate_of_an_unknown_authority_is_refused(jobs: Jobs, server: TlsServer) -> None:
    with pytest.raises(Refused, match=r"put its certificate under the key 'ca\.crt'") as refused:
        fetch_here(jobs, https(server.url("/novels.tsv")))
    assert refused.value.reason == "InputUnreachable"


def test_certificate_for_another_name_is_refused(
    jobs: Jobs, authority: Authority, secret: str, tmp_path: Path
) -> None:
    other = authority.issue("other", "other", hosts=["other.example"])
    novels = file_reply(Asked("", {}), NOVELS)
    with serving(other, lambda asked: novels) as server, pytest.raises(Refused) as refused:
        fetch_here(jobs, https(server.url("/novels.tsv"), secret=secret))
    assert "is not trusted" in refused.value.message
    assert refused.value.reason == "InputUnreachable"


def test_secret_with_a_broken_authority_is_told(jobs: Jobs, server: TlsServer, tmp_path: Path) -> None:
    secret = make_secret(tmp_path / "s", values={"ca.crt": "no certificate"})
    with pytest.raises(Refused, match="holds no certificate in PEM") as refused:
        fetch_here(jobs, https(server.url("/novels.tsv"), secret=secret))
    assert refused.value.reason == "CredentialsInvalid"


@pytest.mark.parametrize(
    ("path", "content", "sentence"),
    [
        pytest.param("/model.pkl", b"x", "'model.pkl' may hold a pickle", id="a pickle by name"),
        pytest.param("/corpus.tar.gz", b"x", "'corpus.tar.gz' is an archive", id="an archive by name"),
        pytest.param("/model.py", b"x", "'model.py' is code", id="code by name"),
        pytest.param("/novels", b"x", "'novels' is of no format that is taken", id="no format"),
        pytest.param("/%2e%2e%2fnovels.tsv", b"x", "the path '../novels.tsv' is refused", id="a way out"),
        pytest.param("/", b"x", "the path '' is refused", id="no name"),
        pytest.param(
            "/n.txt",
            b"\x80\x04\x95\x05\0\0\0\0\0\0\0]\x94.",
            "is not text, as its name says, but a pickle",
            id="a pickle by content",
        ),
        pytest.param("/n.txt", b"PK\x03\x04" + bytes(60), "but a zip file", id="a zip file by content"),
        pytest.param(
            "/n.txt", b"words\n" * 2000 + b"\0", "is no text: it holds zero bytes", id="no text later on"
        ),
    ],
)
def test_what_may_not_be_taken_is_refused(
    jobs: Jobs, pair: Pair, secret: str, path: str, content: bytes, sentence: str
) -> None:
    with serving(pair, lambda asked: Reply(200, content)) as server, pytest.raises(Refused) as refused:
        fetch_here(jobs, https(server.url(path), sha256(content), secret))
    assert refused.value.reason == "InputRefused"
    assert sentence in refused.value.message
    assert left_in_store(jobs) == []


def test_empty_file_is_refused(jobs: Jobs, pair: Pair, secret: str) -> None:
    with serving(pair, lambda asked: Reply(200)) as server, pytest.raises(Refused) as refused:
        fetch_here(jobs, https(server.url("/n.txt"), sha256(b""), secret))
    assert refused.value.reason == "InputEmpty"
