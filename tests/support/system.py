"""The whole system for a test: real servers and every process, as `make run` starts them."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import aiohttp
import pytest
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from deploy.local.replica import Replica
from deploy.local.services import SERVICES, Service
from deploy.local.settings import LocalSettings
from deploy.local.system import System
from deploy.local.token import development_token
from tests.support.forked import Forked
from tests.support.programs import link_static
from tests.support.servers import S3Server

_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR", "FREE_PORTS")


def passed_on() -> dict[str, str]:
    """What a process needs of the environment of whoever runs the tests; nothing that could point it elsewhere."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


class _OnlyWhatIsGiven(LocalSettings):
    """Settings that the environment has no part in."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class RunningSystem:
    """A system that is ready for requests. Nothing restarts what a test kills, but the test."""

    def __init__(self, system: System, settings: LocalSettings) -> None:
        self._system = system
        self._settings = settings

    @property
    def base_url(self) -> str:
        """Of the gateway, without a trailing slash."""
        return self._system.base_url

    @property
    def redis_url(self) -> str:
        """Of the Redis that the services use."""
        return self._system.redis_url

    @property
    def s3(self) -> S3Server:
        """The S3 that the services use, with their bucket."""
        return S3Server(
            self._system.s3_endpoint_url,
            self._system.keys.access_key,
            self._system.keys.secret_key,
            self._settings.aws_region,
            self._settings.s3_bucket,
        )

    @property
    def processes(self) -> list[Replica]:
        """Every process, in the order of the start: pid, name, listen, kill(), start()."""
        return self._system.replicas

    def process(self, name: str) -> Replica:
        """The process of a name: `stream`, or `stream-2` where there are several."""
        return next(one for one in self._system.replicas if one.name == name)

    @property
    def log_dir(self) -> Path:
        """Where each process's lines go: `<name>.log`."""
        assert self._settings.log_dir is not None
        return self._settings.log_dir

    @property
    def secret(self) -> str:
        """Of the HS256 tokens that the gateway takes."""
        return self._system.keys.jwt_secret

    def token(self, user: UUID | None = None) -> str:
        """A bearer token of a user; of a new one by default."""
        return development_token(self._system.keys.jwt_secret, user or uuid4())

    def authorization(self, user: UUID | None = None) -> dict[str, str]:
        """Request headers of a user."""
        return {"Authorization": f"Bearer {self.token(user)}"}


@asynccontextmanager
async def start_system(
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    services: Sequence[Service] = SERVICES,
    redis_url: str = "",
    s3: S3Server | None = None,
    ffmpeg_bin: str = "",
    port: int = 0,
    **replicas: int,
) -> AsyncIterator[RunningSystem]:
    """Runs a system of its own: `async with start_system(tmp_path, stream=2) as system`.

    Args:
        folder: its DATA_DIR and logs; a folder that an earlier system used has that system's videos.
        env: variables for every process, over the defaults; transcripts are off unless it says otherwise.
        services: which processes there are.
        redis_url: a running Redis instead of its own.
        s3: a running S3 with a bucket instead of its own, whose database survives power cuts and costs three times
            the CPU of the tests' one.
        ffmpeg_bin: an ffmpeg instead of the one that `make run` has on a bare machine, which starts much quicker than
            Debian's.
        port: where the gateway listens; 0: one that is free.
        replicas: how many processes of a service; default one of each.
    """
    log_dir = folder / "logs"
    log_dir.mkdir(parents=True, exist_ok=True)
    values = {"data_dir": folder, "log_dir": log_dir, "port": port, "redis_url": redis_url, "log_format": "json"}
    values |= {"ffmpeg_bin": str(ffmpeg_bin or link_static(folder / "ffmpeg"))}
    if s3:
        values |= {"s3_endpoint_url": s3.endpoint_url, "S3_BUCKET": s3.bucket, "AWS_REGION": s3.region}
        values |= {"aws_access_key_id": s3.access_key, "aws_secret_access_key": s3.secret_key}
    settings = _OnlyWhatIsGiven.model_validate(values)
    system = System(
        settings,
        passed_on(),
        lambda name: log_dir / f"{name}.log",
        services,
        replicas=replicas,
        overrides={"TRANSCRIBE_ENGINE": "none", **(env or {})},
        launch=Forked,
    )
    try:
        await system.start()
        yield RunningSystem(system, settings)
    finally:
        await system.stop()


@pytest.fixture(scope="session")
async def system(juicefs_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningSystem]:
    """The run's system: one process of each service. A test that kills something starts one of its own."""
    async with start_system(tmp_path_factory.mktemp("system"), s3=juicefs_server.with_new_bucket()) as running:
        yield running


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client of whatever system a test asks, by whole addresses."""
    async with aiohttp.ClientSession() as session:
        yield session
