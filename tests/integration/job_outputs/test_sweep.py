"""What is left of a job's outputs is swept, on real S3 servers: at once, or in time."""

import asyncio
import dataclasses
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import Lease
from services.common.redis_client import connect
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.common.settings import RedisSettings
from services.common.task_failure import TaskFailure
from services.ffmpeg.job import JobFault, NewJob
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.job_state import JobKind
from services.ffmpeg.outputs import Outputs, key_of
from services.ffmpeg.redis_job_store import RedisJobStore
from services.ffmpeg.sweeper import Sweeper
from tests.integration.job_outputs.rig import Notes, left, output
from tests.support.http_server import serving
from tests.support.servers import S3Server


async def test_a_store_without_lifecycle_rules_is_swept_all_the_same(juicefs_s3: S3Server) -> None:
    settings = juicefs_s3.settings
    async with S3Objects.open(settings) as objects, S3Bytes.open(settings) as data:
        with capture_logs() as lines:
            await Outputs(objects, data).ensure_expiry(15)
    assert [line["event"] for line in lines] == ["the store takes no lifecycle rule"]


async def test_a_store_that_refuses_the_rule_to_expire_outputs_is_swept_all_the_same(
    clean_redis: str, moto_s3: S3Server
) -> None:
    """Some want a Content-MD5, which the SDK sends no more; others have rules of another form."""

    async def refuse(request: web.Request) -> web.Response:
        assert request.method == "GET"
        return web.Response(status=400, text="<Error><Code>MissingContentMD5</Code></Error>")

    clock = Clock()
    async with (
        serving(refuse) as port,
        connect(RedisSettings(redis_url=clean_redis)) as client,
        S3Objects.open(dataclasses.replace(moto_s3, endpoint_url=f"http://127.0.0.1:{port}").settings) as refusing,
        S3Objects.open(moto_s3.settings) as objects,
        S3Bytes.open(moto_s3.settings) as data,
    ):
        objects.ensure_expiry = refusing.ensure_expiry  # type: ignore[method-assign]
        key = key_of("gone", "a.mp4")
        await objects.put(key, b"a", "video/mp4")
        store, lease = RedisJobStore(client, JobPolicy()), Lease(client, "{ff}:sweep", 60)
        clock.ahead = timedelta(days=8)
        await Sweeper(store, Outputs(objects, data), lease, clock, timedelta(days=7)).sweep()
        assert await objects.head(key) is None


class Clock:
    """Turned by hand."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def seconds(self) -> float:
        return self.now().timestamp()


async def test_debris_is_removed_some_at_a_time(
    clean_redis: str, outputs: Outputs, objects: S3Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each job is some requests of the store: one by one, thousands that were cancelled would keep it for an hour."""
    remove, together = outputs.remove, asyncio.Barrier(2)

    async def not_alone(job_id: str, uploads: Mapping[str, str]) -> None:
        await together.wait()
        await remove(job_id, uploads)

    monkeypatch.setattr(outputs, "remove", not_alone)
    async with connect(RedisSettings(redis_url=clean_redis)) as client, asyncio.timeout(30):
        store = RedisJobStore(client, JobPolicy())
        for number in range(4):
            job, _ = await store.register(NewJob(str(uuid.uuid4()), JobKind.COMMAND, "anna", {}))
            lease = await store.claim("w", str(number), [JobKind.COMMAND])
            assert lease is not None
            begun = await objects.create_multipart(key_of(job.id, "a.mp4"), "video/mp4")
            await store.begin_upload(lease, begun, key_of(job.id, "a.mp4"))
            await store.fail(lease, JobFault(TaskFailure.FFMPEG_FAILED, "x"))
        await Sweeper(store, outputs, Lease(client, "{ff}:sweep", 60), Clock(), timedelta(days=8)).sweep()
        assert [job_id async for job_id in store.debris()] == []


