"""Each process is replaced while clients work: no request fails, no job is lost.

A replacement goes as in Kubernetes: who balances forgets the process (endpoints, during `preStop`), it is told to end,
it drains, another one comes. Here the other one takes the same address, so for a moment there is one less.
"""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from deploy.local.ports import free_port
from deploy.local.replica import Replica
from services.common.channel import open_channel
from tests.support.clips import WEBM, mp4_of
from tests.support.forked import Forked
from tests.support.journal_client import JournalClient
from tests.support.servers import S3Server
from tests.support.system import RunningSystem, start_system
from tests.support.waiting import until

SERVICES = ("catalog", "upload", "stream", "ffmpeg", "worker")
USER = uuid4()

pytestmark = pytest.mark.timeout(400)  # a minute where nobody else wants the processors

# The time between two replacements: longer than the pause between two tries of a client to connect
# (services/common/channel.py), so that everybody has found the new one when the next goes. The manifests give 30 s,
# because there clients find it by DNS.
MIN_READY_SECONDS = 2.5
# More than one window and one part; it goes through every buffer on the way.
LARGE = mp4_of(17 * 2**20)


class Gateways:
    """Two gateways, and which of them new connections may go to."""

    def __init__(self, replicas: list[Replica]) -> None:
        self.replicas = replicas
        self.endpoints = list(replicas)
        self._next = 0

    @property
    def url(self) -> str:
        """Of the next one."""
        self._next += 1
        return f"http://{self.endpoints[self._next % len(self.endpoints)].listen}"


class Clients:
    """Work of every kind, each piece checked to its last byte; the first failure of a piece ends the test."""

    def __init__(self, system: RunningSystem, gateways: Gateways, http: aiohttp.ClientSession, video: str) -> None:
        self._system, self._gateways, self._http, self._video = system, gateways, http, video
        self._headers = system.authorization(USER)
        self.done: Counter[str] = Counter()
        self.tasks: list[str] = []
        self.enough = asyncio.Event()

    async def upload(self) -> None:
        """A file in one go."""
        data = LARGE[: 2**20] + self.done["upload"].to_bytes(4)
        await self._watch(await self._post(data), data)
        # Each upload is probed by a worker, too.
        await asyncio.sleep(0.3)

    async def slow_upload(self) -> None:
        """A file that takes longer than a process is given notice."""
        data = LARGE[:300_000] + self.done["slow_upload"].to_bytes(4)

        async def drip() -> AsyncIterator[bytes]:
            for start in range(0, len(data), 50_000):
                yield data[start : start + 50_000]
                await asyncio.sleep(0.2)

        await self._watch(await self._post(drip()), data)

    async def download(self) -> None:
        """All of a file of several windows."""
        await self._watch(self._video, LARGE)

    async def seek(self) -> None:
        """A range, as a player asks for it."""
        start = self.done["seek"] * 7919 * 97 % (len(LARGE) - 100_000)
        headers = {**self._headers, "Range": f"bytes={start}-{start + 99_999}"}
        async with self._http.get(f"{self._gateways.url}/videos/{self._video}/stream", headers=headers) as answer:
            assert answer.status == 206, await answer.text()
            assert await answer.read() == LARGE[start : start + 100_000]

    async def append(self) -> None:
        """A recording: chunks to its journal over gRPC, read while it grows, sealed."""
        async with (
            open_channel(self._target("upload")) as upload,
            open_channel(self._target("stream")) as stream,
            open_channel(self._target("catalog")) as catalog,
        ):
            client = JournalClient(upload, stream, catalog, str(USER))
            video_id = (await client.create(title="recording", file_name="a.webm")).video_id
            whole = b""
            for number in range(20):
                chunk = (WEBM if not whole else b"") + bytes([number]) * 20_000
                answer = await client.append(video_id, chunk, expected_offset_bytes=len(whole))
                whole += chunk
                assert answer.size_bytes == len(whole)
                self.done["chunk"] += 1
            assert await client.read(video_id, 0, len(whole)) == whole
            assert (await client.seal(video_id)).size_bytes == len(whole)

    async def task(self) -> None:
        """An ffmpeg command on a video of ours; whether it ends well is looked at in the end."""
        body = {
            "ffmpeg_command": "-i in_1 -c copy -t 0.2 out_1",
            "input_files": {"in_1": f"video://{self.clip}"},
            "output_files": {"out_1": "out.mp4"},
        }
        async with self._http.post(f"{self._gateways.url}/ffmpeg/register", json=body, headers=self._headers) as answer:
            assert answer.status == 200, await answer.text()
            self.tasks.append((await answer.json())["task_id"])
        await self._status(self.tasks[-1])
        # More of them than two workers on two cores keep up with would only make the end longer.
        await asyncio.sleep(0.5)

    clip = ""

    async def keep_clip(self, data: bytes) -> None:
        """The input of the tasks."""
        self.clip = await self._post(data)

    async def unfinished(self) -> list[str]:
        """The tasks that run or wait; one that failed ends the test."""
        left = []
        for task in self.tasks:
            status = await self._status(task)
            assert status["status"] in ("pending", "running", "completed"), status
            if status["status"] != "completed":
                left.append(task)
        return left

    async def _status(self, task: str) -> dict[str, str]:
        async with self._http.get(f"{self._gateways.url}/ffmpeg/status/{task}", headers=self._headers) as answer:
            assert answer.status == 200, await answer.text()
            status: dict[str, str] = await answer.json()
            return status

    async def _post(self, data: bytes | AsyncIterator[bytes]) -> str:
        form = aiohttp.FormData()
        form.add_field("video", data, filename="clip.mp4", content_type="video/mp4")
        async with self._http.post(f"{self._gateways.url}/videos", data=form, headers=self._headers) as answer:
            assert answer.status == 201, await answer.text()
            return str(json.loads(await answer.text())["id"])

    async def _watch(self, video: str, data: bytes) -> None:
        async with self._http.get(f"{self._gateways.url}/videos/{video}/stream", headers=self._headers) as answer:
            assert answer.status == 200, await answer.text()
            assert await answer.read() == data

    def _target(self, service: str) -> str:
        listens = [one.listen for one in self._system.processes if one.service.name == service]
        return ",".join(listens)

    async def repeat(self, work: Callable[[], Awaitable[None]]) -> None:
        """Again and again until it is enough; what was begun is brought to its end."""
        while not self.enough.is_set():
            await work()
            self.done[work.__name__] += 1
            # Requests at every moment of a restart, and processors left to restart with.
            await asyncio.sleep(0.3)


