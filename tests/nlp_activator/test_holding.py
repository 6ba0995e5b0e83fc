"""Real connections: held, woken, joined, refused."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from localcluster.ports import Ports
from nlp_activator.holding import Limits
from nlp_activator.view import Model
from tests.nlp_activator.scene import HERE, Scene, answer_of, error_of, make_request, make_slice, pod, scene


def make_question(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: novels\r\n\r\n".encode()


async def sleeping(scene: Scene, sleep: str = "first", model: str = "novels") -> dict[str, int]:
    """The ports of a model that sleeps."""
    free = Ports()
    ports = {"http": free.take(), "grpc": free.take()}
    scene.see(make_slice(model, ports, ours=True, asleep=sleep))
    await scene.opened(*ports.values())
    return ports


async def test_a_request_is_held_wakes_the_model_once_and_is_answered_by_its_pod() -> None:
    async with scene() as here, pod() as there:
        ports = await sleeping(here)
        streams = [await here.connect(ports["http"]) for _ in range(3)]
        for number, (_, writer) in enumerate(streams):
            writer.write(make_request(b"request %d" % number))
        await here.until(lambda: here.holding.held == 3)
        await here.until(lambda: here.api.data)
        assert here.api.patches == [{"demo.novels": "first"}]
        assert there.asked == []
        here.see(make_slice("novels", {"http": there.port}, hosts=(HERE,)))
        for number, (reader, writer) in enumerate(streams):
            status, _, body = await answer_of(reader)
            assert (status, body) == (200, b"request %d" % number)
            # The connection lives on, and the next request takes the same way.
            writer.write(make_request(b"again"))
            assert (await answer_of(reader))[2] == b"again"
        await here.hang_up()
        await here.until(lambda: here.holding.calm.is_set())
        assert here.value("woken_total") == 1
        assert here.value("wake_seconds_count") == 3


async def test_a_connection_that_says_nothing_wakes_nobody() -> None:
    async with scene() as here:
        ports = await sleeping(here)
        await here.connect(ports["http"])
        _, probe = await here.connect(ports["http"])
        probe.close()
        # Of gRPC: connected, and no request yet.
        reader, connected = await here.connect(ports["grpc"])
        connected.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9).replace(b"\0\0\0\0", b"\0\0\0\4", 1))
        assert await reader.readexactly(9) == b"\0\0\0\4\0\0\0\0\0"
        asking = await here.connect(ports["http"])
        asking[1].write(b"P")
        await here.until(lambda: len(here.holding._tasks) == 3)
        asking[1].write(make_request(b"")[1:])
        await here.until(lambda: here.api.patches)
        assert here.holding.held == 1


async def test_a_long_request_is_kept_only_in_part_and_arrives_whole() -> None:
    async with scene() as here, pod() as there:
        ports = await sleeping(here)
        body = bytes(range(256)) * 192 * 1024  # 48 MiB: more than the kernel keeps for both ends
        reader, writer = await here.connect(ports["http"])
        writer.write(make_request(body))
        await here.until(lambda: here.api.data)
        assert writer.transport.get_write_buffer_size() > 0, "the sender waits"
        here.see(make_slice("novels", {"http": there.port}, hosts=(HERE,)))
        assert (await answer_of(reader))[2] == body


async def test_whose_model_does_not_come_is_told_503_and_when_to_try_again() -> None:
    async with scene(Limits(hold_seconds=0.2)) as here:
        ports = await sleeping(here)
        reader, writer = await here.connect(ports["http"])
        writer.write(make_request(b"x" * 200_000))
        status, headers, body = await answer_of(reader)
        assert (status, headers["retry-after"], headers["connection"]) == (503, "10", "close")
        assert error_of(body) == (
            "Model demo/novels slept and was woken, and no pod of it was ready within 0.2 s. Try again in "
            "10 s; if it stays so, `kubectl -n demo describe nlpmodel novels` says what keeps it."
        )
        assert await reader.read() == b""
        assert here.value("refused_total", reason="NotReady") == 1


async def test_while_the_api_is_away_nobody_is_held_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nlp_activator.holding.UNTOLD_SECONDS", 0.05)
    async with scene() as here, pod() as there:
        here.api.away = True
        ports = await sleeping(here)
        reader, writer = await here.connect(ports["http"])
        writer.write(make_request(b""))
        status, _, body = await answer_of(reader)
        assert status == 503
        assert error_of(body).startswith(
            "Model demo/novels sleeps and could not be woken: the Kubernetes API could not be told (The API "
            "server did not answer"
        )
        # What could not be told is told when it is back, and the next request goes through.
        here.api.away = False
        await here.until(lambda: here.api.data == {"demo.novels": "first"})
        here.see(make_slice("novels", {"http": there.port}, hosts=(HERE,)))
        reader, writer = await here.connect(ports["http"])
        writer.write(make_request(b"now"))
        assert (await answer_of(reader))[2] == b"now"


async def test_no_more_are_held_than_allowed() -> None:
    async with scene(Limits(most_held=1)) as here:
        ports = await sleeping(here)
        _, first = await here.connect(ports["http"])
        first.write(make_request(b""))
        await here.until(lambda: here.holding.held == 1)
        reader, second = await here.connect(ports["http"])
        second.write(make_request(b""))
        status, headers, body = await answer_of(reader)
        assert (status, headers["retry-after"]) == (503, "10")
        assert "1 connections wait for sleeping models already" in error_of(body)


async def test_connections_beyond_the_most_are_cut_off() -> None:
    async with scene(Limits(most_connections=1)) as here:
        ports = await sleeping(here)
        await here.connect(ports["http"])
        await here.until(lambda: len(here.holding._tasks) == 1)
        reader, _ = await here.connect(ports["http"])
        assert await reader.read() == b""


async def test_a_pod_that_is_called_ready_and_is_gone_is_not_the_last_word() -> None:
    """A model that has just fallen asleep: its slice of pods is behind."""
    async with scene() as here, pod() as there:
        ports = await sleeping(here)
        here.see(make_slice("novels", {"http": Ports().take()}, hosts=(HERE,)))
        reader, writer = await here.connect(ports["http"])
        writer.write(make_request(b"patience"))
        await here.until(lambda: here.api.data)
        here.see(make_slice("novels", {"http": there.port}, hosts=(HERE,)))
        assert (await answer_of(reader))[2] == b"patience"


async def test_a_model_that_falls_asleep_again_is_woken_again_and_what_is_gone_is_cleared_away() -> None:
    async with scene() as here:
        ports = await sleeping(here)
        other = await sleeping(here, model="words")
        for model, port in (("novels", ports["http"]), ("words", other["http"])):
            _, writer = await here.connect(port)
            writer.write(make_request(b"", model))
        await here.until(lambda: here.api.data == {"demo.novels": "first", "demo.words": "first"})
        here.forget(make_slice("words", {}, ours=True))
        here.see(make_slice("novels", ports, ours=True, asleep="second"))
        await here.until(lambda: here.api.data == {"demo.novels": "second"})
        assert here.value("woken_total") == 3


async def test_a_door_of_a_model_that_may_not_sleep_any_more_is_closed() -> None:
    async with scene() as here:
        ports = await sleeping(here)
        here.forget(make_slice("novels", {}, ours=True))
        await here.until(lambda: not here.doors._open)
        with pytest.raises(ConnectionRefusedError):
            await here.connect(ports["http"])


@pytest.mark.parametrize(
    ("reset", "length"),
    [
        pytest.param(False, 3, id="ended"),
        pytest.param(True, 3, id="reset"),
        pytest.param(True, 2_000_000, id="reset in the midst of what it says"),
    ],
)
async def test_who_leaves_while_he_is_held_is_let_go_and_no_pod_works_for_him(
    reset: bool, length: int
) -> None:
    async with scene() as here, pod() as there:
        ports = await sleeping(here)
        gone = [await here.connect(ports["http"]) for _ in range(3)]
        for _, writer in gone:
            writer.write(make_request(b"x" * length))
        await here.until(lambda: here.holding.held == 3)
        for _, writer in gone:
            if reset:  # nothing that was sent is kept for the other end
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        await here.until(lambda: here.holding.held == 0)
        assert here.value("left_total") == 3
        here.see(make_slice("novels", {"http": there.port}, hosts=(HERE,)))
        reader, writer = await here.connect(ports["http"])
        writer.write(make_request(b"who stays"))
        assert (await answer_of(reader))[2] == b"who stays"
        assert there.asked == [b"who stays"]


async def test_a_wake_that_was_lost_is_told_again_while_somebody_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nlp_activator.waking.AGAIN_SECONDS", 0.05)
    async with scene() as here:
        ports = await sleeping(here)
        _, writer = await here.connect(ports["http"])
        writer.write(make_request(b""))
        await here.until(lambda: here.api.data)
        here.api.data.clear()  # the ConfigMap was made anew
        await here.until(lambda: here.api.data == {"demo.novels": "first"})
        assert here.value("woken_total") == 1


async def test_what_names_no_model_in_the_config_map_is_left_alone() -> None:
    async with scene() as here:
        here.api.data["README"] = "Whose this is."
        ports = await sleeping(here)
        _, writer = await here.connect(ports["http"])
        writer.write(make_request(b""))
        await here.until(lambda: "demo.novels" in here.api.data)
        here.see(make_slice("novels", ports, ours=True, asleep="second"))
        await here.until(lambda: here.api.data.get("demo.novels") == "second")
        assert here.api.data["README"] == "Whose this is."


@pytest.mark.parametrize("path", ["health/live", "health/ready", "models/novels/ready"])
async def test_who_asks_whether_a_sleeping_model_is_ready_is_told_and_wakes_nobody(path: str) -> None:
    async with scene() as here, pod() as there:
        ports = await sleeping(here)
        reader, writer = await here.connect(ports["http"])
        question = make_question(f"/v2/{path}")
        writer.write(question[:9])
        await here.until(lambda: not here.holding.calm.is_set())
        writer.write(question[9:])
        status, headers, body = await answer_of(reader)
        assert (status, headers["server"], headers["connection"], body) == (
            200,
            "nlp-activator",
            "close",
            b"",
        )
        assert await reader.read() == b""
        await here.until(lambda: here.holding.calm.is_set())
        assert (here.api.patches, here.value("woken_total")) == ([], 0)
        # Of a model that has a pod the pod says it.
        here.see(make_slice("novels", {"http": there.port}, hosts=(HERE,)))
        reader, writer = await here.connect(ports["http"])
        writer.write(question)
        assert "server" not in (await answer_of(reader))[1]
        assert there.asked == [b""]


@pytest.mark.parametrize("path", ["/v2/models/novels", "/v2/models/novels/versions/1/ready", "/v2"])
async def test_what_no_pod_has_said_yet_wakes_once_and_never_again(path: str) -> None:
    async with scene() as here, pod() as there:
        ports = await sleeping(here)
        reader, writer = await here.connect(ports["http"])
        writer.write(make_question(path))
        await here.until(lambda: here.api.data == {"demo.novels": "first"})
        here.see(make_slice("novels", {"http": there.port}, hosts=(HERE,)))
        assert (await answer_of(reader))[0] == 200
        await here.until(lambda: here.memory.of(Model("demo", "novels")).model)
        here.see(make_slice("novels", ports, ours=True, asleep="second"))
        here.forget(make_slice("novels", {}))
        reader, writer = await here.connect(ports["http"])
        writer.write(make_question(path))
        status, headers, _ = await answer_of(reader)
        assert (status, headers["server"]) == (200, "nlp-activator")
        assert here.api.patches == [{"demo.novels": "first"}]
        assert here.value("answered_total") == 1


@pytest.mark.parametrize(
    ("said", "status"),
    [
        pytest.param(make_question("/v2/models/novels/config"), 404, id="configuration"),
        pytest.param(make_question("/v2/models/novels/stats"), 404, id="statistics"),
        pytest.param(make_question("/v2/models/words/ready"), 404, id="another model"),
        pytest.param(b"POST /v2/repository/index HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 404, id="index"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400, id="TLS"),
    ],
)
async def test_what_no_pod_answers_wakes_nobody(said: bytes, status: int) -> None:
    async with scene() as here:
        ports = await sleeping(here)
        reader, writer = await here.connect(ports["http"])
        writer.write(said)
        found, headers, body = await answer_of(reader)
        assert (found, headers["content-type"], bool(error_of(body))) == (status, "application/json", True)
        assert await reader.read() == b""
        assert here.api.patches == []


async def test_a_sleeping_model_that_could_not_be_woken_is_not_called_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nlp_activator.holding.UNTOLD_SECONDS", 0.0)
    async with scene() as here:
        here.api.away = True
        ports = await sleeping(here)
        _, writer = await here.connect(ports["http"])
        writer.write(make_request(b""))
        await here.until(lambda: here.waker.trouble(0.0))
        reader, writer = await here.connect(ports["http"])
        writer.write(make_question("/v2/health/ready"))
        status, _, body = await answer_of(reader)
        assert (status, "could not be woken" in error_of(body)) == (503, True)


# --- gRPC ---

ASK = "/inference.GRPCInferenceService/ModelInfer"


async def ask(port: int, question: bytes, seconds: float = 20.0) -> bytes:
    async with grpc.aio.insecure_channel(f"{HERE}:{port}") as channel:
        answer: bytes = await channel.unary_unary(ASK)(question, timeout=seconds)
        return answer


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        async def echo(question: bytes, context: object) -> bytes:
            return question

        return grpc.unary_unary_rpc_method_handler(echo)


@asynccontextmanager
async def grpc_pod() -> AsyncIterator[int]:
    """The port of a pod that says what it is asked."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    port: int = server.add_insecure_port(f"{HERE}:0")
    await server.start()
    yield port
    await server.stop(None)


