"""What Redis refuses for the moment is a store that is away, not a defect of ours: on a real server."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio as redis
from redis.exceptions import MovedError, RedisError
from reelway.v1 import media_pb2

from deploy.local.embedded import EmbeddedRedis, find_redis_server
from deploy.local.ports import free_port
from deploy.local.process import Process, inherited
from services.catalog.redis_video_store import RedisVideoStore
from services.common import redis_client
from services.common.clock import SystemClock
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import Lease, LeaseLost
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


@pytest.fixture
async def left_by_a_cluster(tmp_path: Path) -> AsyncIterator[str]:
    """The URL of what a failover leaves behind in a cluster of one shard: a replica, whose primary has all slots."""
    port, me, primary = free_port(), "a" * 40, "b" * 40
    (tmp_path / "nodes.conf").write_text(
        f"{me} 127.0.0.1:{port}@{port} myself,slave {primary} 0 0 1 connected\n"
        f"{primary} 127.0.0.1:1@1 master - 0 0 2 connected 0-16383\nvars currentEpoch 2 lastVoteEpoch 0\n"
    )
    settings = {"port": port, "bind": "127.0.0.1", "dir": tmp_path, "save": "", "maxclients": 3}
    settings |= {"cluster-enabled": "yes", "cluster-port": free_port()}
    command = [find_redis_server(), *(str(word) for name, value in settings.items() for word in (f"--{name}", value))]
    server = Process("redis", command, inherited(LC_ALL="C"), tmp_path / "log")
    async with redis.Redis(port=port) as client:

        async def knows_its_primary() -> bool:
            with contextlib.suppress(RedisError):
                try:
                    await client.get("key")
                except MovedError:
                    return True
            return False

        await server.start_answering(knows_its_primary, 30)
    yield f"redis://127.0.0.1:{port}"
    await server.kill()


async def test_after_a_failover_in_a_cluster_the_new_primary_is_found(
    left_by_a_cluster: str, own_redis: redis.Redis
) -> None:
    """The former one serves nothing, not even what is read, and names the new one by an address that may not lead
    there."""
    url = "redis://{host}:{port}".format(**own_redis.connection_pool.connection_kwargs)
    async with chaos_proxy(left_by_a_cluster) as address:
        there = RedisSettings(redis_url=address.url.replace("http://", "redis://"))
        async with redis_client.connect(there, text=False) as client:
            await client.ping()
            with pytest.raises(ReelwayError, match="MovedError") as refused:
                await RedisVideoStore(client, SystemClock()).exists()
            assert refused.value.reason is ErrorReason.STORE_UNAVAILABLE
            await client.ping()
            address.turn_to(url)
            assert await Lease(client, "lease", 10).take()
            assert await own_redis.exists("lease")


async def test_a_node_of_a_cluster_that_has_no_connection_left_is_away(left_by_a_cluster: str) -> None:
    """It says so in other words than a server that stands alone."""
    async with redis_client.connect(RedisSettings(redis_url=left_by_a_cluster)) as client:
        with pytest.raises(ReelwayError, match="max number of clients") as refused, redis_client.redis_errors():
            await asyncio.gather(*(client.ping() for _ in range(10)))
        assert refused.value.reason is ErrorReason.STORE_UNAVAILABLE


@pytest.mark.parametrize(
    ("refusing", "word"),
    [
        # As the former primary after a failover; with other rights of its user; full; without the replicas that it must
        # have.
        (DEMOTED, "read only"),
        (("ACL", "SETUSER", "default", "-@write"), "permissions"),
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
    lease = Lease(own_redis, "lease", 10)
    for call in (lease.take(), store.create(video, "m"), store.claim("due", 1, 2, 10)):
        with pytest.raises(ReelwayError) as refused:
            await call
        assert refused.value.reason is ErrorReason.STORE_UNAVAILABLE
        assert word in str(refused.value)
        assert word not in refused.value.message


async def test_who_has_a_lease_storms_no_server_that_takes_no_writes(own_redis: redis.Redis) -> None:
    """Not as long as the lease lasts there."""
    lease = Lease(own_redis, "lease", 0.5)
    assert await lease.take()
    await own_redis.execute_command(*DEMOTED)  # type: ignore[no-untyped-call]
    before = (await own_redis.info("stats"))["total_connections_received"]
    with pytest.raises(LeaseLost):
        await lease.guard(lambda pipe: pipe.set("key", "value"))
    assert (await own_redis.info("stats"))["total_connections_received"] - before <= 12


async def test_after_a_failover_the_new_primary_is_found(own_redis: redis.Redis, tmp_path: Path) -> None:
    """Its address stays, and the former one keeps the connections that it has: they must not be held on to."""
    successor = EmbeddedRedis(tmp_path / "successor")
    await successor.start()
    former = own_redis.connection_pool.connection_kwargs
    try:
        async with chaos_proxy(f"{former['host']}:{former['port']}") as address:
            url = address.url.replace("http://", "redis://")
            async with redis_client.connect(RedisSettings(redis_url=url), text=False) as client:
                store, lease = RedisVideoStore(client, SystemClock()), Lease(client, "l", 10)
                await store.finish_load(0, 0, await taken_lease(client))
                address.turn_to(successor.url)
                async with redis.Redis.from_url(successor.url) as primary:
                    await primary.set("{catalog}:index:3", "1")
                    await primary.zadd("due", {"video": 0})
                    await own_redis.execute_command(*DEMOTED)  # type: ignore[no-untyped-call]
                    assert await lease.take()
                    assert await store.next_number() == 1
                    assert await store.claim("due", 1, 2, 10) == ["video"]
                    assert await primary.exists("l")
    finally:
        await successor.stop()
