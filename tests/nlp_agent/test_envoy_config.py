from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import pytest

from localcluster.ports import Ports as FreePorts
from localcluster.serving_env import serving_environment
from nlp_agent.envoy_config import (
    GRPC_ROUTES,
    HTTP_ROUTES,
    LATENCY_BUCKETS,
    SHORT_OF,
    UNATTRIBUTED,
    make_bootstrap,
    make_grpc_routes,
    make_http_routes,
)
from nlp_agent.hold import AGAIN
from nlp_agent.settings import HOLD_HTTP_SOCKET, Limits, Ports, Traces
from nlp_agent.triton import TritonPorts
from tests.nlp_agent.running import wait_until

LIMITS = Limits()


def hosts(table: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {host["name"]: host for host in table["resources"][0]["virtual_hosts"]}


def route_http(table: dict[str, Any], method: str, path: str) -> str:
    """What becomes of a request: the model it counts for, `triton`, or the status of Envoy's own answer."""
    for route in hosts(table)["http"]["routes"]:
        match = route["match"]
        methods = [header["string_match"]["exact"] for header in match.get("headers", [])]
        prefix = match.get("path_separated_prefix")
        fits = (
            match.get("path") == path
            or ("safe_regex" in match and re.fullmatch(match["safe_regex"]["regex"], path) is not None)
            or (prefix is not None and (path == prefix or path.startswith(prefix + "/")))
            or match.get("prefix") == "/"
        )
        if fits and (not methods or method in methods):
            if "direct_response" in route:
                return str(route["direct_response"]["status"])
            return str(route.get("stat_prefix", "triton"))
    return "none"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/v2/models/words/infer", "words"),
        ("POST", "/v2/models/words/versions/1/infer", "words"),
        ("POST", "/v2/models/words/generate", "words"),
        ("POST", "/v2/models/words/generate_stream", "words"),
        ("GET", "/v2/models/words", "triton"),
        ("GET", "/v2/models/words/ready", "triton"),
        ("GET", "/v2/models/words/versions/1/ready", "triton"),
        ("GET", "/v2", "triton"),
        ("GET", "/v2/health/live", "triton"),
        ("GET", "/v2/health/ready", "triton"),
        ("GET", "/v2/models/words/infer", "404"),
        ("GET", "/v2/models/words/config", "404"),
        ("GET", "/v2/models/words/stats", "404"),
        ("POST", "/v2/models/words/trace/setting", "404"),
        ("GET", "/v2/models/stats", "404"),
        ("POST", "/v2/models/words_candidate/infer", "404"),
        ("POST", "/v2/models/words-too/infer", "404"),
        ("POST", "/v2/repository/index", "404"),
        ("POST", "/v2/repository/models/words/unload", "404"),
        ("POST", "/v2/systemsharedmemory/region/x/register", "404"),
        ("GET", "/v2/trace/setting", "404"),
        ("POST", "/v2/logging", "404"),
        ("GET", "/metrics", "404"),
        ("POST", "/v2/models/slow/infer", "503"),
        ("GET", "/v2/models/slow/ready", "503"),
        ("POST", "/v2/models/back/versions/1/infer", "back"),
        ("POST", "/v2/models/back/generate_stream", "503"),
        ("GET", "/v2/models/back/ready", "503"),
    ],
)
def test_only_inference_metadata_and_health_pass(method: str, path: str, expected: str) -> None:
    assert route_http(make_http_routes(LIMITS, ["words"], ["slow"], ["back"]), method, path) == expected


def test_grpc_models_are_told_apart_by_authority() -> None:
    table = hosts(make_grpc_routes(LIMITS, "demo", ["letters", "words"], ["slow"]))
    assert table["words"]["domains"] == ["words", "words.demo", "words.demo.svc", "words.demo.svc.*"]
    assert table[UNATTRIBUTED]["domains"] == ["*"]
    assert {name: host["routes"][0].get("stat_prefix") for name, host in table.items()} == {
        "letters": "letters",
        "words": "words",
        "slow": None,
        UNATTRIBUTED: UNATTRIBUTED,
    }


