"""What deploy/k8s/README.md says of a shared Redis: a user that may do no more than is needed, another database."""

import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import redis.asyncio as redis
from reelway.v1 import media_pb2

from services.catalog.redis_video_store import LEASES, RedisVideoStore
from services.common.clock import SystemClock
from services.common.lease import Lease
from services.common.redis_client import connect
from services.common.settings import RedisSettings
from services.ffmpeg.job import NewJob
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.job_state import JobKind
from services.ffmpeg.redis_job_store import CHANGED, Holding, RedisJobStore
from services.upload.journal import Chunk, Journal, JournalState, Limits
from services.upload.open_uploads import OpenUpload, OpenUploads
from services.upload.redis_journal_store import RedisJournalStore
from services.upload.signatures import Signatures

README = Path(__file__).parents[2] / "deploy" / "k8s" / "README.md"
PASSWORD = "p@ss/w#rd?:%41é"


@pytest.fixture
async def url(clean_redis: str) -> AsyncIterator[str]:
    """Of that user, in database 3."""
    ((name, rights),) = re.findall(r"^ACL SETUSER (\S+) on >PASSWORD (.+)$", README.read_text(), re.MULTILINE)
    async with redis.Redis.from_url(clean_redis) as admin:
        await admin.execute_command("ACL", "SETUSER", name, "on", f">{PASSWORD}", *rights.split())  # type: ignore[no-untyped-call]
        await admin.acl_log_reset()
        yield f"redis://{name}:{quote(PASSWORD, safe='')}@{urlsplit(clean_redis).netloc}/3"
        assert await admin.acl_log() == []
        await admin.acl_deluser(name)


async def test_it_may_do_what_the_catalog_does(url: str) -> None:
    async with connect(RedisSettings(redis_url=url), text=False) as client:
        store, lease = RedisVideoStore(client, SystemClock()), Lease(client, LEASES + "rebuild", 10)
        assert await lease.take()
        await store.clear(lease)
        await store.finish_load(0, 0, lease)
        video = media_pb2.Video(video_id=str(uuid.uuid4()), number=await store.next_number(), version=1)
        assert await store.create(video, "m") is None
        assert await store.saved(video, "m")
        assert await store.close_index(lease)
        await lease.release()


async def test_it_may_do_what_uploads_do(url: str) -> None:
    async with connect(RedisSettings(redis_url=url)) as client:
        store, journal = RedisJournalStore(client), Journal(str(uuid.uuid4()), "anna", JournalState.OPEN)
        assert await store.enter(journal.video_id, "anna", 1, 1)
        assert await store.create(journal)
        chunk, limits = Chunk.new(journal.video_id, 0, begins_clip=False), Limits(9, 9, 9, 9)
        assert await store.commit(chunk, "anna", limits, now=1, swept=float("1e12"), container=1)
        assert await store.locate(journal.video_id, 0, 1, "", 9)
        await store.drop(journal.video_id, 9)
        register, upload = OpenUploads(client, 0), OpenUpload(journal.video_id, "key", "anna")
        await register.begin(upload)
        assert await register.take_expired() == [upload]
        await register.end(upload)
        await Signatures(client, SystemClock(), per_owner=1, seconds=9).enter(journal.video_id, "anna")


async def test_it_may_do_what_tasks_do(url: str) -> None:
    async with connect(RedisSettings(redis_url=url)) as client:
        store = RedisJobStore(client, JobPolicy())
        events = store.listen(CHANGED)
        assert await anext(events) == ("", "")
        await store.register(NewJob(id="1", kind=JobKind.COMMAND, owner="anna", spec={}))
        lease = await store.claim("worker", "nonce", [JobKind.COMMAND])
        assert lease is not None
        assert await anext(events) == (CHANGED, "1")
        assert await store.renew("worker", [lease]) == [Holding.HELD]
        assert await store.complete(lease, {}) is Holding.HELD
        assert await store.reap() == {}
        assert [debris async for debris in store.debris()] == []
        await store.leave("worker")
