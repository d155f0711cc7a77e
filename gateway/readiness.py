"""Whether the gateway can serve: it is not draining, and each service that it needs says SERVING."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_SECONDS = 2.0


class Readiness:
    """Asks the services' health when asked itself."""

    def __init__(self, channels: Mapping[str, grpc.aio.Channel]) -> None:
        self._channels = channels
        self.draining = False

    async def missing(self) -> list[str]:
        """Names of the services that cannot be reached or do not serve; `gateway` itself while it drains."""
        if self.draining:
            return ["gateway"]
        states = await asyncio.gather(*map(self._serves, self._channels.values()))
        return [name for name, serves in zip(self._channels, states, strict=True) if not serves]

    @staticmethod
    async def _serves(channel: grpc.aio.Channel) -> bool:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_SECONDS)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
