"""A process of the gRPC bootstrap, and calls to it."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.ports import free_port
from deploy.local.process import Process
from services.common.caller import NOBODY, Caller
from services.common.channel import open_channel
from services.common.error_translator import from_rpc_error
from tests.support.stand_ins.edge import SERVICE
from tests.support.system import passed_on
from tests.support.waiting import until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Edge:
    """The process, and calls to it."""

    def __init__(self, process: Process, folder: Path, channel: grpc.aio.Channel, address: str) -> None:
        self.process, self.folder, self.channel, self.address = process, folder, channel, address

    async def call(self, method: str, request: bytes = b"", caller: Caller = NOBODY, timeout: float = 30) -> bytes:
        """A unary call; ReelwayError for what the process refuses."""
        stub: Any = self.channel.unary_unary(f"/{SERVICE}/{method}")
        try:
            answer: bytes = await stub(request, metadata=caller.metadata(), timeout=timeout or None)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        return answer

    def stream(self, method: str, request: bytes = b"", timeout: float | None = None) -> Any:
        stub: Any = self.channel.unary_stream(f"/{SERVICE}/{method}")
        return stub(request, timeout=timeout)

    async def health(self, service: str = "") -> int:
        # A channel of its own: the other one may have turned away already.
        async with grpc.aio.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            return int(answer.status)

    async def says(self, status: int) -> bool:
        return await self.health() == status

    def tell(self, name: str) -> None:
        (self.folder / name).touch()

    async def waits_for(self, name: str) -> None:
        await until((self.folder / f"{name}.waiting").exists)

    @property
    def log(self) -> list[dict[str, Any]]:
        lines = (self.folder / "log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@asynccontextmanager
async def edge_process(folder: Path, **settings: str) -> AsyncIterator[Edge]:
    address = f"127.0.0.1:{free_port()}"
    env = passed_on() | {"GRPC_LISTEN": address, "FOLDER": str(folder), "DRAIN_NOTICE_SECONDS": "0", **settings}
    process = Process("edge", [sys.executable, "-m", "tests.support.stand_ins.edge"], env, folder / "log")
    async with open_channel(address) as channel:
        edge = Edge(process, folder, channel, address)

        async def answers() -> bool:
            try:
                return await edge.says(SERVING)
            except grpc.aio.AioRpcError:
                return False

        await process.start_answering(answers, 60)
        try:
            yield edge
        finally:
            await process.kill()
