"""kill -9 of the upload service at each step of an append, a seal and a compaction."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from signal import SIGKILL

import grpc
import pytest
import redis.asyncio
from reelway.v1 import media_pb2, upload_pb2

from deploy.local.replica import Replica
from gateway.operations.library import Library
from services.common.caller import Caller, set_caller
from services.common.channel import open_channel
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.upload.redis_journal_store import LEASES
from tests.support.clips import MP4, WEBM
from tests.support.fleet import Fleet, start_fleet
from tests.support.journal_client import JournalClient, keys_under, open_objects, refusal
from tests.support.servers import S3Server
from tests.support.waiting import until

MIB = 2**20
BROKEN = {ErrorReason.SERVICE_UNAVAILABLE, ErrorReason.INTERNAL}


@dataclass
class Rig:
    """One process that dies, another that stays, and clients of either."""

    fleet: Fleet
    mortal: Replica
    upload_target: str
    """Of the one that stays."""
    client: JournalClient

    async def arm(self, point: str) -> None:
        self.mortal.env |= {"FAULT_POINT": point, "COMPACTION_INTERVAL_SECONDS": "3600"}
        await self.mortal.kill()
        await self.mortal.start()

    async def sweep(self) -> None:
        """The process that dies lives, and removes what is part of nothing, as nothing is appended any more."""
        young = {"APPEND_MAX_SECONDS": "0.5", "APPEND_ORPHAN_SECONDS": "0.5", "APPEND_ORPHAN_INTERVAL_SECONDS": "0.1"}
        before = dict(self.mortal.env)
        self.mortal.env |= {"FAULT_POINT": "", **young}
        async with redis.asyncio.Redis.from_url(self.fleet.redis_url) as connection:
            # Whoever looked last would hold it for a minute.
            await connection.delete(LEASES + "orphans")
        await self.mortal.kill()
        await self.mortal.start()
        self.mortal.env = before

    async def has_died(self) -> None:
        assert await asyncio.wait_for(self.mortal.process.wait(), 30) == -SIGKILL

    @contextlib.asynccontextmanager
    async def of_mortal(self) -> AsyncIterator[JournalClient]:
        """Calls that reach the process that dies."""
        async with (
            open_channel(self.mortal.listen) as upload,
            open_channel(self.fleet.target("stream")) as stream,
            open_channel(self.fleet.target("catalog")) as catalog,
        ):
            yield JournalClient(upload, stream, catalog, "")


@pytest.fixture(scope="module")
async def rig(redis_url: str, juicefs_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    folder = tmp_path_factory.mktemp("crashes")
    settings = {
        "APPEND_EXPIRY_INTERVAL_SECONDS": "0.2",
        "COMPACTION_LEASE_SECONDS": "0.5",
        # Only what it sealed itself: what the other leaves, the other shall take up again.
        "COMPACTION_INTERVAL_SECONDS": "3600",
    }
    async with start_fleet(redis_url, juicefs_s3, folder, settings) as fleet:
        target = fleet.target("upload")
        [mortal] = fleet.add("upload")
        await mortal.start()
        async with (
            open_channel(target) as upload,
            open_channel(fleet.target("stream")) as stream,
            open_channel(fleet.target("catalog")) as catalog,
        ):
            yield Rig(fleet, mortal, target, JournalClient(upload, stream, catalog, ""))


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


async def only_committed_chunks(rig: Rig, video_id: str) -> None:
    """Until the sweeper has removed every orphan."""
    count = (await rig.client.upload(video_id)).chunk_count
    async with open_objects(rig.fleet) as objects:

        async def swept() -> bool:
            return len(await keys_under(objects, f"journal/{video_id}/")) == count

        await until(swept)


APPEND_POINTS = [
    ("append.judged", 5000, False),
    ("append.stored", 5000, False),
    ("multipart.part", 17 * MIB, False),
    ("append.stored", 17 * MIB, False),
    ("append.moved", 17 * MIB, False),
    ("append.committed", 5000, True),
]


async def test_an_append_that_dies_is_there_once_or_not_at_all(rig: Rig) -> None:
    videos: list[tuple[str, bytes]] = []
    for point, size, is_in in APPEND_POINTS:
        await rig.arm(point)
        video_id = (await rig.client.create()).video_id
        await rig.client.append(video_id, b"acknowledged ")
        chunk, whole = noise(size), b"acknowledged "
        async with rig.of_mortal() as mortal:
            if point == "append.moved":
                await overtaken_append(rig, mortal, video_id, chunk, b"overtaking ")
                whole += b"overtaking "
            else:
                assert await refusal(mortal.append(video_id, chunk, idempotency_key="k")) in BROKEN, point
        await rig.has_died()
        now = await rig.client.whole(video_id)
        assert now == (whole + chunk if is_in else whole), point
        answer = await rig.client.append(video_id, chunk, idempotency_key="k")
        assert (answer.offset_bytes, answer.size_bytes) == (len(whole), len(whole) + len(chunk))
        videos.append((video_id, whole + chunk))
    await rig.sweep()
    for video_id, whole in videos:
        await only_committed_chunks(rig, video_id)
        assert await rig.client.whole(video_id) == whole


async def overtaken_append(rig: Rig, mortal: JournalClient, video_id: str, chunk: bytes, other: bytes) -> None:
    """Append `chunk` through the process that dies, and `other` while it is under way."""
    call = mortal.open_append()
    header = upload_pb2.AppendHeader(video_id=video_id, idempotency_key="k")
    for start in range(0, len(chunk), MIB):
        data = chunk[start : start + MIB]
        await call.write(upload_pb2.AppendRequest(header=None if start else header, data=data))
    async with open_objects(rig.fleet) as objects:

        async def is_under_way() -> bool:
            return any([True async for _ in objects.list_multiparts(f"journal/{video_id}/")])

        await until(is_under_way)
    await rig.client.append(video_id, other)
    await call.write(upload_pb2.AppendRequest(finish=True))
    with pytest.raises(grpc.aio.AioRpcError):
        await call


SEAL_POINTS = [
    "seal.frozen",
    "seal.recorded",
    "compact.begun",
    "compact.unnoted",
    "compact.multipart",
    "compact.part@1",
    "compact.part@3",
    "compact.completed",
    "compact.recorded",
    "compact.switched",
    "compact.removed",
]


async def test_a_seal_or_compaction_that_dies_is_finished_by_the_next(rig: Rig) -> None:
    # A small run, a large chunk that lends its beginning, one that is copied whole, a small end: four parts.
    chunks = [WEBM, *(noise(700_000 + index) for index in range(6)), noise(7 * MIB), noise(5 * MIB), b"end"]
    whole = b"".join(chunks)
    for point in SEAL_POINTS:
        await rig.arm(point)
        video = await rig.client.create()
        for chunk in chunks:
            last = await rig.client.append(video.video_id, chunk)
        async with rig.of_mortal() as mortal:
            with contextlib.suppress(ReelwayError):
                await mortal.seal(video.video_id)
        await rig.has_died()
        # Whatever is done and whatever not: the bytes are there.
        assert await rig.client.whole(video.video_id) == whole, point
        assert await refusal(rig.client.append(video.video_id, b"more")) is ErrorReason.UPLOAD_SEALED
        rig.mortal.env |= {"FAULT_POINT": "", "COMPACTION_INTERVAL_SECONDS": "0.1"}
        await rig.mortal.start()
        await until(lambda video=video: rig.client.is_compacted(video.video_id))  # type: ignore[misc]
        record = await rig.client.video(video.video_id)
        assert (record.state, record.etag, record.size_bytes) == (
            media_pb2.VIDEO_STATE_READY,
            last.etag,
            len(whole),
        )
        assert await rig.client.whole(video.video_id) == whole, point
        async with open_objects(rig.fleet) as objects:
            assert await objects.get(record.object_key) == whole

            async def nothing_is_left(video_id: str = video.video_id) -> bool:
                left = await keys_under(objects, f"journal/{video_id}/")
                return not left and [f"videos/{video_id}.webm"] == await keys_under(objects, f"videos/{video_id}")

            await until(nothing_is_left)


async def test_a_video_whose_seal_died_can_be_deleted_at_once(rig: Rig) -> None:
    await rig.arm("seal.frozen")
    anna = rig.client.as_user("anna")
    video_id = (await anna.create()).video_id
    await anna.append(video_id, WEBM)
    async with rig.of_mortal() as mortal:
        assert await refusal(mortal.as_user("anna").seal(video_id)) in BROKEN
    await rig.has_died()
    async with open_channel(rig.fleet.target("catalog")) as catalog, open_channel(rig.upload_target) as upload:
        set_caller(Caller("anna"))
        await Library(catalog, upload).remove(video_id)
    assert await refusal(anna.video(video_id)) is ErrorReason.VIDEO_NOT_FOUND


async def test_a_video_deleted_while_it_is_compacted_leaves_nothing(rig: Rig) -> None:
    await rig.arm("compact.begun")
    video_id = (await rig.client.create()).video_id
    for clip in (WEBM + noise(1000), MP4 + noise(2000)):
        await rig.client.append(video_id, clip)
    async with rig.of_mortal() as mortal:
        with contextlib.suppress(ReelwayError):
            await mortal.seal(video_id)
    await rig.has_died()
    await rig.client.delete(video_id)
    async with open_objects(rig.fleet) as objects:
        # What a run makes that the deletion overtakes: the clips, joined to a file of their common container.
        key = f"videos/{video_id}.mp4"
        await objects.put(key, b"joined", "video/mp4")
        await objects.create_multipart(key, "video/mp4")
        rig.mortal.env |= {"FAULT_POINT": "", "COMPACTION_INTERVAL_SECONDS": "0.1"}
        await rig.mortal.start()

        async def nothing_is_left() -> bool:
            return not await keys_under(objects, key)

        await until(nothing_is_left)


async def test_create_and_abort_that_die_are_taken_back(rig: Rig) -> None:
    await rig.arm("create.recorded")
    async with rig.of_mortal() as mortal:
        assert await refusal(mortal.create(title="half made")) in BROKEN
    await rig.has_died()
    [half_made] = [video.video_id for video in await rig.client.videos() if video.title == "half made"]
    await rig.arm("abort.stopped")
    video = await rig.client.create()
    await rig.client.append(video.video_id, noise(1000))
    async with rig.of_mortal() as mortal:
        assert await refusal(mortal.abort(video.video_id)) in BROKEN
    await rig.has_died()
    assert await refusal(rig.client.append(video.video_id, b"x")) is ErrorReason.VIDEO_NOT_FOUND

    async def are_gone() -> bool:
        return not {half_made, video.video_id} & {one.video_id for one in await rig.client.videos()}

    # The sweeper of idle uploads finishes what was begun.
    [other] = [one for one in rig.fleet.of("upload") if one is not rig.mortal]
    as_it_was = dict(other.env)
    other.env["APPEND_IDLE_EXPIRY_SECONDS"] = "0.1"
    await other.kill()
    await other.start()
    await until(are_gone)
    # No upload of another test is to be idle so soon.
    other.env = as_it_was
    await other.kill()
    await other.start()
    async with open_objects(rig.fleet) as objects:
        for gone in (half_made, video.video_id):
            assert await refusal(rig.client.video(gone)) is ErrorReason.VIDEO_NOT_FOUND

        async def nothing_is_left() -> bool:
            return not await keys_under(objects, f"journal/{video.video_id}/")

        await until(nothing_is_left)
