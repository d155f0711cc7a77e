"""A gRPC process whose calls do what a test of the bootstrap needs; files in FOLDER tell it when.

Requests and answers are plain bytes.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from services.common import logs, process, server
from services.common.caller import current_caller
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.settings import ServiceSettings
from tests.support.waiting import until

SERVICE = "test.v1.EdgeService"
FOLDER = Path(os.environ.get("FOLDER", "."))
log = logs.get_logger(__name__)


async def _told(name: str, seconds: float = 60) -> None:
    """Returns once a file of this name is there; notes that it waits."""
    (FOLDER / f"{name}.waiting").touch()
    await until((FOLDER / name).exists, seconds)


async def _echo(request: bytes, context: Any) -> bytes:
    log.info("echoed")
    caller = current_caller()
    return json.dumps({"user": caller.user, "request_id": caller.request_id, "peer": context.peer()}).encode()


async def _boom(request: bytes, context: Any) -> bytes:
    raise RuntimeError("cannot open /etc/reelway/key on db-7.internal")


async def _refuse(request: bytes, context: Any) -> bytes:
    raise ReelwayError(ErrorReason.VIDEO_CHANGED, "changed")


async def _wait(request: bytes, context: Any) -> bytes:
    await _told(request.decode())
    return b"done"


async def _undo(request: bytes, context: Any) -> bytes:
    """Where it is cut off it has something to undo, which takes longer than it takes the background loop to end."""
    try:
        await _told(request.decode())
    except asyncio.CancelledError:
        await until((FOLDER / "background.left").exists, 10)
        (FOLDER / f"{request.decode()}.left").touch()
        raise
    return b"done"


async def _count(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield b"first"
    await _told(request.decode())
    yield b"last"


async def _flood(request: bytes, context: Any) -> AsyncIterator[bytes]:
    try:
        while True:
            yield b"more" * 2**14
    finally:
        (FOLDER / f"{request.decode()}.left").touch()


async def _parse(request: health_pb2.HealthCheckRequest, context: Any) -> bytes:
    return request.service.encode()


async def _parse_all(requests: AsyncIterator[health_pb2.HealthCheckRequest], context: Any) -> bytes:
    return b"".join([request.service.encode() async for request in requests])


async def _break(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield b"first"
    raise RuntimeError("cannot open /etc/reelway/key on db-7.internal")


def _register(grpc_server: grpc.aio.Server) -> None:
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Echo": grpc.unary_unary_rpc_method_handler(_echo),
        "Boom": grpc.unary_unary_rpc_method_handler(_boom),
        "Refuse": grpc.unary_unary_rpc_method_handler(_refuse),
        "Wait": grpc.unary_unary_rpc_method_handler(_wait),
        "Undo": grpc.unary_unary_rpc_method_handler(_undo),
        "Count": grpc.unary_stream_rpc_method_handler(_count),
        "Flood": grpc.unary_stream_rpc_method_handler(_flood),
        "Parse": grpc.unary_unary_rpc_method_handler(_parse, health_pb2.HealthCheckRequest.FromString),
        "ParseAll": grpc.stream_unary_rpc_method_handler(_parse_all, health_pb2.HealthCheckRequest.FromString),
        "Break": grpc.unary_stream_rpc_method_handler(_break),
    }
    grpc_server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def _store(name: str) -> server.Check:
    async def check() -> None:
        if (FOLDER / f"{name}-is-away").exists():
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    return check


async def _background() -> None:
    try:
        # Longer than a file of tests takes on any machine.
        await _told("end-background", 3600)
    except asyncio.CancelledError:
        (FOLDER / "background.left").touch()
        raise
    raise RuntimeError("the sweeper has broken")


async def _serve(settings: ServiceSettings) -> None:
    stores = {name: _store(name) for name in ("S3", "Redis")}
    await server.serve(
        settings,
        _register,
        service_names=[SERVICE],
        ready=stores,
        background=[_background()],
        grace_seconds=float(os.environ.get("GRACE_SECONDS", "3600")),
    )


def main() -> None:
    process.run("edge", ServiceSettings, _serve)


if __name__ == "__main__":
    main()