async def test_a_grpc_client_is_held_longer_than_it_waits_for_settings_and_is_answered() -> None:
    async with scene() as here, grpc_pod() as there:
        ports = await sleeping(here)
        async with grpc.aio.insecure_channel(f"{HERE}:{ports['grpc']}") as channel:
            asked = [
                asyncio.ensure_future(channel.unary_unary(ASK)(b"question %d" % number, timeout=20.0))
                for number in range(5)
            ]
            await here.until(lambda: here.api.data == {"demo.novels": "first"})
            here.see(make_slice("novels", {"grpc": there}, hosts=(HERE,)))
            assert await asyncio.gather(*asked) == [b"question %d" % number for number in range(5)]
            big = b"x" * 3_000_000
            assert await channel.unary_unary(ASK)(big, timeout=20.0) == big


async def test_a_grpc_client_whose_model_does_not_come_is_told_unavailable() -> None:
    async with scene(Limits(hold_seconds=0.3)) as here:
        ports = await sleeping(here)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(ports["grpc"], b"question")
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert str(raised.value.details()).startswith(
            "Model demo/novels slept and was woken, and no pod of it was ready within 0.3 s. Try again in"
        )


HEALTH = "/grpc.health.v1.Health/Check"
SERVICE = "/inference.GRPCInferenceService/"


