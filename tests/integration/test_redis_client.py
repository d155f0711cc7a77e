"""The client of Redis against a real one."""

import asyncio
import socket
from pathlib import Path

import pytest
import redis.asyncio as redis
import uvloop

from deploy.local.embedded import EmbeddedRedis
from services.common import redis_client
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.redis_client import connect, redis_errors
from services.common.settings import RedisSettings
from services.common.tasks import end
from tests.support.journal_client import refusal
from tests.support.waiting import until


async def test_a_cancellation_is_never_lost(clean_redis: str) -> None:
    """Whenever it comes: an upload that goes on behind its client's back would become a video."""
    client = connect(RedisSettings(redis_url=clean_redis))

    async def call() -> None:
        with redis_errors():
            await client.set("key", "value")

    try:
        await call()
        steps = ended = 0
        while not ended:
            calling = asyncio.create_task(call())
            for _ in range(steps):
                await asyncio.sleep(0)
            if calling.done():
                ended = steps
            calling.cancel()
            await asyncio.wait([calling])
            assert ended or calling.cancelled(), f"lost where it came {steps} steps after the call began"
            steps += 1
        assert ended > 2
    finally:
        await client.aclose()


async def test_what_tidies_up_behind_a_cancellation_is_done(clean_redis: str) -> None:
    """It goes on in a task that was cancelled, and gives a lease back, or takes an entry away."""
    async with connect(RedisSettings(redis_url=clean_redis)) as client:

        async def work() -> None:
            try:
                begun.set()
                await asyncio.Future()
            finally:
                with redis_errors():
                    await client.set("first", "done")
                with redis_errors():
                    await client.set("second", "done")

        begun = asyncio.Event()
        working = asyncio.create_task(work())
        await begun.wait()
        await end(working)
        assert await client.mget("first", "second") == ["done", "done"]


async def test_a_server_that_hangs_is_left_in_the_time_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """And asked again on another connection; who waits for one to be free does not wait longer."""
    monkeypatch.setattr(redis_client, "_CONNECTIONS", 1)
    connections = 0

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    settings = RedisSettings(redis_url=url, redis_timeout_seconds=0.05)
    async with server, connect(settings) as client, asyncio.timeout(4):

        async def ask() -> None:
            with redis_errors():
                await client.get("key")

        asking = asyncio.create_task(ask())
        await until(lambda: connections > 0)
        assert await refusal(ask()) is ErrorReason.STORE_UNAVAILABLE
        assert not asking.done()
        await until(lambda: connections > 1)
        await end(asking)


async def test_a_server_that_lets_nobody_in_is_asked_a_few_times(tmp_path: Path) -> None:
    """For each call, whose client retries to connect inside of its retries: one that loads its data is not stormed."""
    server = EmbeddedRedis(tmp_path)
    await server.start()
    async with redis.Redis.from_url(server.url) as admin, connect(RedisSettings(redis_url=server.url)) as client:
        await admin.config_set("requirepass", "secret")
        before = (await admin.info("stats"))["total_connections_received"]
        with pytest.raises(ReelwayError, match="AuthenticationError"), redis_errors():
            await client.get("key")
        assert (await admin.info("stats"))["total_connections_received"] - before <= 5
    await server.stop()


def test_a_connection_that_closes_as_it_is_written_to_is_a_store_that_is_away() -> None:
    """On uvloop, which says so with an exception that the client does not know."""

    async def write() -> None:
        ours, theirs = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=ours)
        theirs.close()
        writer.transport.abort()
        await asyncio.sleep(0)
        with redis_errors():
            writer.writelines([b"HELLO"])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, pytest.raises(ReelwayError) as raised:
        runner.run(write())
    assert raised.value.reason is ErrorReason.STORE_UNAVAILABLE


async def test_a_mistake_of_ours_is_no_store_that_is_away() -> None:
    with pytest.raises(RuntimeError, match="a mistake"), redis_errors():
        raise RuntimeError("a mistake")
