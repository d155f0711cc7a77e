"""A gateway that is told to end lets what it accepted come to its end."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.clips import mp4_of
from tests.support.system import RunningSystem, start_system
from tests.support.waiting import until

DATA = mp4_of(400_000)


@pytest.fixture
async def own_system(tmp_path: Path) -> AsyncIterator[RunningSystem]:
    async with start_system(tmp_path, env={"DRAIN_NOTICE_SECONDS": "1", "DRAIN_SECONDS": "20"}) as running:
        yield running


async def test_an_upload_under_way_ends_well_and_connections_are_led_away(own_system: RunningSystem) -> None:
    gateway = own_system.process("gateway")
    told = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield DATA[:200_000]
        # The rest comes when the gateway has stopped accepting.
        await told.wait()
        yield DATA[200_000:]

    async with aiohttp.ClientSession() as http:
        async with http.get(f"{own_system.base_url}/health") as answer:
            assert "Connection" not in answer.headers
        form = aiohttp.FormData()
        form.add_field("video", body(), filename="clip.mp4", content_type="video/mp4")
        upload = asyncio.create_task(http.post(f"{own_system.base_url}/videos", data=form))

        async def refuses() -> bool:
            # Every answer of a draining gateway ends its connection; then it listens no more.
            try:
                async with http.get(f"{own_system.base_url}/ready") as answer:
                    # An answer that was "ready" when the order came may still end its connection.
                    assert answer.status == 200 or answer.headers.get("Connection") == "close"
                    return False
            except aiohttp.ClientConnectionError:
                return True

        stopping = asyncio.create_task(gateway.process.stop(30))
        await until(refuses, 15)
        told.set()
        answer = await upload
        assert answer.status == 201, await answer.text()
        await stopping
        assert gateway.process.returncode == 0
