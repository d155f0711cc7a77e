"""Outputs on two real S3 servers."""

from collections.abc import AsyncIterator

import pytest

from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.ffmpeg.outputs import Outputs
from tests.support.servers import S3Server


@pytest.fixture
async def objects(s3_server: S3Server) -> AsyncIterator[S3Objects]:
    async with S3Objects.open(s3_server.settings) as found:
        yield found


@pytest.fixture
async def outputs(s3_server: S3Server, objects: S3Objects) -> AsyncIterator[Outputs]:
    async with S3Bytes.open(s3_server.settings) as data:
        yield Outputs(objects, data)
