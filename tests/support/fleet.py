"""Processes for a test, forked from one that has imported everything: a start costs no import."""

import asyncio
import contextlib
import importlib
import multiprocessing
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.ports import free_port
from tests.support.servers import S3Server
from tests.support.waiting import until

_MODULES = {
    **{name: f"services.{name}.__main__" for name in ("catalog", "upload", "stream")},
    "gateway": "gateway.__main__",
}
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([*_MODULES.values(), "uvloop", "tests.support.fleet"])


def _main(module: str, environment: Mapping[str, str], log: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    # pytest's interrupt is for pytest; what it started it stops.
    os.setsid()
    sys.argv[1:] = []
    importlib.import_module(module).main()


class Running:
    """One process of a service at a fixed address; it can die and be started again."""

    def __init__(self, service: str, address: str, environment: Mapping[str, str], log: Path) -> None:
        self.service, self.address, self.log = service, address, log
        self._environment = dict(environment)
        self._process: ForkServerProcess | None = None

    async def start(self, **more: str) -> None:
        """Start it, with more environment; returns once it serves."""
        host, _, port = self.address.rpartition(":")
        environment = {**self._environment, **more, "GRPC_LISTEN": self.address, "HOST": host, "PORT": port}
        self._process = _context.Process(
            target=_main, args=(_MODULES[self.service], environment, str(self.log)), daemon=True
        )
        self._process.start()
        await until(self._serves, 30)

    async def _serves(self) -> bool:
        assert self._process is not None
        if not self._process.is_alive():
            raise RuntimeError(f"{self.service} ended with {self._process.exitcode}:\n{self.log.read_text()[-3000:]}")
        if self.service == "gateway":
            return await self._answers()
        async with grpc.aio.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            try:
                health: Any = health_pb2_grpc.HealthStub(channel)
                answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=2)
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def _answers(self) -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            async with aiohttp.ClientSession() as http, http.get(f"http://{self.address}/ready") as answer:
                return answer.status == 200
        return False

    async def died(self, seconds: float = 20) -> int:
        """The signal that killed it, awaited."""
        process = self._process
        assert process is not None
        await until(lambda: not process.is_alive(), seconds)
        return -(process.exitcode or 0)

    def kill(self) -> None:
        """As a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.join()

    def freeze(self) -> None:
        """It does nothing until `thaw`."""
        assert self._process is not None
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGSTOP)


class Fleet:
    """Catalog, upload, stream and gateway processes on one Redis and one bucket."""

    def __init__(self, redis_url: str, s3: S3Server, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            **s3.environment,
            "REDIS_URL": redis_url,
            "LOG_FORMAT": "console",
            "DRAIN_NOTICE_SECONDS": "0",
            "DRAIN_SECONDS": "5",
            **settings,
        }
        self.redis_url, self.s3 = redis_url, s3
        self.processes: list[Running] = []

    def add(self, service: str, count: int = 1) -> list[Running]:
        """Plan processes; every one that is planned later knows their addresses."""
        found = [
            Running(
                service,
                f"127.0.0.1:{free_port()}",
                self._environment,
                self._folder / f"{service}-{secrets.token_hex(2)}.log",
            )
            for _ in range(count)
        ]
        self._environment[f"{service.upper()}_TARGET"] = ",".join(one.address for one in found)
        self.processes += found
        return found

    def target(self, service: str) -> str:
        """The gRPC target of all processes of a service."""
        return self._environment[f"{service.upper()}_TARGET"]

    def of(self, service: str) -> list[Running]:
        """Its processes."""
        return [one for one in self.processes if one.service == service]


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
        await asyncio.gather(*(process.start() for process in fleet.processes))
        yield fleet
    finally:
        for process in fleet.processes:
            process.kill()
