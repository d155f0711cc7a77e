"""The file server, and who may fetch from it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from services.ffmpeg.addresses import AddressPolicy
from services.ffmpeg.download import Fetcher
from tests.integration.ffmpeg_download.rig import LIMITS, Server


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    serving = Server()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", serving.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    serving.port = runner.addresses[0][1]
    yield serving
    await runner.cleanup()


@pytest.fixture
async def fetcher(server: Server, tmp_path: Path) -> AsyncIterator[Fetcher]:
    made = Fetcher(AddressPolicy.parse([f"127.0.0.1:{server.port}"]), LIMITS)
    yield made
    await made.close()
    assert [file for file in map(os.path.realpath, Path("/proc/self/fd").iterdir()) if str(tmp_path) in file] == []
