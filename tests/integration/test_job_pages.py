"""Pages of jobs: of long commands, as they go over the wire, and whose they are; what is done again; and watching."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from reelway.v1 import ffmpeg_pb2

from services.common import tasks
from services.common.caller import Caller, set_caller
from services.common.channel import MESSAGE_LIMIT
from services.common.error_catalog import ErrorReason
from services.common.redis_client import connect
from services.common.settings import RedisSettings
from services.ffmpeg.addresses import AddressPolicy
from services.ffmpeg.commands import Commands
from services.ffmpeg.isolation import Isolation, Mode, SelfTest
from services.ffmpeg.job import NewJob
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.job_state import JobKind, Priority
from services.ffmpeg.jobs import Jobs
from services.ffmpeg.limits import Limits
from services.ffmpeg.queue_events import QueueEvents
from services.ffmpeg.redis_job_store import RedisJobStore
from services.ffmpeg.sandbox import Layers, Sandbox
from services.ffmpeg.servicer import FfmpegServicer
from tests.support.journal_client import refusal

# Thirty-two presigned URLs.
SPEC = {
    "command": "",
    "input_files": {f"in_{number}": "https://example.com/" + "x" * 4000 for number in range(32)},
    "output_files": {"out_1": "a.mp4"},
}


COMMAND = {
    "command": "-i in_1 out_1",
    "input_files": {"in_1": "https://example.com/a.mp4"},
    "output_files": {"out_1": "a.mp4"},
}
CAGED = Isolation(
    Mode.BEST_EFFORT, Sandbox("", "", Layers(0, False)), SelfTest({"works_inside": True}), Limits(), "", ()
)


def jobs_of(store: RedisJobStore, isolation: Isolation | None = CAGED) -> Jobs:
    return Jobs(store, QueueEvents(store), Commands(Limits(), AddressPolicy(), isolation))


@pytest.fixture
async def store(clean_redis: str) -> AsyncIterator[RedisJobStore]:
    async with connect(RedisSettings(redis_url=clean_redis)) as client:
        yield RedisJobStore(client, JobPolicy())


async def test_a_page_fits_into_a_message_however_long_its_commands_are(store: RedisJobStore) -> None:
    ids = [(await store.register(NewJob(str(uuid.uuid4()), JobKind.COMMAND, "anna", SPEC)))[0].id for _ in range(40)]
    anything: Any = None
    servicer = FfmpegServicer(jobs_of(store), anything, None, url_seconds=1)
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


def new(owner: str, **fields: Any) -> NewJob:
    return NewJob(str(uuid.uuid4()), JobKind.COMMAND, owner, fields.pop("spec", COMMAND), **fields)


async def test_nobody_s_list_is_empty_whatever_nobody_owns(store: RedisJobStore) -> None:
    """Without a user everybody is nobody: they would see each other's commands, and the addresses in them."""
    jobs = jobs_of(store)
    job, _ = await store.register(new(""))
    assert await jobs.page("", 0, "") == ([], "")
    assert (await jobs.get("", job.id)).id == job.id


async def test_a_page_has_at_most_a_hundred(store: RedisJobStore) -> None:
    jobs = jobs_of(store)
    ids = [(await store.register(new("anna")))[0].id for _ in range(101)]
    page, token = await jobs.page("anna", 100, "")
    rest, last = await jobs.page("anna", 100, token)
    assert sorted(job.id for job in [*page, *rest]) == sorted(ids)
    assert (len(page), len(rest), last) == (100, 1, "")
    for size in (-1, 101):
        assert await refusal(jobs.page("anna", size, "")) is ErrorReason.INVALID_REQUEST


async def test_a_retry_is_the_same_work_and_another_request(store: RedisJobStore) -> None:
    jobs = jobs_of(store)
    first, _ = await store.register(new("anna", priority=Priority.BULK, idempotency_key="once"))
    await jobs.cancel("anna", first.id)
    again = await jobs.retry("anna", first.id, "again")
    assert (again.spec, again.priority, again.retry_of) == (first.spec, Priority.BULK, first.id)
    assert await jobs.retry("anna", first.id, "again") == again
    # A key of the first request, or of another's retry, would answer with that one.
    assert await refusal(jobs.retry("anna", first.id, "once")) is ErrorReason.INVALID_REQUEST
    await jobs.cancel("anna", again.id)
    assert await refusal(jobs.retry("anna", again.id, "again")) is ErrorReason.INVALID_REQUEST
    for user in ("boris", ""):
        assert await refusal(jobs.retry(user, first.id, "mine")) is ErrorReason.TASK_NOT_FOUND


@pytest.mark.parametrize(
    ("changed", "isolation", "reason"),
    [
        ({"command": "-f lavfi -i in_1 out_1"}, CAGED, ErrorReason.COMMAND_REFUSED),
        ({"input_files": {"in_1": "http://127.0.0.1/"}}, CAGED, ErrorReason.INPUT_REFUSED),
        ({}, None, ErrorReason.ISOLATION_UNAVAILABLE),
    ],
)
async def test_a_retry_is_judged_as_what_is_new(
    store: RedisJobStore, changed: dict[str, Any], isolation: Isolation | None, reason: ErrorReason
) -> None:
    jobs = jobs_of(store, isolation)
    taken, _ = await store.register(new("anna", spec={**COMMAND, **changed}))
    await jobs.cancel("anna", taken.id)
    assert await refusal(jobs.retry("anna", taken.id, "again")) is reason


async def test_a_watcher_hears_of_a_task_that_does_not_change(
    store: RedisJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every 15 seconds, says the contract: the answer must have been made by then, and have arrived."""
    waits: list[float] = []

    async def until(_: asyncio.Event, seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(tasks, "until", until)
    job, _ = await store.register(new("anna"))
    watching = jobs_of(store).watch("anna", job.id)
    assert [(await anext(watching)).id for _ in range(2)] == [job.id] * 2
    assert len(waits) == 1
    assert waits[0] <= 10
