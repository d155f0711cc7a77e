"""The lean client of ranged GETs, against a server that answers what it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from services.common import range_client
from services.common.range_client import BrokenAnswerError, RangeClient
from services.common.tasks import end
from tests.support.chaos_proxy import silent_address
from tests.support.waiting import until

REQUEST = b"GET /object HTTP/1.1\r\nHost: test\r\n\r\n"
Reply = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """Answers each request with the next of its replies; the last one again and again."""

    replies: list[Reply]
    connections: int = 0
    requests: int = 0
    port: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                reply = self.replies[min(self.requests, len(self.replies) - 1)]
                self.requests += 1
                await reply(writer)
        writer.close()


@contextlib.asynccontextmanager
async def asking(*replies: Reply, read_seconds: float = 5) -> AsyncIterator[tuple[RangeClient, Server]]:
    server = Server(list(replies))
    listener = await asyncio.start_server(server.serve, "127.0.0.1")
    server.port = listener.sockets[0].getsockname()[1]
    client = RangeClient(URL(f"http://127.0.0.1:{server.port}"), 5, read_seconds)
    try:
        yield client, server
    finally:
        client.close()
        listener.close()
        for writer in server.writers:
            writer.close()
        await listener.wait_closed()


def raw(data: bytes, split: int = 2**20) -> Reply:
    """These bytes, written in slices."""

    async def reply(writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(data), split):
            writer.write(data[start : start + split])
            await writer.drain()

    return reply


def partial(body: bytes, *, length: int | None = None) -> bytes:
    said = len(body) if length is None else length
    return b"HTTP/1.1 206 Partial Content\r\nX-Other: a: b\r\nContent-Length: %d\r\n\r\n" % said + body


async def fetch(client: RangeClient, length: int) -> bytes:
    async with client.get(REQUEST, length) as answer:
        assert (answer.head.status, answer.head.length) == (206, length)
        return b"".join([piece async for piece in answer.pieces()])


def body_of(length: int) -> bytes:
    return bytes(range(251)) * (length // 251) + bytes(length % 251)


@settings(max_examples=40)
@given(st.integers(1, 900_000), st.sampled_from([1000, 16_384, 65_536, 2**20]))
async def test_every_byte_comes_however_it_is_cut(length: int, split: int) -> None:
    body = body_of(length)
    async with asking(raw(partial(body), split)) as (client, server):
        assert await fetch(client, length) == body
        assert await fetch(client, length) == body
        assert server.connections == 1


async def test_a_head_that_comes_byte_by_byte() -> None:
    async with asking(raw(partial(b"ab"), 1)) as (client, _):
        assert await fetch(client, 2) == b"ab"


async def test_a_connection_that_the_server_gave_up_is_not_noticed() -> None:
    async with asking(raw(partial(b"abc"))) as (client, server):
        assert await fetch(client, 3) == b"abc"
        server.writers[0].close()
        await server.writers[0].wait_closed()
        assert await fetch(client, 3) == b"abc"
        assert server.connections == 2


async def die(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def say_nothing(writer: asyncio.StreamWriter) -> None:
    pass


async def test_a_kept_connection_that_dies_on_the_question_is_replaced() -> None:
    async with asking(raw(partial(b"abc")), die, raw(partial(b"abc"))) as (client, server):
        assert await fetch(client, 3) == b"abc"
        assert await fetch(client, 3) == b"abc"
        assert (server.connections, server.requests) == (2, 3)


@pytest.mark.parametrize("replies", [[die], [raw(partial(b"abc")), raw(b"SSH-2.0-OpenSSH_9\r\n\r\n")]])
async def test_a_server_that_breaks_the_rules_is_not_asked_again(replies: list[Reply]) -> None:
    """Neither where its connection is new, nor where it has said something."""
    async with asking(*replies) as (client, server), asyncio.timeout(10):
        for _ in replies[1:]:
            assert await fetch(client, 3) == b"abc"
        with pytest.raises(BrokenAnswerError):
            await fetch(client, 3)
        assert (server.connections, server.requests) == (1, len(replies))


async def test_who_leaves_before_the_answer_leaves_no_connection() -> None:
    async with asking(say_nothing) as (client, server):
        fetching = asyncio.create_task(fetch(client, 3))
        await until(lambda: server.requests == 1)
        await end(fetching)
        await all_closed(server)


async def test_a_server_that_says_close_is_believed() -> None:
    reply = partial(b"abc").replace(b"X-Other: a: b", b"Connection: Close")
    async with asking(raw(reply)) as (client, server):
        assert await fetch(client, 3) == b"abc"
        assert await fetch(client, 3) == b"abc"
        assert server.connections == 2


async def test_two_at_once_have_a_connection_each() -> None:
    async with asking(raw(partial(b"abc"))) as (client, server):
        assert set(await asyncio.gather(fetch(client, 3), fetch(client, 3))) == {b"abc"}
        assert server.connections == 2


@pytest.mark.parametrize(
    ("reply", "status", "length"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone", 404, 4),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngone" + bytes(100_000), 200, 4),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ngon", 200, 3),
        (partial(b"gone"), 206, 4),
        (b"HTTP/1.1 206 x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\ngone\r\n0\r\n\r\n", 206, -1),
        (b"HTTP/1.0 206 x\r\nContent-Length: +3\r\n\r\ngone\r\n0\r\n\r\n", 206, -1),
        (b"HTTP/1.1 206 x\r\nContent-Length: " + b"3" * 5000 + b"\r\n\r\ngone\r\n0\r\n\r\n", 206, -1),
    ],
)
async def test_another_answer_is_shown_and_its_connection_not_used_again(
    reply: bytes, status: int, length: int
) -> None:
    async with asking(raw(reply), raw(partial(b"abc"))) as (client, server):
        async with client.get(REQUEST, 3) as answer:
            assert (answer.head.status, answer.head.length) == (status, length)
            assert (await answer.error_body()).startswith(b"gon")
        assert await fetch(client, 3) == b"abc"
        assert server.connections == 2


@pytest.mark.parametrize(
    ("header", "body", "told", "silence_seconds"),
    [
        (b"Content-Length: 4", b"gone", b"gone", 60),
        (b"Transfer-Encoding: chunked\r\nX-Left: 0", b"4\r\ngone\r\n0\r\n\r\n", b"4\r\ngone\r\n0\r\n\r\n", 60),
        (b"Content-Length: 100000", b"x" * 100_000, b"x" * 2048, 60),
        (b"X-" + b"y" * 16_000 + b": z", b"x" * 100_000, b"x" * 351, 60),
        (b"Content-Length: 5", b"gone", b"gone", 0.5),
        (b"Content-Length: 0", b"", b"", 60),
    ],
)
async def test_what_another_answer_says_is_waited_for(
    header: bytes, body: bytes, told: bytes, silence_seconds: float
) -> None:
    """As far as it comes, and no longer; many a server sends its head first."""
    has_head = asyncio.Event()

    async def head_first(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 404 Not Found\r\n" + header + b"\r\n\r\n")
        await has_head.wait()
        writer.write(body[:2])
        for _ in range(3):
            await asyncio.sleep(0)
        writer.write(body[2:])

    async with (
        asyncio.timeout(30),
        asking(head_first, read_seconds=silence_seconds) as (client, _),
        client.get(REQUEST, 3) as answer,
    ):
        has_head.set()
        assert await answer.error_body() == told


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "not HTTP/1"),
        (b"HTTP/2 206\r\n\r\n", "not HTTP/1"),
        (b"HTTP/1.1 abc\r\n\r\n", "not HTTP/1"),
        (b"HTTP/1.1 20\r\n\r\n", "not HTTP/1"),
        (b"HTTP/1.1 206 x\r\nno colon\r\n\r\n", "broken header"),
        (b"HTTP/1.1 206 x\r\n: no name\r\n\r\n", "broken header"),
        (b"HTTP/1.1 206 x\r\nContent-Length : 3\r\n\r\nabc", "broken header"),
        (b"HTTP/1.1 206 x\r\n" + b"X: " + b"y" * 20_000, "too long"),
        (partial(b"abcd", length=3), "longer than it says"),
    ],
)
async def test_what_is_not_http_ends_the_request(reply: bytes, why: str) -> None:
    async with asking(raw(reply)) as (client, _):
        with pytest.raises(BrokenAnswerError, match=why):
            await fetch(client, 3)


@pytest.mark.parametrize("size", [0, 100_000])
async def test_what_came_before_the_break_is_given_out(size: int) -> None:
    """And nothing else: whoever gets a piece takes it for progress, and asks again without an end."""

    async def break_off(writer: asyncio.StreamWriter) -> None:
        writer.write(partial(body_of(size), length=1_000_000))
        writer.close()

    async with asking(break_off) as (client, _):
        got = b""
        with pytest.raises(BrokenAnswerError):
            async with client.get(REQUEST, 1_000_000) as answer:
                async for piece in answer.pieces():
                    assert piece
                    got += piece
        assert got == body_of(size)


async def test_a_silent_server_is_left() -> None:
    """However slow it was before."""

    async def fall_silent(writer: asyncio.StreamWriter) -> None:
        for piece in (partial(b"", length=3), b"a"):
            writer.write(piece)
            await asyncio.sleep(0.02)

    async with asking(fall_silent, read_seconds=0.05) as (client, _), asyncio.timeout(4):
        with pytest.raises(TimeoutError):
            await fetch(client, 3)


async def test_a_slow_server_is_not() -> None:
    async def trickle(writer: asyncio.StreamWriter) -> None:
        for byte in partial(b"abcdefgh"):
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)

    async with asking(trickle, read_seconds=0.6) as (client, _):
        assert await fetch(client, 8) == b"abcdefgh"


@pytest.mark.parametrize(("length", "held"), [(15 * 2**20, 2**20), (64 * 2**20, 3 * 2**19)])
async def test_a_reader_that_rests_holds_little(length: int, held: int) -> None:
    """The server gets rid of what the sockets hold, and of the pieces that are read ahead."""
    async with asking(raw(partial(bytes(length)))) as (client, _), client.get(REQUEST, length) as answer:
        pieces = answer.pieces()
        await anext(pieces)
        connection = answer._connection
        before = -1
        while before != connection.received:
            before = connection.received
            await asyncio.sleep(0.1)
        assert connection.received < held
        left = length - 2**16
        async for piece in pieces:
            left -= len(piece)
        assert left == 0


async def test_nobody_there_is_an_error() -> None:
    async with asking() as (_, server):
        port = server.port
    client = RangeClient(URL(f"http://127.0.0.1:{port}"), 5, 5)
    with pytest.raises(ConnectionRefusedError):
        await fetch(client, 3)


async def closed(writer: asyncio.StreamWriter) -> None:
    """Until the client has closed this connection."""
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def all_closed(server: Server) -> None:
    """Until the client has closed every connection that the server took."""
    async with asyncio.timeout(10):
        await asyncio.gather(*map(closed, server.writers))


async def test_bytes_that_come_behind_an_answer_are_never_the_next_one() -> None:
    """A server that is out of step would give one viewer what another one asked for."""
    stray = partial(b"somebody else's")

    async def twice(writer: asyncio.StreamWriter) -> None:
        writer.write(partial(b"mine"))
        await writer.drain()
        await fetched.wait()
        writer.write(stray)

    fetched = asyncio.Event()
    async with asking(twice, raw(partial(b"next"))) as (client, server):
        assert await fetch(client, 4) == b"mine"
        fetched.set()
        await all_closed(server)
        assert await fetch(client, 4) == b"next"
        assert server.connections == 2


@pytest.mark.parametrize("length", [200_000, 900_000])
async def test_the_rest_of_an_answer_that_was_left_is_never_the_next_one(length: int) -> None:
    body = body_of(length)
    async with asking(raw(partial(body)), raw(partial(b"next"))) as (client, server):
        async with client.get(REQUEST, length) as answer:
            first = await anext(aiter(answer.pieces()))
            assert first == body[: len(first)]
            assert len(first) < length
        await all_closed(server)
        assert await fetch(client, 4) == b"next"
        assert server.connections == 2


async def test_an_answer_that_came_and_was_not_taken_is_never_the_next_one() -> None:
    async with asking(raw(partial(b"mine")), raw(partial(b"next"))) as (client, server):
        async with client.get(REQUEST, 4) as answer:
            await until(lambda: answer._connection.received == len(partial(b"mine")))
        assert await fetch(client, 4) == b"next"
        assert server.connections == 2


async def test_few_connections_are_kept_and_none_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_client, "_IDLE_CONNECTIONS", 2)
    async with asking(raw(partial(b"body"))) as (client, server):
        async with contextlib.AsyncExitStack() as at_once:
            for _ in range(4):
                answer = await at_once.enter_async_context(client.get(REQUEST, 4))
                assert [bytes(piece) async for piece in answer.pieces()] == [b"body"]
        assert server.connections == 4
        closing = [asyncio.create_task(closed(writer)) for writer in server.writers]
        await until(lambda: sum(task.done() for task in closing) == 2)
        assert await fetch(client, 4) == b"body"
        assert server.connections == 4
        # As if the time had passed.
        monkeypatch.setattr(range_client, "_IDLE_SECONDS", -1.0)
        assert await fetch(client, 4) == b"body"
        assert server.connections == 5
        await asyncio.wait_for(asyncio.gather(*closing), 10)


async def test_an_address_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that died stays in the name server's answer; IPv6 may have no way out."""
    async with asking(raw(partial(b"abc"))) as (_, server):
        with silent_address(server.port):
            found = [
                (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, server.port))
                for address in ("127.0.0.2", "127.0.0.1")
            ]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
            client = RangeClient(URL(f"http://store.example:{server.port}"), 5, 5)
            assert await fetch(client, 3) == b"abc"
            client.close()


async def test_a_store_that_cannot_be_reached_is_given_up() -> None:
    with silent_address() as (host, port):
        async with asyncio.timeout(4):
            with pytest.raises(TimeoutError):
                await fetch(RangeClient(URL(f"http://{host}:{port}"), 0.05, 60), 3)
