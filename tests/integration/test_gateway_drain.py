"""A gateway that is told to end lets what it accepted come to its end."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from gateway.draining import drain
from gateway.endless import Endless
from gateway.http_server import Runner
from gateway.idle_connections import IdleConnections
from gateway.readiness import Readiness
from tests.support.clips import mp4_of
from tests.support.servers import S3Server
from tests.support.system import RunningSystem, start_system
from tests.support.waiting import until

DATA = mp4_of(400_000)


@pytest.fixture
async def own_system(juicefs_s3: S3Server, tmp_path: Path) -> AsyncIterator[RunningSystem]:
    env = {"DRAIN_NOTICE_SECONDS": "1", "DRAIN_SECONDS": "20"}
    async with start_system(tmp_path, env=env, s3=juicefs_s3) as running:
        yield running


async def test_an_upload_under_way_ends_well_and_connections_are_led_away(own_system: RunningSystem) -> None:
    gateway = own_system.process("gateway")
    told = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield DATA[:200_000]
        # The rest comes when the gateway has stopped accepting.
        await told.wait()
        yield DATA[200_000:]

    async with aiohttp.ClientSession() as http:
        async with http.get(f"{own_system.base_url}/health") as answer:
            assert "Connection" not in answer.headers
        form = aiohttp.FormData()
        form.add_field("video", body(), filename="clip.mp4", content_type="video/mp4")
        upload = asyncio.create_task(http.post(f"{own_system.base_url}/videos", data=form))

        async def refuses() -> bool:
            # Every answer of a draining gateway ends its connection; then it listens no more.
            try:
                async with http.get(f"{own_system.base_url}/ready") as answer:
                    # An answer that was "ready" when the order came may still end its connection.
                    assert answer.status == 200 or answer.headers.get("Connection") == "close"
                    return False
            except aiohttp.ClientConnectionError:
                return True

        stopping = asyncio.create_task(gateway.process.stop(30))
        await until(refuses, 15)
        told.set()
        answer = await upload
        assert answer.status == 201, await answer.text()
        await stopping
        assert gateway.process.returncode == 0


async def connect_narrow(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection of which this side takes no more than it reads."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=narrow, limit=4096)


@pytest.mark.parametrize("size", [2**16, 2**23], ids=["in the kernel", "not even written"])
async def test_an_answer_goes_out_whole_after_its_handler_ended(size: int) -> None:
    idle, answered = IdleConnections(60, 60), asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        idle.request_began(request.protocol)
        idle.request_ended(request.protocol)
        answered.set()
        return web.Response(body=bytes(size))

    app = web.Application()
    app.router.add_get("/", answer)
    runner = Runner(app, unread_bytes=2**30, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await connect_narrow(runner.addresses[0][1])
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await answered.wait()
    draining = asyncio.create_task(drain(runner, idle, Readiness({}), Endless(), notice_seconds=0, drain_seconds=30))
    assert not (await asyncio.wait([draining], timeout=0.5))[0], "nobody has read it yet"
    await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(size) == bytes(size)
    await asyncio.wait_for(draining, 20)
    writer.close()


def in_the_kernel(writer: asyncio.StreamWriter) -> int:
    """Bytes that were sent to this connection and not read: on its way, and at its end."""
    here, there = (writer.get_extra_info(name)[1] for name in ("sockname", "peername"))
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    queues = {tuple(int(end.rpartition(":")[2], 16) for end in row[1:3]): row[4].split(":") for row in rows}
    return int(queues[there, here][0], 16) + int(queues[here, there][1], 16)


async def test_a_slow_viewer_gets_the_last_bytes_of_a_range(own_system: RunningSystem) -> None:
    """The handler ends with a tail that the kernel has no room for: it would go with the process."""
    gateway = own_system.process("gateway")
    data = mp4_of(8 * 2**20)
    async with aiohttp.ClientSession() as http:
        form = aiohttp.FormData()
        form.add_field("video", data, filename="clip.mp4", content_type="video/mp4")
        async with http.post(f"{own_system.base_url}/videos", data=form) as answer:
            video_id = (await answer.json())["id"]

    async def view(last: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await connect_narrow(int(own_system.base_url.rpartition(":")[2]))
        ask = f"GET /videos/{video_id}/stream HTTP/1.1\r\nHost: x\r\nRange: bytes=0-{last}\r\n\r\n"
        writer.write(ask.encode())
        return reader, writer

    _, writer = await view(len(data) - 1)
    seen, since = [0], time.monotonic()
    async with aiohttp.ClientSession() as http:

        async def is_full() -> bool:
            nonlocal since
            # Another viewer gets what it asks for: nobody rests who would send more.
            at = len(seen) * 2**16 % len(data)
            some = {"Range": f"bytes={at}-{at + 9}"}
            async with http.get(f"{own_system.base_url}/videos/{video_id}/stream", headers=some) as answer:
                assert answer.status == 206
            seen.append(in_the_kernel(writer))
            if seen[-1] != seen[-2]:
                since = time.monotonic()
            # For half a second, and not for many looks: of those each is a request, a second where a machine is busy.
            return seen[-1] > 100_000 and len(set(seen[-5:])) == 1 and time.monotonic() - since > 0.5

        await until(is_full)
    writer.transport.abort()
    size = seen[-1] + 30_000
    reader, writer = await view(size - 1)
    assert b" 206 " in await reader.readuntil(b"\r\n\r\n")
    gateway.process.signal(signal.SIGTERM)
    ended = asyncio.create_task(gateway.process.wait())
    assert not (await asyncio.wait([ended], timeout=2))[0], "nobody has read it yet"
    assert await reader.readexactly(size) == data[:size]
    assert await asyncio.wait_for(ended, 20) == 0
    writer.close()
