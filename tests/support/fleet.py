"""Replicas of services for a test, on servers that it is given."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.local.ports import free_port
from deploy.local.replica import Replica
from deploy.local.services import SERVICES
from tests.support.forked import Forked
from tests.support.programs import link_static
from tests.support.servers import S3Server
from tests.support.system import passed_on

_SERVICES = {service.name: service for service in SERVICES}


class Fleet:
    """Catalog, upload, stream and gateway processes on one Redis and one bucket."""

    def __init__(self, redis_url: str, s3: S3Server, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {
            **passed_on(),
            **s3.environment,
            "REDIS_URL": redis_url,
            "FFMPEG_BIN": str(link_static(folder / "ffmpeg") / "ffmpeg"),
            "WORK_DIR": str(folder / "work"),
            "LOG_FORMAT": "console",
            "DRAIN_NOTICE_SECONDS": "0",
            "DRAIN_SECONDS": "5",
            **settings,
        }
        self.redis_url, self.s3 = redis_url, s3
        self.replicas: list[Replica] = []

    def add(self, service: str, count: int = 1) -> list[Replica]:
        """Plan processes; every one that is planned later knows their addresses."""
        found = [self._plan(service) for _ in range(count)]
        self._environment[f"{service.upper()}_TARGET"] = ",".join(one.listen for one in found)
        self.replicas += found
        return found

    def _plan(self, service: str) -> Replica:
        port = str(free_port())
        listen, name = f"127.0.0.1:{port}", f"{service}-{secrets.token_hex(2)}"
        return Replica(
            _SERVICES[service],
            name,
            listen=listen,
            env={**self._environment, "GRPC_LISTEN": listen, "PORT": port},
            output=self._folder / f"{name}.log",
            stop_seconds=10,
            launch=Forked,
        )

    def target(self, service: str) -> str:
        """The gRPC target of all processes of a service."""
        return self._environment[f"{service.upper()}_TARGET"]

    def of(self, service: str) -> list[Replica]:
        """Its processes."""
        return [one for one in self.replicas if one.service.name == service]


@asynccontextmanager
async def start_fleet(
    redis_url: str,
    s3: S3Server,
    folder: Path,
    settings: Mapping[str, str] | None = None,
    *,
    replicas: int = 1,
    gateways: int = 0,
) -> AsyncIterator[Fleet]:
    """Catalog, upload and stream, `replicas` of each, and gateways; with `settings` in the environment of all."""
    fleet = Fleet(redis_url, s3, folder, settings or {})
    for service in ("catalog", "upload", "stream"):
        fleet.add(service, replicas)
    fleet.add("gateway", gateways)
    try:
        await asyncio.gather(*(replica.start() for replica in fleet.replicas))
        yield fleet
    finally:
        await asyncio.gather(*(replica.kill() for replica in fleet.replicas), return_exceptions=True)
