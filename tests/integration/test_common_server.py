"""The gRPC bootstrap, in a process of its own: health, identity, errors, deadlines."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from deploy.local.ports import free_port
from services.common.caller import Caller
from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error
from services.common.errors import ReelwayError
from services.common.server import LIVENESS
from tests.integration.server_rig import NOT_SERVING, SERVING, Edge, edge_process
from tests.support.raw_calls import raw_calls
from tests.support.stand_ins.edge import SERVICE
from tests.support.waiting import until


@pytest.fixture(scope="module")
async def edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """One that no test ends."""
    folder = tmp_path_factory.mktemp("edge")
    metrics = f"127.0.0.1:{free_port()}"
    async with edge_process(folder, MAX_UNARY_SECONDS="1", METRICS_LISTEN=metrics) as running:
        (folder / "metrics").write_text(metrics)
        yield running


async def test_it_says_that_it_serves_only_while_it_can(edge: Edge) -> None:
    assert await edge.health() == SERVING
    edge.tell("S3-is-away")
    await until(lambda: edge.says(NOT_SERVING))
    assert await edge.health(LIVENESS) == SERVING, "a process that waits for its store must not be restarted"
    (edge.folder / "S3-is-away").unlink()
    await until(lambda: edge.says(SERVING))


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
    await until(lambda: edge.says(SERVING))


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
    async with raw_calls(edge.address) as calls, asyncio.timeout(30):
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
    await asyncio.wait([call], timeout=1.2)
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


async def test_how_late_its_event_loop_is_is_measured(edge: Edge) -> None:
    async def is_measured() -> bool:
        return re.search(r"^reelway_loop_lag_seconds_count [1-9]", await _metrics(edge), re.MULTILINE) is not None

    await until(is_measured)


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
