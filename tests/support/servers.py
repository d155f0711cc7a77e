"""The real servers that tests run on: Redis, and two S3 servers that enforce different rules.

JuiceFS's gateway enforces what is signed (POST policies, expiry); moto's what is stored (EntityTooSmall, If-Match).
"""

import functools
import logging
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Self

import botocore.session
import pytest
import redis.asyncio
from moto.server import ThreadedMotoServer

from deploy.local.embedded import EmbeddedRedis, EmbeddedS3
from services.common.aws_session import LOADER
from services.common.settings import S3Settings


@dataclass(frozen=True)
class S3Server:
    """A running S3 server, and a bucket on it. Buckets are addressed by path."""

    endpoint_url: str
    access_key: str
    secret_key: str
    region: str
    bucket: str

    @classmethod
    def at(cls, endpoint_url: str) -> Self:
        """One for which a test answers, whatever it is asked."""
        return cls(endpoint_url, "abc", "secret", "us-east-1", "bucket")

    @property
    def environment(self) -> dict[str, str]:
        """What a process is given to use it."""
        return {
            "S3_ENDPOINT_URL": self.endpoint_url,
            "S3_BUCKET": self.bucket,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
        }

    @property
    def settings(self) -> S3Settings:
        """As a process would read them."""
        return S3Settings.model_validate(self.environment)

    @property
    def client_arguments(self) -> dict[str, str]:
        """What an SDK is given to use it."""
        return {
            "endpoint_url": self.endpoint_url,
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            "region_name": self.region,
        }

    def with_new_bucket(self) -> "S3Server":
        """The same server with an empty bucket that nobody else has."""
        bucket = f"test-{secrets.token_hex(8)}"
        client = sdk_session().create_client("s3", **self.client_arguments)
        try:
            client.create_bucket(Bucket=bucket)
        finally:
            client.close()
        return replace(self, bucket=bucket)


@functools.cache
def sdk_session() -> botocore.session.Session:
    """Of plain botocore; one for the whole run, which takes longer to make than a bucket."""
    session = botocore.session.get_session()
    session.register_component("data_loader", LOADER)
    return session


@pytest.fixture(scope="session")
async def redis_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The URL of a real redis-server for the whole run."""
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"))
    await server.start()
    # It is never started again: its file, synced with each change, would be for nothing.
    async with redis.asyncio.Redis.from_url(server.url) as client:
        await client.config_set("appendonly", "no")
    yield server.url
    await server.stop()


@pytest.fixture(scope="module")
async def redis_url(redis_server: str) -> str:
    """The URL of the run's Redis, emptied for this module: who was killed in another may hold leases for a minute.

    `clean_redis` is the same one, emptied for a test.
    """
    return await _emptied(redis_server)


@pytest.fixture
async def clean_redis(redis_url: str) -> str:
    """The URL of the run's Redis, with nothing in it."""
    return await _emptied(redis_url)


async def _emptied(redis_url: str) -> str:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.flushall()
    return redis_url


@pytest.fixture(scope="session")
async def juicefs_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[S3Server]:
    """JuiceFS's gateway for the whole run, with no bucket of its own."""
    access_key, secret_key = "test-access-key", secrets.token_hex(16)
    # Small objects take half the time of the default's, which is a database that survives a power cut.
    server = EmbeddedS3(tmp_path_factory.mktemp("juicefs"), access_key, secret_key, metadata="badger://meta")
    with pytest.MonkeyPatch.context() as patch:
        # On several cores it looks for work on all of them: small reads take it 40 % more CPU.
        patch.setenv("GOMAXPROCS", "1")
        await server.start()
    yield S3Server(server.endpoint_url, access_key, secret_key, server.region, bucket="")
    await server.stop()


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    """moto's S3 server for the whole run, with no bucket of its own."""
    # A line for each request, which pytest would keep.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield S3Server(f"http://{host}:{port}", "test-access-key", "test-secret-key", "us-east-1", bucket="")
    server.stop()


@pytest.fixture(scope="module")
def juicefs_s3(juicefs_server: S3Server) -> S3Server:
    """JuiceFS's gateway, with a bucket of this module's own."""
    return juicefs_server.with_new_bucket()


@pytest.fixture(scope="module")
def moto_s3(moto_server: S3Server) -> S3Server:
    """moto's server, with a bucket of this module's own."""
    return moto_server.with_new_bucket()


@pytest.fixture(scope="module", params=["juicefs", "moto"])
def s3_server(request: pytest.FixtureRequest, juicefs_s3: S3Server, moto_s3: S3Server) -> S3Server:
    """Runs the test on both servers, with a bucket of this module's own on each."""
    servers = {"juicefs": juicefs_s3, "moto": moto_s3}
    return servers[request.param]