async def call(channel: grpc.aio.Channel, path: str, request: bytes = b"") -> bytes:
    answer: bytes = await channel.unary_unary(path)(request, timeout=20.0)
    return answer


async def test_a_grpc_client_that_asks_whether_it_is_ready_wakes_nobody_and_then_asks_what_does() -> None:
    """On one channel, as the clients do that wait for a model before their first inference."""
    async with scene() as here, grpc_pod() as there:
        ports = await sleeping(here)
        async with grpc.aio.insecure_channel(f"{HERE}:{ports['grpc']}") as channel:
            for path in (HEALTH, f"{SERVICE}ServerLive", f"{SERVICE}ServerReady"):
                assert await call(channel, path) == b"\x08\x01"
            request = pb.ModelReadyRequest(name="novels").SerializeToString()
            assert await call(channel, f"{SERVICE}ModelReady", request) == b"\x08\x01"
            several = [call(channel, HEALTH) for _ in range(20)]
            assert await asyncio.gather(*several) == [b"\x08\x01"] * 20
            assert here.api.patches == []
            asked = asyncio.ensure_future(call(channel, ASK, b"question"))
            await here.until(lambda: here.api.data == {"demo.novels": "first"})
            here.see(make_slice("novels", {"grpc": there}, hosts=(HERE,)))
            assert await asked == b"question"


