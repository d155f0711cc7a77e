"""What /ready tells whoever balances: whether the services that every dialect needs serve."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway import readiness
from gateway.readiness import Readiness
from services.common.channel import open_channel
from tests.support.system import RunningSystem
from tests.support.videos_api import VideosApi, more, several, videos_api
from tests.support.waiting import until


async def until_missing(api: VideosApi, *names: str) -> None:
    """Returns once /ready says so; that the process lives is another question."""
    said = (503, {"detail": f"Not ready: {', '.join(names)}"}) if names else (200, {"status": "ok"})

    async def says() -> bool:
        reply = await api.get("/ready")
        assert ("Retry-After" in reply.headers) == (reply.status == 503)
        return (reply.status, reply.json) == said

    await until(says)
    assert (await api.get("/health")).status == 200


async def test_a_gateway_is_ready_while_what_is_behind_it_serves(system: RunningSystem) -> None:
    names = ("upload", "stream", "catalog", "ffmpeg")
    async with several(*(more(system, name) for name in names)) as (upload, stream, catalog, ffmpeg):
        targets = {f"{one.service.name.upper()}_TARGET": one.listen for one in (upload, stream, catalog, ffmpeg)}
        async with more(system, "gateway", **targets) as gateway, videos_api(f"http://{gateway.listen}") as api:
            await ffmpeg.kill()
            await until_missing(api)
            await catalog.kill()
            await until_missing(api, "catalog")
            await stream.kill()
            await upload.kill()
            await until_missing(api, "upload", "stream", "catalog")
            assert (await api.get(f"/videos/{uuid4()}/stream")).status == 503
            await catalog.start()
            await until_missing(api, "upload", "stream")
            await upload.start()
            await stream.start()
            await until_missing(api)
            lines = [json.loads(line) for line in (system.log_dir / f"{gateway.name}.log").read_text().splitlines()]
    whys = [line["why"] for line in lines if line["event"] == "not ready"]
    assert whys[0].startswith("catalog: UNAVAILABLE: ")
    assert catalog.listen in whys[0], "and why it cannot be reached"
    assert len(whys) <= 5, "no line for each time that it is asked"
    failed = next(line for line in lines if line["event"] == "request" and line["path"] != "/ready")
    assert (failed["status"], failed["reason"]) == (503, "SERVICE_UNAVAILABLE")


class _Replica(health_pb2_grpc.HealthServicer):
    """One that serves, as far as its clients know."""

    def __init__(self, *, hangs: bool) -> None:
        self.hangs, self.asked = hangs, 0

    async def Check(self, request: Any, context: Any) -> Any:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def _answering(*replicas: _Replica) -> AsyncIterator[str]:
    """The target of these."""
    async with contextlib.AsyncExitStack() as stack:
        ports = []
        for replica in replicas:
            server = grpc.aio.server()
            health_pb2_grpc.add_HealthServicer_to_server(replica, server)
            ports.append(server.add_insecure_port("127.0.0.1:0"))
            await server.start()
            stack.push_async_callback(server.stop, 0)
        yield ",".join(f"127.0.0.1:{port}" for port in ports)


async def test_one_replica_of_two_that_hangs_is_no_reason_to_send_all_clients_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each gateway asks it in turn, until its connection is given up."""
    one, other = _Replica(hangs=False), _Replica(hangs=False)
    async with _answering(one, other) as target, open_channel(target) as channel:
        ready = Readiness({"upload": channel})

        async def both_are_asked() -> bool:
            assert await ready.missing() == []
            return bool(one.asked and other.asked)

        await until(both_are_asked)
        monkeypatch.setattr(readiness, "_SECONDS", 0.3)
        one.hangs = True
        before = one.asked
        assert [await ready.missing() for _ in range(2)] == [[]] * 2
        assert one.asked > before
        other.hangs = True
        assert await ready.missing() == ["upload"]
