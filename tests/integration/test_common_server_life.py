"""How the gRPC bootstrap takes its addresses, drains, ages its connections, and ends."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from deploy.local.process import Process
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.server import LIVENESS
from tests.integration.server_rig import NOT_SERVING, SERVING, edge_process
from tests.support.raw_calls import raw_calls
from tests.support.stand_ins.edge import SERVICE
from tests.support.waiting import until


async def test_told_to_stop_it_finishes_what_it_accepted_and_accepts_no_more(tmp_path: Path) -> None:
    async with edge_process(tmp_path, DRAIN_SECONDS="30") as edge:
        unary = asyncio.create_task(edge.call("Wait", b"go"))
        stream = edge.stream("Count", b"go-on")
        assert await stream.read() == b"first"
        await edge.waits_for("go")
        await edge.waits_for("go-on")
        edge.process.signal(signal.SIGTERM)
        await until(lambda: _refuses(edge.address))
        with pytest.raises(ReelwayError) as refused:
            await edge.call("Echo", timeout=2)
        assert refused.value.reason in {ErrorReason.SERVICE_UNAVAILABLE, ErrorReason.TIMEOUT}
        edge.tell("go")
        edge.tell("go-on")
        assert await unary == b"done"
        assert await stream.read() == b"last"
        assert await stream.read() is grpc.aio.EOF
        assert await edge.process.wait() == 0


async def test_calls_of_monitors_do_not_hold_it_up(tmp_path: Path) -> None:
    async with (
        edge_process(tmp_path, DRAIN_SECONDS="60") as edge,
        grpc.aio.insecure_channel(edge.address) as channel,
        raw_calls(edge.address) as calls,
    ):
        check = "/grpc.health.v1.Health/Check"
        calls.begin(check, ends=True)
        async with asyncio.timeout(30):
            await calls.ended()
        calls.begin(check)
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service=LIVENESS))
        assert (await watch.read()).status == SERVING
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]
        listing = reflection.ServerReflectionInfo()
        await listing.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        assert (await listing.read()).list_services_response.service
        edge.process.signal(signal.SIGINT)
        assert await asyncio.wait_for(edge.process.wait(), 30) == 0


async def _refuses(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return True
    writer.close()
    return False


async def test_before_it_stops_accepting_it_says_so(tmp_path: Path) -> None:
    """Balancers need the time to turn away: meanwhile calls still come, and are served."""
    async with edge_process(tmp_path, DRAIN_NOTICE_SECONDS="60") as edge:
        edge.process.signal(signal.SIGTERM)
        await until(lambda: edge.says(NOT_SERVING))
        async with grpc.aio.insecure_channel(edge.address) as channel:
            stub: Any = channel.unary_unary(f"/{SERVICE}/Echo")
            assert json.loads(await stub(b"", timeout=10))


async def test_a_call_that_does_not_end_keeps_it_until_its_drain_limit_and_what_it_undoes_then(tmp_path: Path) -> None:
    async with edge_process(tmp_path, DRAIN_SECONDS="0.2") as edge:
        call = asyncio.create_task(edge.call("Undo", b"never"))
        await edge.waits_for("never")
        edge.process.signal(signal.SIGTERM)
        assert await asyncio.wait_for(edge.process.wait(), 20) == 0
        assert (tmp_path / "never.left").exists(), "the loops ended beside it, not behind it"
        with pytest.raises(ReelwayError):
            await call


async def test_an_old_connection_is_closed_gently(tmp_path: Path) -> None:
    async with edge_process(tmp_path, MAX_CONNECTION_AGE_SECONDS="0.3") as edge:
        stream = edge.stream("Count", b"go-on")
        assert await stream.read() == b"first"

        async def peer() -> str:
            return str(json.loads(await edge.call("Echo"))["peer"])

        first = await peer()

        async def has_changed() -> bool:
            return await peer() != first

        await until(has_changed)
        edge.tell("go-on")
        assert await stream.read() == b"last", "the call that was under way went on on the old connection"


async def test_an_answer_that_nobody_reads_ends_with_the_grace_of_its_connection(tmp_path: Path) -> None:
    """Without a deadline nothing else would end the call, and what gRPC holds for it."""
    async with (
        edge_process(tmp_path, MAX_CONNECTION_AGE_SECONDS="0.3", GRACE_SECONDS="0.3") as edge,
        raw_calls(edge.address) as calls,
        asyncio.timeout(30),
    ):
        calls.begin(f"/{SERVICE}/Echo", b"", ends=True)
        await calls.ended()


async def test_a_background_loop_that_breaks_ends_the_process_with_an_error(tmp_path: Path) -> None:
    """A service without its sweeper would rot unseen; whoever runs it starts it again."""
    async with edge_process(tmp_path) as edge:
        edge.tell("end-background")
        assert await asyncio.wait_for(edge.process.wait(), 20) == 1
        line = next(line for line in edge.log if line["event"] == "a background loop ended")
        assert "the sweeper has broken" in line["exception"]


@pytest.mark.parametrize("name", ["GRPC_LISTEN", "METRICS_LISTEN"])
async def test_a_busy_port_is_one_clear_line(tmp_path: Path, name: str) -> None:
    with socket.socket() as other:
        # As another service: of two that share one each would get half of the other's calls.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        env = {"PATH": os.environ["PATH"], "FOLDER": str(tmp_path), name: address}
        process = Process("edge", [sys.executable, "-m", "tests.support.stand_ins.edge"], env, tmp_path / "log")
        await process.start()
        assert await asyncio.wait_for(process.wait(), 60) == 2
    # Beside the log's own lines and gRPC's.
    lines = [
        line
        for line in (tmp_path / "log").read_text().splitlines()
        if not re.match(r"[{]|[EWI][0-9]{4} |=|src/|$", line)
    ]
    assert len(lines) == 1
    assert lines[0].startswith(f"settings: {name}: cannot listen on {address}")
