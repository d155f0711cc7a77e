"""The gRPC bootstrap, in a process of its own: health, identity, errors, deadlines, drain."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from deploy.local.ports import free_port
from deploy.local.process import Process
from services.common.caller import NOBODY, Caller
from services.common.channel import open_channel
from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error
from services.common.errors import ReelwayError
from services.common.server import LIVENESS
from tests.support.raw_calls import raw_calls
from tests.support.stand_ins.edge import SERVICE
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
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env |= {"GRPC_LISTEN": address, "FOLDER": str(folder), "DRAIN_NOTICE_SECONDS": "0", **settings}
    process = Process("edge", [sys.executable, "-m", "tests.support.stand_ins.edge"], env, folder / "log")
    async with open_channel(address) as channel:
        edge = Edge(process, folder, channel, address)

        async def answers() -> bool:
            try:
                return await edge.health() == SERVING
            except grpc.aio.AioRpcError:
                return False

        await process.start_answering(answers, 60)
        try:
            yield edge
        finally:
            await process.kill()


@pytest.fixture(scope="module")
async def edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """One that no test ends."""
    folder = tmp_path_factory.mktemp("edge")
    metrics = f"127.0.0.1:{free_port()}"
    async with edge_process(folder, MAX_UNARY_SECONDS="0.4", METRICS_LISTEN=metrics) as running:
        (folder / "metrics").write_text(metrics)
        yield running


async def test_it_says_that_it_serves_only_while_it_can(edge: Edge) -> None:
    assert await edge.health() == SERVING
    edge.tell("S3-is-away")
    await until(lambda: _is(edge, NOT_SERVING))
    assert await edge.health(LIVENESS) == SERVING, "a process that waits for its store must not be restarted"
    (edge.folder / "S3-is-away").unlink()
    await until(lambda: _is(edge, SERVING))


async def test_its_log_names_what_it_waits_for(edge: Edge) -> None:
    """Whatever that raises: a store that hangs raises a time-out alone."""
    told = len(edge.log)

    def reasons() -> list[list[str]]:
        return [re.findall(r"(\w+): ReelwayError", line["why"]) for line in edge.log[told:] if "why" in line]

    edge.tell("Redis-is-away")
    await until(lambda: reasons() == [["Redis"]])
    edge.tell("S3-is-away")
    await until(lambda: reasons() == [["Redis"], ["S3", "Redis"]])
    for name in ("S3-is-away", "Redis-is-away"):
        (edge.folder / name).unlink()
    await until(lambda: _is(edge, SERVING))


async def _is(edge: Edge, status: int) -> bool:
    return await edge.health() == status


async def test_reflection_tells_its_services(edge: Edge) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(edge.channel)  # type: ignore[arg-type]
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=10)
    answer = await anext(aiter(call))
    names = {service.name for service in answer.list_services_response.service}
    assert names == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


async def test_the_caller_and_the_request_id_arrive_and_stand_in_the_log(edge: Edge) -> None:
    caller = Caller("änna@example", "request-17")
    answer = json.loads(await edge.call("Echo", caller=caller))
    assert (answer["user"], answer["request_id"]) == ("änna@example", "request-17")
    assert [line["request_id"] for line in edge.log if line["event"] == "echoed"][-1] == "request-17"


async def test_a_call_without_an_id_gets_one(edge: Edge) -> None:
    for offered in ("", "not an id"):
        answer = json.loads(await edge.call("Echo", caller=Caller(request_id=offered)))
        assert re.fullmatch(r"[0-9a-f]{32}", answer["request_id"])


async def test_what_nobody_foresaw_is_told_to_nobody_but_the_log(edge: Edge) -> None:
    with pytest.raises(ReelwayError) as refused:
        await edge.call("Boom", caller=Caller(request_id="boom-1"))
    assert (refused.value.reason, refused.value.message) == (ErrorReason.INTERNAL, "Internal error")
    assert "db-7" not in repr(refused.value.__cause__)
    line = next(line for line in edge.log if line["event"] == "unhandled error" and line["request_id"] == "boom-1")
    assert "cannot open /etc/reelway/key on db-7.internal" in line["exception"]


async def test_so_is_what_breaks_a_stream(edge: Edge) -> None:
    call = edge.stream("Break")
    assert await call.read() == b"first"
    with pytest.raises(grpc.aio.AioRpcError) as broken:
        await call.read()
    assert from_rpc_error(broken.value).reason is ErrorReason.INTERNAL
    assert "db-7" not in repr(broken.value)


async def test_a_refusal_keeps_its_reason(edge: Edge) -> None:
    with pytest.raises(ReelwayError) as refused:
        await edge.call("Refuse")
    assert (refused.value.reason, refused.value.message) == (ErrorReason.VIDEO_CHANGED, "changed")


async def test_a_message_that_cannot_be_parsed_is_refused_as_any_other(edge: Edge) -> None:
    good, bad = health_pb2.HealthCheckRequest(service="a").SerializeToString(), b"\xff"
    assert await edge.call("Parse", good) == b"a"
    with pytest.raises(ReelwayError) as refused:
        await edge.call("Parse", bad)
    assert refused.value.reason is ErrorReason.INVALID_REQUEST
    stub: Any = edge.channel.stream_unary(f"/{SERVICE}/ParseAll")
    assert await stub(iter([good, good])) == b"aa"
    with pytest.raises(grpc.aio.AioRpcError) as broken:
        await stub(iter([good, bad]))
    assert from_rpc_error(broken.value).reason is ErrorReason.INVALID_REQUEST


@pytest.mark.parametrize("method", ["Echo", "Count"])
async def test_a_call_whose_message_does_not_come_is_refused(edge: Edge, method: str) -> None:
    """It was waited for without end, where it is left out, too, and held a drain to its limit."""
    async with raw_calls(edge.address) as calls, asyncio.timeout(10):
        for is_left_out in (False, True):
            calls.begin(f"/{SERVICE}/{method}", ends=is_left_out)
            await calls.ended()


async def test_a_call_without_a_deadline_gets_one(edge: Edge) -> None:
    with pytest.raises(ReelwayError) as refused:
        await edge.call("Wait", b"never", timeout=0)
    assert refused.value.reason is ErrorReason.TIMEOUT


async def test_a_deadline_of_the_client_s_own_counts(edge: Edge) -> None:
    """Longer than the server's own: it is not cut short."""
    call = asyncio.create_task(edge.call("Wait", b"patient", timeout=30))
    await edge.waits_for("patient")
    await asyncio.wait([call], timeout=0.6)
    assert not call.done()
    edge.tell("patient")
    assert await call == b"done"


