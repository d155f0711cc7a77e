"""Memory stays bounded: a gigabyte that comes in, and a hundred viewers who do not read."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.local.process import Process
from deploy.local.replica import Replica
from tests.support.clips import mp4_of
from tests.support.system import RunningSystem
from tests.support.videos_api import VideosApi, more, several, videos_api

MIB = 2**20
UPLOAD_GROWTH = 64 * MIB
"""The service's own bound: parts under way."""
GATEWAY_GROWTH = 32 * MIB
"""A few messages, and what the allocator keeps of them."""
VIEWERS = 100
GROWTH_PER_VIEWER = 5 * MIB
"""Of gateway and stream together."""


def resident(process: Replica) -> int:
    """Bytes of memory that the process has now."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no such process")


class Sampler:
    """The most that each process has had, looked at every 50 ms."""

    def __init__(self, *processes: Replica) -> None:
        self._processes = processes
        self.before = {process.service.name: resident(process) for process in processes}
        self.most = dict(self.before)

    def growth(self, name: str) -> int:
        return self.most[name] - self.before[name]

    async def run(self) -> None:
        while True:
            for process in self._processes:
                name = process.service.name
                self.most[name] = max(self.most[name], resident(process))
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def sampled(*processes: Replica) -> AsyncIterator[Sampler]:
    sampler = Sampler(*processes)
    task = asyncio.create_task(sampler.run())
    try:
        yield sampler
    finally:
        task.cancel()


@pytest.fixture(scope="module")
async def processes(system: RunningSystem) -> AsyncIterator[dict[str, Replica]]:
    """Fresh ones: nothing that went before is in their memory, nor in that of a process they are forked from."""
    async with several(more(system, "upload", Process), more(system, "stream", Process)) as (upload, stream):
        targets = {"UPLOAD_TARGET": upload.listen, "STREAM_TARGET": stream.listen}
        async with more(system, "gateway", Process, BLOCK_CACHE_BYTES="0", **targets) as gateway:
            yield {"upload": upload, "stream": stream, "gateway": gateway}


@pytest.fixture(scope="module")
async def api(processes: dict[str, Replica]) -> AsyncIterator[VideosApi]:
    async with videos_api(f"http://{processes['gateway'].listen}") as client:
        yield client


async def test_the_heap_asks_for_huge_pages_where_programs_may(processes: dict[str, Replica]) -> None:
    left_to_programs = "[madvise]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    for process in processes.values():
        _, _, heap = Path(f"/proc/{process.pid}/smaps").read_text().partition("[heap]\n")
        flags = next(line.split() for line in heap.splitlines() if line.startswith("VmFlags:"))
        # proc_pid_smaps(5): `hg` is madvise(MADV_HUGEPAGE).
        assert ("hg" in flags) == left_to_programs


async def test_a_gigabyte_goes_through_in_bounded_memory(processes: dict[str, Replica], api: VideosApi) -> None:
    piece = mp4_of(4 * MIB)
    count = 256
    opening = b'--b\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'
    closing = b"\r\n--b--\r\n"

    async def form() -> AsyncIterator[bytes]:
        yield opening
        for _ in range(count):
            yield piece
        yield closing

    await api.new_video(piece)  # what is loaded once is no growth
    headers = {
        "Content-Type": "multipart/form-data; boundary=b",
        "Content-Length": str(len(opening) + count * len(piece) + len(closing)),
    }
    async with sampled(processes["upload"], processes["gateway"]) as sampler:
        reply = await api.call("POST", "/videos", headers, form())
    assert reply.status == 201

    assert sampler.growth("upload") <= UPLOAD_GROWTH
    assert sampler.growth("gateway") <= GATEWAY_GROWTH
    head = await api.head(f"/videos/{reply.json['id']}/stream")
    assert head.headers["Content-Length"] == str(count * len(piece))
    last = await api.get(f"/videos/{reply.json['id']}/stream", Range=f"bytes={1000 * MIB + 3}-{1000 * MIB + 999_999}")
    assert hashlib.sha256(last.body).digest() == hashlib.sha256((piece * 2)[3:1_000_000]).digest()


async def test_viewers_who_do_not_read_cost_little(processes: dict[str, Replica], api: VideosApi) -> None:
    data = mp4_of(48 * MIB)
    video_id = await api.new_video(data)
    # Allocators, threads and connections that stay are nobody's in particular.
    for body in await asyncio.gather(*(api.get(f"/videos/{video_id}/stream") for _ in range(6))):
        assert body.body == data
    host, _, port = processes["gateway"].listen.rpartition(":")
    request = f"GET /videos/{video_id}/stream HTTP/1.1\r\nHost: t\r\n\r\n".encode()
    begun: list[asyncio.StreamReader] = []
    writers: list[asyncio.StreamWriter] = []

    async def view() -> None:
        # A reader of 1 byte takes what the answer begins with, and then stops the transport.
        reader, writer = await asyncio.open_connection(host, int(port), limit=1)
        writer.write(request)
        assert await reader.read(1) == b"H"
        begun.append(reader)
        writers.append(writer)

    async with sampled(processes["stream"], processes["gateway"]) as sampler:
        await asyncio.gather(*(view() for _ in range(VIEWERS)))
        await _settled(sampler)
        last = await api.get(f"/videos/{video_id}/stream", Range="bytes=30000000-30999999")
        assert last.body == data[30_000_000:31_000_000], "the others are served as ever"
    for writer in writers:
        writer.transport.abort()
    growth = sampler.growth("stream") + sampler.growth("gateway")

    assert growth <= VIEWERS * GROWTH_PER_VIEWER


async def _settled(sampler: Sampler) -> None:
    """Returns once nothing has grown by as much as a megabyte for a second."""
    calm = 0
    while calm < 20:
        before = dict(sampler.most)
        await asyncio.sleep(0.05)
        grown = any(sampler.most[name] - before[name] > MIB for name in before)
        calm = 0 if grown else calm + 1
