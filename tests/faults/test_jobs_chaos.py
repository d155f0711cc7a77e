"""Two hundred real commands and 80 scripted jobs, while workers, front and Redis are killed: each ends once, whole."""

import asyncio
import random
import signal
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from reelway.v1 import ffmpeg_pb2, ffmpeg_pb2_grpc

from deploy.local.embedded import EmbeddedRedis
from deploy.local.ports import free_port
from deploy.local.process import Process
from services.common.caller import Caller
from services.common.channel import open_channel
from services.common.error_translator import from_rpc_error
from services.common.errors import ReelwayError
from services.common.redis_client import connect
from services.common.s3_objects import S3Objects
from services.common.settings import RedisSettings
from services.ffmpeg.job import NewJob
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.job_state import JobKind, JobState
from services.ffmpeg.redis_job_store import RedisJobStore
from tests.faults.jobs_rig import Workers, exit_code, gather_states
from tests.support.programs import static
from tests.support.servers import S3Server
from tests.support.waiting import until

SCRIPTED, COMMANDS, SECONDS, KILLS = 80, 200, 240, 15
WORK = ffmpeg_pb2.CommandWork(
    command="-f lavfi -i color=red:s=32x32 -frames:v 1 out_1", output_files={"out_1": "red.gif"}
)
SCRIPT: dict[str, Any] = {"pause": 0.3, "outputs": ["a.mp4", "b.mp4"]}
# A job may be hit more often here than poison's limit allows. The static ffmpeg starts in half the time.
PATIENCE = {
    "FFMPEG_BIN": static(),
    "JOB_LOST_WORKERS": "50",
    "JOB_TRIES": "20",
    "SLOTS_COMMAND": "1",
    "SLOTS_PROBE": "2",
    "JOB_LEASE_SECONDS": "2",
}


