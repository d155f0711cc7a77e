"""Replicas behind a headless Service share the calls of one client, and those that come later get some."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.ports import free_port
from deploy.local.replica import Replica
from deploy.local.services import SERVICES
from services.common.catalog_client import CatalogClient
from services.common.channel import open_channel
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from tests.support.dns_server import headless_names
from tests.support.forked import Forked
from tests.support.servers import S3Server
from tests.support.system import passed_on
from tests.support.waiting import until

CATALOG = next(service for service in SERVICES if service.name == "catalog")
GET_VIDEO = "/reelway.v1.CatalogService/GetVideo"

StartReplica = Callable[[str], contextlib.AbstractAsyncContextManager[Replica]]


@pytest.fixture
def port() -> int:
    """Every pod of a Service listens on the same port; here they differ by their loopback address."""
    return free_port()


@pytest.fixture
def start_replica(tmp_path: Path, port: int, clean_redis: str, juicefs_s3: S3Server) -> StartReplica:
    """Runs a catalog at an address for as long as the context lasts."""

    @contextlib.asynccontextmanager
    async def start(address: str) -> AsyncIterator[Replica]:
        env = {
            **passed_on(),
            **juicefs_s3.environment,
            "REDIS_URL": clean_redis,
            "GRPC_LISTEN": f"{address}:{port}",
            "METRICS_LISTEN": f"{address}:{port + 1}",
            # 300 s outside of tests: how soon a client looks for new replicas.
            "MAX_CONNECTION_AGE_SECONDS": "2",
        }
        log = tmp_path / f"{address}.log"
        replica = Replica(
            CATALOG, address, listen=f"{address}:{port}", env=env, output=log, stop_seconds=20, launch=Forked
        )
        await replica.start()
        try:
            yield replica
        finally:
            await replica.stop()

    return start


async def _calls_of(replica: Replica) -> float:
    host, _, port = replica.listen.rpartition(":")
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{int(port) + 1}/metrics") as answer:
        text = await answer.text()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "reelway_rpc_started_total" and sample.labels["method"] == GET_VIDEO
    )


async def _call(catalog: CatalogClient) -> None:
    with pytest.raises(ReelwayError) as refused:
        await catalog.get(video_id=str(uuid4()))
    # Any other reason would be a call that failed.
    assert refused.value.reason is ErrorReason.VIDEO_NOT_FOUND


async def test_replicas_share_and_new_ones_get_their_share(start_replica: StartReplica, port: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        first = await asyncio.gather(
            *(stack.enter_async_context(start_replica(f"127.0.0.{number}")) for number in (2, 3, 4))
        )
        names = await stack.enter_async_context(headless_names("127.0.0.2", "127.0.0.3", "127.0.0.4"))
        channel = await stack.enter_async_context(open_channel(f"dns://127.0.0.1:{names.port}/catalog:{port}"))
        catalog = CatalogClient(channel)

        async def all_connected() -> bool:
            await _call(catalog)
            return all([await _calls_of(replica) for replica in first])

        await until(all_connected)
        before = [await _calls_of(replica) for replica in first]
        for _ in range(300):
            await _call(catalog)
        shares = [await _calls_of(replica) - old for replica, old in zip(first, before, strict=True)]
        assert sum(shares) >= 300  # a call whose connection was closing is made again
        assert all(80 <= share <= 125 for share in shares), shares

        # A pod comes: no restart, no change at the client.
        new = await stack.enter_async_context(start_replica("127.0.0.5"))
        names.addresses.append("127.0.0.5")

        async def new_one_works() -> bool:
            await _call(catalog)
            return await _calls_of(new) >= 20

        await until(new_one_works, 30)

        # A pod goes, in the order of a deletion: out of DNS, then told to end. No call fails.
        names.addresses.remove("127.0.0.2")
        stopping = asyncio.create_task(first[0].stop())
        while not stopping.done():
            await _call(catalog)
        await stopping
        served = await _calls_of(new)
        for _ in range(90):
            await _call(catalog)
        assert await _calls_of(new) - served >= 20