def test_a_model_that_is_coming_back_has_its_requests_wait() -> None:
    (http,) = (
        route
        for route in hosts(make_http_routes(LIMITS, [], ["slow"], ["back"]))["http"]["routes"]
        if route.get("stat_prefix") == "back"
    )
    assert http["route"]["cluster"] == "back_http"
    several = hosts(make_grpc_routes(LIMITS, "demo", ["words"], ["slow"], ["back"]))
    assert several["back"]["routes"][0]["route"]["cluster"] == "back_grpc"
    assert several["back"]["domains"][0] == "back"
    assert UNATTRIBUTED in several
    alone = hosts(make_grpc_routes(LIMITS, "demo", [], [], ["back"]))
    assert {name: host["domains"] for name, host in alone.items()} == {"back": ["*"]}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_what_is_tried_again_goes_elsewhere_first(protocol: str) -> None:
    bootstrap = make_bootstrap(Ports(), LIMITS, TritonPorts(1, 2, 3), "/run", "/run/a.sock")
    clusters = {one["name"]: one["load_assignment"] for one in bootstrap["static_resources"]["clusters"]}

    def places(cluster: str) -> list[str]:
        found = clusters[f"{cluster}_{protocol}"]["endpoints"]
        assert [one["priority"] for one in found] == [0, 1]
        return [next(iter(one["lb_endpoints"][0]["endpoint"]["address"])) for one in found]

    assert places("triton") == ["socket_address", "pipe"]
    assert places("back") == ["pipe", "socket_address"]


def test_polls_of_health_and_metadata_are_not_under_way_as_inference_is() -> None:
    """Envoy counts active requests by cluster: by these the operator knows of open streams."""
    http = hosts(make_http_routes(LIMITS, ["words"], []))["http"]["routes"]
    grpc = hosts(make_grpc_routes(LIMITS, "demo", ["words", "other"], []))
    routes = [*http, *(route for host in grpc.values() for route in host["routes"])]
    for route in routes:
        if "route" in route:
            asked = "stat_prefix" in route
            assert route["route"]["cluster"].startswith("triton_" if asked else "polls_"), route


def test_a_stream_is_tried_again_only_where_triton_never_saw_it() -> None:
    table = hosts(make_grpc_routes(LIMITS, "demo", ["words"], []))
    policies = {
        route["match"]["path"].rpartition("/")[2]: route["route"]["retry_policy"]["retry_on"]
        for route in table["words"]["routes"]
        if "route" in route
    }
    assert policies["ModelStreamInfer"] == policies["ModelReady"] == "connect-failure,refused-stream"
    assert "internal" in policies["ModelInfer"]


def test_any_authority_counts_for_the_only_model() -> None:
    table = hosts(make_grpc_routes(LIMITS, "demo", ["words"], []))
    assert {name: host["domains"] for name, host in table.items()} == {"words": ["*"]}


def test_no_model_no_grpc_inference() -> None:
    table = hosts(make_grpc_routes(LIMITS, "demo", [], []))
    paths = [route["match"].get("path", "") for route in table[UNATTRIBUTED]["routes"]]
    assert not any("ModelInfer" in path or "StreamInfer" in path for path in paths)


def test_grpc_routes_are_a_list_of_allowed_methods() -> None:
    table = hosts(make_grpc_routes(LIMITS, "demo", ["words"], []))
    *allowed, last = table["words"]["routes"]
    assert sorted(route["match"]["path"].rsplit("/", 1)[1] for route in allowed) == [
        "Check",
        "ModelInfer",
        "ModelMetadata",
        "ModelReady",
        "ModelStreamInfer",
        "ServerLive",
        "ServerMetadata",
        "ServerReady",
    ]
    assert last["match"] == {"prefix": "/"}
    assert last["direct_response"]["status"] == 404


def test_version_of_routes_changes_with_their_content() -> None:
    first = make_http_routes(LIMITS, ["words"], [])["version_info"]
    assert first == make_http_routes(LIMITS, ["words"], [])["version_info"]
    assert first != make_http_routes(LIMITS, [], ["words"])["version_info"]


