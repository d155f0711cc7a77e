"""What a look at the store does with what it finds."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import grpc
import pytest
from prometheus_client import REGISTRY
from reelway.v1 import library_pb2, media_pb2

from services.common import tasks
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import Lease
from services.common.object_keys import INCOMING, incoming_key
from services.common.s3_objects import ObjectInfo
from services.upload import ingest
from services.upload.ingest import LEASE, Ingest
from services.upload.signatures import Signatures
from tests.support.foundation import Foundation
from tests.support.waiting import until


@pytest.fixture
def looking(near: Foundation) -> Ingest:
    signatures = Signatures(near.redis, near.clock, per_owner=10, seconds=60)
    lease, channel = Lease(near.redis, LEASE, 60), cast(grpc.aio.Channel, Mock())
    return Ingest(near.objects, channel, near.redis, signatures, lease=lease, clock=near.clock)


@pytest.mark.parametrize(("waiting", "seconds"), [(2, 30), (6, 60)])
async def test_the_more_wait_the_longer_each_is_left_alone(
    near: Foundation, looking: Ingest, monkeypatch: pytest.MonkeyPatch, waiting: int, seconds: int
) -> None:
    monkeypatch.setattr(ingest, "_TOLD_A_SECOND", 1 / 10)
    note = AsyncMock(return_value=library_pb2.NoteArrivalResponse(state=media_pb2.VIDEO_STATE_PROCESSING))
    monkeypatch.setattr(looking, "_library", Mock(NoteArrival=note))
    for _ in range(waiting):
        await near.objects.put(incoming_key(str(uuid.uuid4())), b"bytes", "video/mp4")
    await looking.look()
    await looking.look()
    assert note.await_count == waiting
    marks: list[Any] = await near.redis.keys("{ingest}:told:*")
    # A little less by now.
    assert all([seconds / 2 < await near.redis.ttl(mark) <= seconds for mark in marks])


async def test_one_look_removes_all_that_no_form_can_have_brought(near: Foundation, looking: Ingest) -> None:
    for name in ("one", "another/one"):
        await near.objects.put(f"{INCOMING}{name}", b"bytes", "video/mp4")
    await looking.look()
    assert not [info.key async for info in near.objects.list(INCOMING)]


@pytest.mark.parametrize("fault", [ReelwayError(ErrorReason.SERVICE_UNAVAILABLE), RuntimeError("nobody foresaw this")])
async def test_an_arrival_that_cannot_be_told_of_is_counted_and_told_again_and_holds_up_no_other(
    near: Foundation, looking: Ingest, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    told = library_pb2.NoteArrivalResponse(state=media_pb2.VIDEO_STATE_PROCESSING)
    note = AsyncMock(side_effect=[fault, told, told])
    monkeypatch.setattr(looking, "_library", Mock(NoteArrival=note))
    for _ in range(2):
        await near.objects.put(incoming_key(str(uuid.uuid4())), b"bytes", "video/mp4")

    def put_off() -> float:
        return REGISTRY.get_sample_value("reelway_put_off_total", {"what": "look at an arrival"}) or 0

    before = put_off()
    await looking.look()
    assert (note.await_count, put_off() - before) == (2, 1)
    await looking.look()
    assert (note.await_count, put_off() - before) == (3, 1)


async def test_the_more_wait_the_longer_the_store_rests_between_looks(
    near: Foundation, looking: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "_LOOKED_AT_A_SECOND", 5)
    note = AsyncMock(return_value=library_pb2.NoteArrivalResponse(state=media_pb2.VIDEO_STATE_PROCESSING))
    monkeypatch.setattr(looking, "_library", Mock(NoteArrival=note))
    for _ in range(2):
        await near.objects.put(incoming_key(str(uuid.uuid4())), b"bytes", "video/mp4")
    begun, listed = list[float](), near.objects.pages

    def listing(prefix: str) -> AsyncIterator[Sequence[ObjectInfo]]:
        begun.append(asyncio.get_running_loop().time())
        return listed(prefix)

    monkeypatch.setattr(near.objects, "pages", listing)
    running = asyncio.create_task(looking.run(0.001))
    await until(lambda: len(begun) == 2)
    await tasks.end(running)
    assert begun[1] - begun[0] > 2 / 5