async def test_the_sweeper_removes_debris_at_once_and_records_and_outputs_in_time(
    clean_redis: str, outputs: Outputs, objects: S3Objects, tmp_path: Path
) -> None:
    clock = Clock()
    async with connect(RedisSettings(redis_url=clean_redis)) as client:
        store = RedisJobStore(client, JobPolicy(keep_completed_seconds=86400, keep_failed_seconds=2 * 86400))
        sweeper = Sweeper(store, outputs, Lease(client, "{ff}:sweep", 60), clock, timedelta(days=8))
        ids = {}
        for end in ("completed", "failed"):
            job, _ = await store.register(NewJob(str(uuid.uuid4()), JobKind.COMMAND, "anna", {}))
            lease = await store.claim("w", end, [JobKind.COMMAND])
            assert lease is not None
            notes = Notes()
            await outputs.publish(job.id, [output(tmp_path, "a.mp4", b"a")], notes)
            for upload_id, key in notes.uploads.items():
                await store.begin_upload(lease, upload_id, key)
            if end == "completed":
                await store.complete(lease, {})
            else:
                begun = await objects.create_multipart(key_of(job.id, "b.mp4"), "video/mp4")
                await store.begin_upload(lease, begun, key_of(job.id, "b.mp4"))
                await store.fail(lease, JobFault(TaskFailure.FFMPEG_FAILED, "x"))
            ids[end] = job.id

        await sweeper.sweep()
        assert await left(objects, ids["failed"]) == ([], [])
        assert await left(objects, ids["completed"]) == ([key_of(ids["completed"], "a.mp4")], [])
        assert [job_id async for job_id in store.debris()] == []

        clock.ahead = timedelta(days=1, hours=1)
        await sweeper.forget()
        assert await store.get(ids["completed"]) is not None, "Redis' clock counts"
        for job_id in ids.values():
            await client.zincrby("{ff}:finished", -clock.ahead.total_seconds() * 1000, job_id)
        await sweeper.forget()
        assert await store.get(ids["completed"]) is None, "kept for one day"
        assert await store.get(ids["failed"]) is not None, "kept for two"
        await sweeper.sweep()
        assert (await left(objects, ids["completed"]))[0], "its URL may be signed for seven days more"

        await objects.create_multipart(key_of("gone", "c.mp4"), "video/mp4")
        other = f"videos/{uuid.uuid4()}.mp4"
        await objects.put(other, b"a video", "video/mp4")
        begun = await objects.create_multipart(other, "video/mp4")
        clock.ahead = timedelta(days=8, hours=1)
        await sweeper.sweep()
        assert await left(objects, ids["completed"]) == ([], [])
        assert await left(objects, "gone") == ([], [])
        assert await objects.get(other) == b"a video", "what is no output is somebody else's"
        assert begun in [found.upload_id async for found in objects.list_multiparts(other)]
        await objects.abort_multipart(other, begun)
        await objects.delete(other)


async def test_an_upload_that_is_under_way_is_not_swept(juicefs_s3: S3Server) -> None:
    """moto says of each that it began in 2010."""
    async with S3Objects.open(juicefs_s3.settings) as objects, S3Bytes.open(juicefs_s3.settings) as data:
        outputs, key, now = Outputs(objects, data), key_of("under way", "a.mp4"), datetime.now(UTC)
        await objects.create_multipart(key, "video/mp4")
        await outputs.abort_older(now - timedelta(minutes=1))
        assert await left(objects, "under way") == ([], [key])
        assert await outputs.abort_older(now + timedelta(minutes=1)) > 0
        assert await left(objects, "under way") == ([], [])


async def test_a_sweep_has_the_store_expire_outputs_and_keeps_its_other_rules(
    clean_redis: str, moto_s3: S3Server
) -> None:
    settings, clock = moto_s3.settings, Clock()
    async with (
        connect(RedisSettings(redis_url=clean_redis)) as client,
        S3Objects.open(settings) as objects,
        S3Bytes.open(settings) as data,
    ):
        await objects.ensure_expiry("mine", "other/", 3)
        store, lease = RedisJobStore(client, JobPolicy()), Lease(client, "{ff}:sweep", 60)
        sweeper = Sweeper(store, Outputs(objects, data), lease, clock, timedelta(days=14))
        await sweeper.sweep()
        # The bucket is looked at once an hour.
        clock.ahead = timedelta(hours=2)
        await sweeper.sweep()
        found = await objects._client.get_bucket_lifecycle_configuration(Bucket=moto_s3.bucket)
    rules = {rule["ID"]: (rule["Filter"]["Prefix"], rule["Expiration"]["Days"]) for rule in found["Rules"]}
    assert rules == {"mine": ("other/", 3), "reelway-ffmpeg-outputs": ("ffmpeg-outputs/", 15)}


class OneStays(Outputs):
    """The store refuses to remove what one job left."""

    stays = ""

    async def remove(self, job_id: str, uploads: Mapping[str, str]) -> None:
        if job_id == self.stays:
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
        await super().remove(job_id, uploads)


async def test_what_cannot_be_removed_keeps_nothing_else(
    clean_redis: str, outputs: Outputs, objects: S3Objects
) -> None:
    clock, partial = Clock(), OneStays(outputs.objects, outputs.data)
    async with connect(RedisSettings(redis_url=clean_redis)) as client:
        store = RedisJobStore(client, JobPolicy())
        sweeper = Sweeper(store, partial, Lease(client, "{ff}:sweep", 60), clock, timedelta(days=8))
        ids = []
        for number in range(3):
            job, _ = await store.register(NewJob(str(uuid.uuid4()), JobKind.COMMAND, "anna", {}))
            lease = await store.claim("w", str(number), [JobKind.COMMAND])
            assert lease is not None
            key = key_of(job.id, "a.mp4")
            await store.begin_upload(lease, await objects.create_multipart(key, "video/mp4"), key)
            await store.fail(lease, JobFault(TaskFailure.FFMPEG_FAILED, "x"))
            ids.append(job.id)
        await objects.create_multipart(key_of("gone", "c.mp4"), "video/mp4")
        # An upload so old has nobody any more.
        clock.ahead = timedelta(days=3)
        partial.stays = ids[0]
        await sweeper.sweep()
        assert [job_id async for job_id in store.debris()] == ids[:1]
        for job_id in (*ids[1:], "gone"):
            assert await left(objects, job_id) == ([], [])
        partial.stays = ""
        await sweeper.sweep()
        assert [job_id async for job_id in store.debris()] == []
