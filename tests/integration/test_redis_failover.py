"""What Redis refuses for the moment is a store that is away, not a defect of ours: on a real server."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio as redis
from reelway.v1 import media_pb2

from deploy.local.embedded import EmbeddedRedis
from services.catalog.library_store import LibraryStore
from services.catalog.redis_video_store import RedisVideoStore
from services.common import redis_client
from services.common.clock import SystemClock
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import Lease
from services.common.settings import RedisSettings
from tests.support.chaos_proxy import chaos_proxy
from tests.support.foundation import taken_lease

DEMOTED = ("REPLICAOF", "127.0.0.1", "1")


@pytest.fixture
async def own_redis(tmp_path: Path) -> AsyncIterator[redis.Redis]:
    """One whose configuration is the test's."""
    server = EmbeddedRedis(tmp_path)
    await server.start()
    try:
        async with redis_client.connect(RedisSettings(redis_url=server.url), text=False) as client:
            yield client
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("refusing", "word"),
    [
        # As the former primary after a failover; full; without the replicas that it must have.
        (DEMOTED, "read only"),
        (("CONFIG", "SET", "maxmemory", "1"), "maxmemory"),
        (("CONFIG", "SET", "min-replicas-to-write", "1"), "NOREPLICAS"),
    ],
)
async def test_a_server_that_takes_no_writes_for_now(
    own_redis: redis.Redis, refusing: tuple[str, ...], word: str
) -> None:
    """The log tells what it says, the client does not."""
    store, video_id = RedisVideoStore(own_redis, SystemClock()), str(uuid.uuid4())
    await store.finish_load(0, 0, await taken_lease(own_redis))
    await own_redis.zadd("due", {video_id: 0})
    await own_redis.execute_command(*refusing)  # type: ignore[no-untyped-call]
    video = media_pb2.Video(video_id=video_id, number=1, version=1, state=media_pb2.VIDEO_STATE_READY)
    # A command, a script, and a pipeline.
    lease, lists = Lease(own_redis, "lease", 10), LibraryStore(own_redis)
    for call in (lease.take(), store.create(video, "m"), lists.claim("due", 1, 2, 10)):
        with pytest.raises(ReelwayError) as refused:
            await call
        assert refused.value.reason is ErrorReason.STORE_UNAVAILABLE
        assert word in str(refused.value)
        assert word not in refused.value.message


async def test_after_a_failover_the_new_primary_is_found(own_redis: redis.Redis, tmp_path: Path) -> None:
    """Its address stays, and the former one keeps the connections that it has: they must not be held on to."""
    successor = EmbeddedRedis(tmp_path / "successor")
    await successor.start()
    former = own_redis.connection_pool.connection_kwargs
    try:
        async with chaos_proxy(f"{former['host']}:{former['port']}") as address:
            url = address.url.replace("http://", "redis://")
            async with redis_client.connect(RedisSettings(redis_url=url), text=False) as client:
                store, lease, lists = (
                    RedisVideoStore(client, SystemClock()),
                    Lease(client, "l", 10),
                    LibraryStore(client),
                )
                await store.finish_load(0, 0, await taken_lease(client))
                address.turn_to(successor.url)
                async with redis.Redis.from_url(successor.url) as primary:
                    await primary.set("{catalog}:index:3", "1")
                    await primary.zadd("due", {"video": 0})
                    await own_redis.execute_command(*DEMOTED)  # type: ignore[no-untyped-call]
                    assert await lease.take()
                    assert await store.next_number() == 1
                    assert await lists.claim("due", 1, 2, 10) == ["video"]
                    assert await primary.exists("l")
    finally:
        await successor.stop()
