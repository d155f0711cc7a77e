"""One running process of a service."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.process import LineSink, Process
from deploy.local.services import Kind, Service

START_SECONDS = 60.0  # a cold import of everything on two busy cores takes some ten


class Replica:
    """A process of a service at a fixed address; it can be killed and started again.

    Args:
        service: what it runs.
        name: what people call it: the service's name, with a number where there are several.
        listen: host:port that it serves.
        env: its whole environment.
        output: where its lines go, see Process.
        stop_seconds: how long it may take to end.
        launch: how `python -m` is run; default: as any command.
    """

    def __init__(
        self,
        service: Service,
        name: str,
        *,
        listen: str,
        env: Mapping[str, str],
        output: LineSink | Path,
        stop_seconds: float,
        launch: type[Process] = Process,
    ) -> None:
        self.service = service
        self.name = name
        self.listen = listen
        self.env = dict(env)
        self._output = output
        self._stop_seconds = stop_seconds
        self._launch = launch
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        """The process of the last start."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process

    @property
    def pid(self) -> int:
        """The process id of the last start."""
        return self.process.pid

    async def start(self) -> None:
        """Starts it, and returns once it says that it is ready.

        Raises:
            StartError: it ended or did not get ready.
        """
        command = [sys.executable, "-m", self.service.module]
        self._process = self._launch(self.name, command, self.env, self._output)
        await self._process.start_answering(self.is_ready, START_SECONDS)

    async def stop(self) -> None:
        """Ends it the gentle way."""
        if self._process is not None:
            await self._process.stop(self._stop_seconds)

    async def kill(self) -> None:
        """Ends it as a crash does (SIGKILL)."""
        await self.process.kill()

    async def is_ready(self) -> bool:
        """Whether it says SERVING (a service), or answers /ready with 200 (the gateway)."""
        return await (self._is_healthy() if self.service.kind is Kind.GATEWAY else self._is_serving())

    async def _is_serving(self) -> bool:
        # A channel of its own pool: shared ones back off for seconds after the first refusal.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        async with grpc.aio.insecure_channel(self.listen, options=options) as channel:
            try:
                stub: Any = health_pb2_grpc.HealthStub(channel)
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def _is_healthy(self) -> bool:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
                session.get(f"http://{self.listen}/ready") as answer,
            ):
                return answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False
