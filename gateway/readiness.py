"""Whether the gateway can serve: it is not draining, and each service that it needs says SERVING."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.backoff import Backoff, retry
from services.common.readiness_log import ReadinessLog

_SECONDS = 2.0
# Of several replicas one may hang: the next one is asked then.
_TWICE = Backoff(attempts=2, first_seconds=0.0)


class Readiness:
    """Asks the services' health when asked itself; the log tells what has become of it."""

    def __init__(self, channels: Mapping[str, grpc.aio.Channel]) -> None:
        self._channels = channels
        self._log = ReadinessLog()
        self.draining = False

    async def missing(self) -> list[str]:
        """Names of the services that cannot be reached or do not serve; `gateway` itself while it drains."""
        if self.draining:
            return ["gateway"]
        whys = await asyncio.gather(*map(self._failure, self._channels.values()))
        failures = {name: why for name, why in zip(self._channels, whys, strict=True) if why}
        self._log.tell(failures)
        return list(failures)

    @staticmethod
    async def _failure(channel: grpc.aio.Channel) -> str:
        """Why it does not serve; empty: it does."""
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await retry(lambda: stub.Check(health_pb2.HealthCheckRequest(), timeout=_SECONDS), _hangs, _TWICE)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        serves = answer.status == health_pb2.HealthCheckResponse.SERVING
        return "" if serves else health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def _hangs(error: Exception) -> bool:
    return isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