async def _metrics(edge: Edge) -> str:
    url = f"http://{(edge.folder / 'metrics').read_text()}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.text()


async def test_calls_are_counted(edge: Edge) -> None:
    await edge.call("Echo")
    assert f'reelway_rpc_handled_total{{code="OK",method="/{SERVICE}/Echo"}}' in await _metrics(edge)
    with pytest.raises(ReelwayError):
        await edge.call("Refuse")
    assert f'reelway_rpc_handled_total{{code="FAILED_PRECONDITION",method="/{SERVICE}/Refuse"}}' in await _metrics(edge)


async def test_a_call_that_took_all_of_its_client_s_time_counts_as_one_that_was_too_slow(edge: Edge) -> None:
    """Each of our own calls has a deadline: where a store stands still, this is how they all end."""

    async def ends(code: str) -> float:
        found = re.findall(rf'handled_total{{code="{code}",method="/{SERVICE}/Wait"}} (\S+)', await _metrics(edge))
        return sum(map(float, found))

    async def one_more(code: str, before: float) -> None:
        async def is_counted() -> bool:
            return await ends(code) > before

        await until(is_counted)

    slow, left = await ends("DEADLINE_EXCEEDED"), await ends("CANCELLED")
    with pytest.raises(ReelwayError) as refused:
        # What does not come so far in its time is counted by nobody.
        await edge.call("Wait", b"never", timeout=1)
    assert refused.value.reason is ErrorReason.TIMEOUT
    await one_more("DEADLINE_EXCEEDED", slow)
    call = asyncio.create_task(edge.call("Wait", b"leaving", timeout=30))
    await edge.waits_for("leaving")
    call.cancel()
    await one_more("CANCELLED", left)
    assert (await ends("DEADLINE_EXCEEDED"), await ends("CANCELLED")) == (slow + 1, left + 1)


async def test_a_client_that_leaves_while_it_is_written_to_counts_as_one_that_leaves(edge: Edge) -> None:
    """Viewers pause and go all the time, and an alert counts what calls end with."""
    call = edge.stream("Flood", timeout=30)
    assert await call.read()
    call.cancel()
    ends: list[str] = []

    async def is_counted() -> bool:
        ends[:] = re.findall(rf'handled_total{{code="(\w+)",method="/{SERVICE}/Flood"}}', await _metrics(edge))
        return bool(ends)

    await until(is_counted)
    assert ends == ["CANCELLED"]


async def test_a_client_that_set_no_deadline_and_reads_no_more_is_cut_off(edge: Edge) -> None:
    """What is made for it, and where that is a video's bytes all room for others, would else be its for good."""
    patient, call = edge.stream("Flood", b"patient", timeout=30), edge.stream("Flood", b"endless")
    assert await patient.read() == await call.read()
    await until((edge.folder / "endless.left").exists)
    assert not (edge.folder / "patient.left").exists()
    patient.cancel()
    with pytest.raises(grpc.aio.AioRpcError) as cut:
        while await call.read():
            pass
    assert from_rpc_error(cut.value).reason is ErrorReason.TIMEOUT


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
        async with asyncio.timeout(10):
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
        await until(lambda: _is(edge, NOT_SERVING))
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
        asyncio.timeout(10),
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