async def test_a_poll_and_an_inference_that_come_together_both_go_to_the_pod() -> None:
    async with scene() as here, grpc_pod() as there:
        ports = await sleeping(here)
        async with grpc.aio.insecure_channel(f"{HERE}:{ports['grpc']}") as channel:
            asked = [asyncio.ensure_future(call(channel, path, b"?")) for path in (ASK, HEALTH, ASK)]
            await here.until(lambda: here.api.data == {"demo.novels": "first"})
            here.see(make_slice("novels", {"grpc": there}, hosts=(HERE,)))
            answers = await asyncio.gather(*asked)
            assert (answers[0], answers[2]) == (b"?", b"?")


async def test_a_sleeping_model_that_could_not_be_woken_is_not_called_ready_over_grpc(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nlp_activator.holding.UNTOLD_SECONDS", 0.0)
    async with scene() as here:
        here.api.away = True
        ports = await sleeping(here)
        _, writer = await here.connect(ports["http"])
        writer.write(make_request(b""))
        await here.until(lambda: here.waker.trouble(0.0))
        async with grpc.aio.insecure_channel(f"{HERE}:{ports['grpc']}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call(channel, HEALTH)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_http_1_at_the_port_of_grpc_wakes_nobody() -> None:
    async with scene() as here:
        ports = await sleeping(here)
        reader, writer = await here.connect(ports["grpc"])
        writer.write(make_question("/"))
        assert (await answer_of(reader))[0] == 404
        assert here.api.patches == []