@pytest.mark.timeout(SECONDS + 60)
async def test_no_task_is_lost_or_done_twice_in_effect(juicefs_s3: S3Server, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - to run the same again
    rng = random.Random(seed)
    server = EmbeddedRedis(tmp_path / "redis")
    await server.start()
    rig = Workers(server.url, juicefs_s3, tmp_path)
    front_address = f"127.0.0.1:{free_port()}"
    try:
        async with (
            connect(RedisSettings(redis_url=server.url)) as client,
            S3Objects.open(juicefs_s3.settings) as objects,
            open_channel(front_address) as channel,
        ):
            store = RedisJobStore(client, JobPolicy())
            chaos = Chaos(rig, store, server, rng, front_address)
            killing = asyncio.create_task(chaos.run())
            commands, scripted = await asyncio.gather(
                register(ffmpeg_pb2_grpc.FfmpegServiceStub(channel)), register_scripted(store)
            )
            ids = [*commands, *scripted]
            assert len(set(ids)) == COMMANDS + SCRIPTED
            await until(lambda: all_finished(store), SECONDS)
            chaos.enough = True
            await killing
            assert min(chaos.kills[what] for what in ("front", "redis")) >= 1, chaos.kills

            jobs = await gather_states(store, ids)
            assert Counter(job.state for job in jobs.values()) == {JobState.COMPLETED: len(ids)}, rig.log[-5000:]
            assert max(job.attempt for job in jobs.values()) > 1, "no kill hit a running job"
            pictures = [await objects.get(f"ffmpeg-outputs/{job_id}/red.gif") for job_id in commands]
            assert pictures[0], "completed without its output"
            assert set(pictures) == {pictures[0]}, "an output is missing, cut or mixed up"
            for job_id in scripted:
                for name in SCRIPT["outputs"]:
                    assert await objects.get(f"ffmpeg-outputs/{job_id}/{name}") == job_id.encode() * 1000
            stats = await store.stats()
            assert (stats.active, stats.delayed, sum(kind.unfinished for kind in stats.kinds.values())) == (0, 0, 0)

            for worker in chaos.workers:
                worker.signal(signal.SIGTERM)
                assert await exit_code(worker) == 0
            assert ffmpegs_of(rig.work_folder) == []
            # The front's own folder is there as long as it lives.
            left = [path for path in rig.work_folder.glob("*/*") if path.name != "lock"]
            assert left == [], "a work folder is left"
    finally:
        await rig.end()
        await server.stop()


class Chaos:
    """Three workers and a front, killed and started again at random moments."""

    def __init__(
        self, rig: Workers, store: RedisJobStore, server: EmbeddedRedis, rng: random.Random, front_address: str
    ) -> None:
        self._rig, self._store, self._server, self._rng, self._front_address = rig, store, server, rng, front_address
        self.workers: list[Process] = []
        self.kills: Counter[str] = Counter()
        self.enough = False

    async def run(self) -> None:
        """Until it is enough; all workers first, and then one of each other."""
        self.workers = [await self._worker() for _ in range(3)]
        front = await self._start_front()
        await until(self._freeze_busy, SECONDS)
        for worker in self.workers:
            worker.signal(signal.SIGKILL)
        self.workers = [await self._worker() for _ in range(3)]
        # A start takes a worker a while: killed all the time, they would do nothing else where the machine is busy.
        for round_number in range(KILLS):
            pause = asyncio.get_running_loop().time() + self._rng.uniform(2, 3) * (1 if round_number < 2 else 1.5)
            while asyncio.get_running_loop().time() < pause:
                if self.enough:
                    return
                await asyncio.sleep(0.1)
            what = ("redis", "front")[round_number] if round_number < 2 else self._choose()
            self.kills[what] += 1
            if what == "worker":
                victim = self._rng.randrange(len(self.workers))
                self.workers[victim].signal(signal.SIGKILL)
                self.workers[victim] = await self._worker()
            elif what == "front":
                front.signal(signal.SIGKILL)
                await front.wait()
                front = await self._start_front()
            else:
                await self._server.process.kill()
                await asyncio.sleep(self._rng.uniform(0.1, 0.6))
                await self._server.start()

    async def _freeze_busy(self) -> bool:
        """Whether a job is running that can't end any more; else they all go on."""
        for worker in self.workers:
            worker.signal(signal.SIGSTOP)
        if (await self._store.stats()).active:
            return True
        for worker in self.workers:
            worker.signal(signal.SIGCONT)
        return False

    def _choose(self) -> str:
        return self._rng.choices(["worker", "front", "redis"], [6, 1, 2])[0]

    async def _worker(self) -> Process:
        return await self._rig.start("tests.faults.jobs_worker", **PATIENCE)

    async def _start_front(self) -> Process:
        return await self._rig.start("services.ffmpeg", GRPC_LISTEN=self._front_address)


async def register(stub: "ffmpeg_pb2_grpc.FfmpegServiceAsyncStub") -> list[str]:
    """Ids of all commands; a call that gets no answer is made again with its request_id."""
    gate = asyncio.Semaphore(2)

    async def one(request_id: str) -> str:
        request = ffmpeg_pb2.RegisterTaskRequest(command=WORK, request_id=request_id)
        async with gate:
            while True:
                try:
                    answer = await stub.RegisterTask(request, timeout=5, metadata=Caller(user="anna").metadata())
                    return answer.task.task_id
                except Exception as error:
                    assert from_rpc_error(error).kind.http_status >= 500, error  # type: ignore[arg-type]
                    await asyncio.sleep(0.3)

    return await asyncio.gather(*(one(str(uuid.uuid4())) for _ in range(COMMANDS)))


async def register_scripted(store: RedisJobStore) -> list[str]:
    """Ids of the others, straight into the store, a few each moment so that every kill meets some."""
    ids = []
    for number in range(SCRIPTED):
        new = NewJob(str(uuid.uuid4()), JobKind.PROBE, f"owner-{number % 3}", SCRIPT)
        while True:
            try:
                ids.append((await store.register(new))[0].id)
                break
            except ReelwayError:
                await asyncio.sleep(0.3)
        await asyncio.sleep(0.2)
    return ids


async def all_finished(store: RedisJobStore) -> bool:
    try:
        return sum(kind.unfinished for kind in (await store.stats()).kinds.values()) == 0
    except ReelwayError:
        return False


def ffmpegs_of(folder: Path) -> list[str]:
    """Command lines of processes that work in this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found
