"""The job store as most of its tests have it, on a real Redis."""

import pytest
import redis.asyncio

from services.ffmpeg.redis_job_store import RedisJobStore
from tests.contract.job_store.rig import POLICY


@pytest.fixture
def store(client: redis.asyncio.Redis) -> RedisJobStore:
    return RedisJobStore(client, POLICY)