@pytest.fixture
async def system(juicefs_s3: S3Server, tmp_path: Path) -> AsyncIterator[RunningSystem]:
    """Two of each, draining as they do outside of tests."""
    env = {"DRAIN_NOTICE_SECONDS": "0.5"}
    async with start_system(
        tmp_path, env=env, s3=juicefs_s3, catalog=2, upload=2, stream=2, ffmpeg=2, worker=2
    ) as running:
        yield running


@pytest.fixture
async def gateways(system: RunningSystem, tmp_path: Path) -> AsyncIterator[Gateways]:
    """The system's gateway and a second one."""
    first = system.process("gateway")
    port = free_port()
    env = {**first.env, "PORT": str(port), "METRICS_LISTEN": ""}
    log = tmp_path / "gateway-2.log"
    second = Replica(
        first.service, "gateway-2", listen=f"127.0.0.1:{port}", env=env, output=log, stop_seconds=20, launch=Forked
    )
    await second.start()
    yield Gateways([first, second])
    await second.stop()


async def _replace(replica: Replica) -> None:
    # Its drain has a limit of its own (5 s here); a machine with much to do may take longer to come to it.
    await replica.process.stop(40)
    assert replica.process.returncode == 0, f"{replica.name} did not end in order: {replica.process.returncode}"
    await replica.start()
    await asyncio.sleep(MIN_READY_SECONDS)


async def test_no_request_fails_and_no_job_is_lost(system: RunningSystem, gateways: Gateways, mp4: bytes) -> None:
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as http, contextlib.AsyncExitStack() as stack:
        clients = Clients(system, gateways, http, "")
        clients._video = await clients._post(LARGE)
        await clients.keep_clip(mp4)
        kinds = (clients.upload, clients.slow_upload, clients.download, clients.seek, clients.append, clients.task)
        load = await stack.enter_async_context(asyncio.TaskGroup())
        for kind in kinds:
            load.create_task(clients.repeat(kind))
        # One replica of every service, then the other: at no time is there more than one of a kind away.
        for number in (0, 1):
            first_or_second = [
                [one for one in system.processes if one.service.name == service][number] for service in SERVICES
            ]
            await asyncio.gather(*map(_replace, first_or_second))
        for gateway in gateways.replicas:
            gateways.endpoints.remove(gateway)
            await _replace(gateway)
            gateways.endpoints.append(gateway)
        clients.enough.set()
    async with aiohttp.ClientSession(timeout=timeout) as http:
        clients._http = http

        async def all_done() -> bool:
            return not await clients.unfinished()

        await until(all_done, 120)
    for kind in kinds:
        assert clients.done[kind.__name__] >= 3, clients.done
    assert len(clients.tasks) >= 10
