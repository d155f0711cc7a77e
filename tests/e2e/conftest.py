"""A client of the started system's videos, and one that is worth reading in pieces."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from services.common.s3_objects import S3Objects
from tests.support.clips import mp4_of
from tests.support.system import RunningSystem
from tests.support.videos_api import VideosApi, videos_api


@pytest.fixture(scope="module")
async def api(system: RunningSystem) -> AsyncIterator[VideosApi]:
    async with videos_api(system.base_url) as client:
        yield client


@pytest.fixture
async def http(system: RunningSystem) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the started system; its addresses are paths."""
    async with aiohttp.ClientSession(system.base_url) as session:
        yield session


@pytest.fixture(scope="module")
async def store(system: RunningSystem) -> AsyncIterator[S3Objects]:
    async with S3Objects.open(system.s3.settings) as objects:
        yield objects


@pytest.fixture(scope="module")
def film() -> bytes:
    """More than a window of bytes, none like its neighbours."""
    return mp4_of(6 * 2**20 + 12_345, seed=7)


@pytest.fixture(scope="module")
async def film_id(api: VideosApi, film: bytes) -> str:
    return await api.new_video(film)


@pytest.fixture(scope="module")
def path(film_id: str) -> str:
    return f"/videos/{film_id}/stream"
