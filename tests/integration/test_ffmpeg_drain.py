"""Whoever follows a task holds no process back that wants to end: the stream ends, and the client comes again."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence

import aiohttp
import grpc
import pytest
from reelway.v1 import ffmpeg_pb2, ffmpeg_pb2_grpc

from deploy.local.replica import Replica
from deploy.local.services import SERVICES, Service
from services.common.channel import open_channel
from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error
from tests.support.servers import S3Server
from tests.support.system import RunningSystem, start_system

# No worker: the task stays as it is.
PARTS: Sequence[Service] = [service for service in SERVICES if service.name != "worker"]
COMMAND = ffmpeg_pb2.CommandWork(command="-f lavfi -i color -t 1 out_1", output_files={"out_1": "a.mp4"})
DRAIN_SECONDS = 25.0


@pytest.fixture
async def system(juicefs_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningSystem]:
    env = {"DRAIN_SECONDS": str(DRAIN_SECONDS), "JOB_QUEUED_PER_OWNER": "1"}
    async with start_system(tmp_path_factory.mktemp("system"), env=env, s3=juicefs_s3, services=PARTS) as running:
        yield running


async def test_followers_hold_neither_front_nor_gateway_in_its_drain(system: RunningSystem) -> None:
    front, gateway = system.process("ffmpeg"), system.process("gateway")
    async with open_channel(front.listen) as channel, aiohttp.ClientSession() as http:
        stub: ffmpeg_pb2_grpc.FfmpegServiceAsyncStub = ffmpeg_pb2_grpc.FfmpegServiceStub(channel)
        task_id = (await stub.RegisterTask(ffmpeg_pb2.RegisterTaskRequest(command=COMMAND))).task.task_id
        await expect_a_full_queue(http, system)
        url = f"{system.base_url}/ffmpeg/events/{task_id}"
        async with http.get(url) as events:
            await anext(line async for line in events.content if line.startswith(b"data:"))
            assert await seconds_to_end(gateway) < DRAIN_SECONDS / 2
            # A whole answer: a browser asks again, and meets the next gateway.
            assert b"id: end" not in await events.content.read()
        watch = stub.WatchTask(ffmpeg_pb2.WatchTaskRequest(task_id=task_id))
        assert (await anext(aiter(watch))).task.state == ffmpeg_pb2.TASK_STATE_PENDING
        stopping = asyncio.create_task(seconds_to_end(front))
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            async for _ in watch:
                pass
        assert from_rpc_error(ended.value).reason is ErrorReason.SERVICE_UNAVAILABLE
        assert await stopping < DRAIN_SECONDS / 2


async def expect_a_full_queue(http: aiohttp.ClientSession, system: RunningSystem) -> None:
    """Who has as many tasks waiting as an owner may have is told to come later; others are not."""
    body = {"ffmpeg_command": COMMAND.command, "input_files": {}, "output_files": {"out_1": "a.mp4"}}
    url = f"{system.base_url}/ffmpeg/register"
    async with http.post(url, json=body) as answer:
        assert answer.status == 429
        assert answer.headers["Retry-After"]
        assert (await answer.json())["detail"] == "1 tasks are waiting already; try again later"
    async with http.post(url, json=body, headers=system.authorization()) as answer:
        assert answer.status == 200


async def seconds_to_end(replica: Replica) -> float:
    started = time.monotonic()
    os.kill(replica.pid, signal.SIGTERM)
    assert await replica.process.wait() == 0
    return time.monotonic() - started