@pytest.mark.triton
@pytest.mark.parametrize(
    "traces", [None, Traces("collector.monitoring", 4318, 0.25), Traces("[::1]", 1, 1.0)]
)
def test_envoy_accepts_the_configuration(tmp_path: Path, traces: Traces | None) -> None:
    environment = serving_environment().variables
    bootstrap = make_bootstrap(
        Ports(), LIMITS, TritonPorts(1, 2, 3), str(tmp_path), str(tmp_path / "a.sock"), traces
    )
    (tmp_path / f"{HTTP_ROUTES}.json").write_text(json.dumps(make_http_routes(LIMITS, ["words"], ["slow"])))
    (tmp_path / f"{GRPC_ROUTES}.json").write_text(
        json.dumps(make_grpc_routes(LIMITS, "demo", ["words"], ["slow"]))
    )
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps(bootstrap))
    checked = subprocess.run(
        [environment["NLP_ENVOY_BINARY"], "--mode", "validate", "--config-path", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert "deprecated" not in checked.stderr.lower()


def test_bounds_of_latency_are_close_where_targets_lie() -> None:
    steps = list(pairwise(LATENCY_BUCKETS))
    assert all(lower < upper for lower, upper in steps)
    assert all(upper / lower <= 1.12 for lower, upper in steps if 10 <= lower < 1000)
    # Envoy keeps two digits: of a bound with three it would guess the count.
    assert all(bound < 100 or bound % 10 ** (len(str(bound)) - 2) == 0 for bound in LATENCY_BUCKETS)


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


class Silent(Answering):
    """Until the test is over."""

    over = threading.Event()

    def do_POST(self) -> None:
        self.over.wait(300)


class Resetting(Answering):
    """As a backend that ends its Triton."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.close_connection = True


class Again(Answering):
    """As the agent where requests wait (`hold.py`)."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(AGAIN)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def address_string(self) -> str:
        return "a socket"


class HoldServer(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[None]:
    server = HoldServer(str(folder / HOLD_HTTP_SOCKET), Again)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def without_triton(bootstrap: dict[str, Any]) -> None:
    """Nobody listens where Envoy looks for it."""
    text = json.dumps(bootstrap["static_resources"]["clusters"])
    bootstrap["static_resources"]["clusters"] = json.loads(re.sub(r'("port_value": )\d+', r"\g<1>2", text))


class Upstream(ThreadingHTTPServer):
    """Accepts all that Envoy opens at once: a connection that the kernel puts off counts as no request."""

    request_queue_size = 1024
    daemon_threads = True


@contextlib.contextmanager
def running_envoy(
    folder: Path,
    answering: type[Answering],
    limits: Limits = LIMITS,
    change: Callable[[dict[str, Any]], None] = lambda bootstrap: None,
) -> Iterator[tuple[int, Path]]:
    """The door's port, and the admin page's socket."""
    upstream = Upstream(("127.0.0.1", 0), answering)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    free = FreePorts()
    door, grpc, metrics, agent = (free.take() for _ in range(4))
    admin = folder / "a.sock"
    bootstrap = make_bootstrap(
        Ports("127.0.0.1", door, grpc, metrics, agent),
        limits,
        TritonPorts(upstream.server_port, 2, 3),
        str(folder),
        str(admin),
    )
    change(bootstrap)
    (folder / f"{HTTP_ROUTES}.json").write_text(json.dumps(make_http_routes(limits, ["words"], [])))
    (folder / f"{GRPC_ROUTES}.json").write_text(json.dumps(make_grpc_routes(limits, "demo", ["words"], [])))
    (folder / "envoy.json").write_text(json.dumps(bootstrap))
    environment = serving_environment().variables
    command = [environment["NLP_ENVOY_BINARY"], "--config-path", str(folder / "envoy.json")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--use-dynamic-base-id"], stdout=log, stderr=log)
    try:
        yield door, admin
    finally:
        process.kill()
        process.wait(60)
        upstream.shutdown()
        upstream.server_close()
        free.release()


def count_bytes(bootstrap: dict[str, Any]) -> None:
    """The sizes of bodies as latencies are: they can be chosen."""
    for cluster in bootstrap["static_resources"]["clusters"]:
        cluster["track_cluster_stats"] = {"request_response_sizes": True}
    (latencies,) = bootstrap["stats_config"]["histogram_bucket_settings"]
    latencies["match"] = {"prefix": "cluster.triton_http."}


def post(port: int, size: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/v2/models/words/infer", b"x" * size)
        return connection.getresponse().status
    except OSError:  # it does not listen yet
        return 0
    finally:
        connection.close()


def page_of(admin: Path, wanted: str) -> str:
    """Series whose name has this in it; empty while there is no page."""
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(str(admin))
        connection.request("GET", f"/stats/prometheus?filter={wanted}")
        return connection.getresponse().read().decode()
    except OSError:
        return ""
    finally:
        connection.close()


def counted(admin: Path) -> dict[float, int]:
    """Bodies by bound."""
    page = page_of(admin, "upstream_rq_body_size")
    series = r'envoy_cluster_upstream_rq_body_size_bucket\{[^}]*"triton_http",le="([^"]+)"\} (\d+)'
    return {float(bound): int(count) for bound, count in re.findall(series, page)}


@pytest.mark.triton
def test_under_each_bound_envoy_counts_what_is_less_and_nothing_else(tmp_path: Path) -> None:
    """By default it would count a tenth more: what is 100 to 109 under the bound 100."""
    sizes = [1, 9, 10, 19, 20, 99, 100, 101, 109, 110, 119, 120, 219, 220, 439, 440, 999, 1000, 1099, 1199]
    with running_envoy(tmp_path, Answering, change=count_bytes) as (door, admin):
        wait_until("Envoy answers", lambda: post(door, 5) == 200)
        assert [post(door, size) for size in sizes] == [200] * len(sizes)

        def all_counted() -> dict[float, int]:
            found = counted(admin)
            return found if found.get(float("inf")) == len(sizes) + 1 else {}

        found = wait_until("the page has every body", all_counted)
    assert list(found)[:-1] == [bound - SHORT_OF for bound in LATENCY_BUCKETS]
    less = {bound: sum(size < bound for size in [5, *sizes]) for bound in LATENCY_BUCKETS}
    assert {bound: found[bound - SHORT_OF] for bound in LATENCY_BUCKETS} == less


def wait_longer_for_idle_streams(bootstrap: dict[str, Any]) -> None:
    """Than for an answer: both end a request with 504, and which is first is Envoy's to say."""
    for listener in bootstrap["static_resources"]["listeners"]:
        (manager,) = listener["filter_chains"][0]["filters"]
        manager["typed_config"]["stream_idle_timeout"] = "300s"


def by_route(admin: Path) -> dict[str, int]:
    """Of the only model, by code, and all that Envoy `sent on`."""
    page = page_of(admin, "vhost.*upstream_rq_")
    codes = re.findall(r'^envoy_vhost_route_upstream_rq\{[^}]*code="(\d+)"[^}]*\} (\d+)', page, re.M)
    totals = re.findall(r"^envoy_vhost_route_upstream_rq_total\{[^}]*\} (\d+)", page, re.M)
    return {**{code: int(count) for code, count in codes if int(count)}, "sent on": sum(map(int, totals))}


@pytest.mark.triton
def test_envoys_count_of_requests_lacks_those_that_it_refuses_for_want_of_room(tmp_path: Path) -> None:
    """`readings/page.py` adds them. Those that got no answer in time are in it."""
    limits = replace(LIMITS, active_requests=2, request_seconds=2.0)
    Silent.over.clear()
    try:
        with running_envoy(tmp_path, Silent, limits, wait_longer_for_idle_streams) as (door, admin):
            wait_until("Envoy answers", lambda: post(door, 5) == 504)
            answers = Counter([504])
            with ThreadPoolExecutor(20) as callers:
                while 503 not in answers:
                    answers.update(callers.map(lambda _: post(door, 5), range(20)))
            found = by_route(admin)
    finally:
        Silent.over.set()
    assert set(answers) == {503, 504}
    assert found == {"503": answers[503], "504": answers[504], "sent on": answers[504]}


@pytest.mark.triton
@pytest.mark.parametrize(
    ("change", "tries"),
    [
        pytest.param(lambda bootstrap: None, 3, id="Triton ends each of its tries"),
        pytest.param(without_triton, 1, id="Triton takes no connection: only the wait is sent on"),
    ],
)
def test_a_request_that_is_tried_again_counts_for_each_try_that_was_sent_on_and_as_refused(
    change: Callable[[dict[str, Any]], None], tries: int, tmp_path: Path
) -> None:
    """So `offered` is 2 to 4 for one request. Its retries are by route too, and also those that nothing was
    sent on for: less these it would fall below zero."""
    with holding(tmp_path), running_envoy(tmp_path, Resetting, change=change) as (door, admin):
        wait_until("Envoy answers", lambda: post(door, 5) == 503)
        assert [post(door, 5) for _ in range(9)] == [503] * 9
        assert by_route(admin) == {"503": 10, "sent on": 10 * tries}
        again = re.findall(
            r"^envoy_vhost_route_upstream_rq_retry\{[^}]*\} (\d+)", page_of(admin, "upstream_rq_retry"), re.M
        )
        assert sum(map(int, again)) == 20
