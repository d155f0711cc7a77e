"""Several gateways of a machine on one port."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from deploy.local.ports import is_free
from tests.support.servers import S3Server
from tests.support.system import RunningSystem, start_system

CONNECTIONS = 64
"""Sixty-four times the same one of two by chance: never."""


@pytest.fixture
async def two(juicefs_s3: S3Server, tmp_path: Path) -> AsyncIterator[RunningSystem]:
    async with start_system(tmp_path, s3=juicefs_s3, gateway=2) as running:
        yield running


async def ask(url: str) -> None:
    """One request on each of many connections."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        for _ in range(CONNECTIONS):
            async with http.get(f"{url}/videos/{'0' * 32}") as answer:
                assert answer.status == 404


def answered(system: RunningSystem, name: str) -> int:
    """How many requests the log of a gateway has."""
    return (system.log_dir / f"{name}.log").read_text().count("/videos/")


async def test_connections_are_spread_and_outlive_a_gateway(two: RunningSystem) -> None:
    first, second = (two.process(name) for name in ("gateway-1", "gateway-2"))
    port = int(two.base_url.rpartition(":")[2])
    assert len({str(port), first.listen.rpartition(":")[2], second.listen.rpartition(":")[2]}) == 3
    await ask(two.base_url)
    counts = [answered(two, name) for name in ("gateway-1", "gateway-2")]
    assert sum(counts) == CONNECTIONS
    assert min(counts) > 0, counts

    await first.kill()
    await ask(two.base_url)
    assert answered(two, "gateway-2") == counts[1] + CONNECTIONS

    await first.start()
    assert await first.is_ready()
    await ask(two.base_url)
    assert answered(two, "gateway-1") > counts[0]


async def test_a_port_that_gateways_share_is_not_free_for_others(two: RunningSystem) -> None:
    port = int(two.base_url.rpartition(":")[2])
    assert not is_free("127.0.0.1", port)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
