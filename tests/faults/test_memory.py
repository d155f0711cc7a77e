"""Memory stays bounded: a gigabyte that comes in, and a hundred viewers who do not read."""

import asyncio
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


def memory(process: Replica, field: str) -> int:
    """Bytes that the kernel counts for the process: VmRSS, what it has now; VmHWM, the most that it has had."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no such process")


class Growth:
    """How much more memory than at first each process has ever had since; no sample can miss it."""

    def __init__(self, processes: dict[str, Replica]) -> None:
        self._processes = processes
        for process in processes.values():
            # proc_pid_clear_refs(5): the peak is the present again.
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")
        self._before = {name: memory(process, "VmRSS") for name, process in processes.items()}

    def now(self) -> dict[str, int]:
        return {name: memory(process, "VmHWM") - self._before[name] for name, process in self._processes.items()}

    def told(self) -> dict[str, int]:
        """The same, for whoever reads the output of a test that fails, too."""
        found = self.now()
        print(*(f"{name} grew by {grown / MIB:.1f} MiB" for name, grown in found.items()), sep=", ")  # noqa: T201
        return found


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
    growth = Growth(processes)
    reply = await api.call("POST", "/videos", headers, form())
    assert reply.status == 201
    grown = growth.told()
    assert grown["upload"] <= UPLOAD_GROWTH
    assert grown["gateway"] <= GATEWAY_GROWTH
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

    growth = Growth(processes)
    await asyncio.gather(*(view() for _ in range(VIEWERS)))
    await _settled(growth)
    last = await api.get(f"/videos/{video_id}/stream", Range="bytes=30000000-30999999")
    assert last.body == data[30_000_000:31_000_000], "the others are served as ever"
    for writer in writers:
        writer.transport.abort()
    grown = growth.told()
    assert grown["stream"] + grown["gateway"] <= VIEWERS * GROWTH_PER_VIEWER


async def _settled(growth: Growth) -> None:
    """Returns once nothing has grown by as much as a megabyte for a second."""
    calm, before = 0, growth.now()
    while calm < 20:
        await asyncio.sleep(0.05)
        now = growth.now()
        calm = 0 if any(now[name] - before[name] > MIB for name in now) else calm + 1
        before = now
