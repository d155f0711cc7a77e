"""Pages of long commands, as they go over the wire."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from reelway.v1 import ffmpeg_pb2

from services.common.caller import Caller, set_caller
from services.common.channel import MESSAGE_LIMIT
from services.common.redis_client import connect
from services.common.settings import RedisSettings
from services.ffmpeg.addresses import AddressPolicy
from services.ffmpeg.job import NewJob
from services.ffmpeg.job_state import JobKind
from services.ffmpeg.jobs import Jobs
from services.ffmpeg.limits import Limits
from services.ffmpeg.queue_events import QueueEvents
from services.ffmpeg.redis_job_store import JobPolicy, RedisJobStore
from services.ffmpeg.servicer import FfmpegServicer

# Thirty-two signed addresses.
SPEC = {
    "command": "",
    "input_files": {f"in_{number}": "https://example.com/" + "x" * 4000 for number in range(32)},
    "output_files": {"out_1": "a.mp4"},
}


@pytest.fixture
async def store(clean_redis: str) -> AsyncIterator[RedisJobStore]:
    async with connect(RedisSettings(redis_url=clean_redis)) as client:
        yield RedisJobStore(client, JobPolicy())


async def test_a_page_fits_into_a_message_however_long_its_commands_are(store: RedisJobStore) -> None:
    ids = [(await store.register(NewJob(str(uuid.uuid4()), JobKind.COMMAND, "anna", SPEC)))[0].id for _ in range(40)]
    anything: Any = None
    servicer = FfmpegServicer(
        Jobs(store, QueueEvents(store)), anything, None, limits=Limits(), addresses=AddressPolicy(), url_seconds=1
    )
    set_caller(Caller(user="anna"))
    found: list[str] = []
    request = ffmpeg_pb2.ListTasksRequest(page_size=100)
    while True:
        page = await servicer.ListTasks(request, anything)
        assert page.ByteSize() < MESSAGE_LIMIT
        found += [task.task_id for task in page.tasks]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert sorted(found) == sorted(ids)
