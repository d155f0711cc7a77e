"""What an upload left behind is swept once nobody can go on with it; what lives, or became a video, never is."""

import asyncio
import time
import uuid

import pytest
from reelway.v1 import catalog_pb2, media_pb2
from structlog.testing import capture_logs

from services.catalog.rebuild import rebuild
from services.common import redis_client
from services.common.byte_messages import UploadMessage
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.settings import RedisSettings
from services.upload.open_uploads import OpenUpload, OpenUploads
from services.upload.part_plan import PART
from tests.support.clips import mp4_of
from tests.support.foundation import NOTHING, Foundation, Messages, Store, as_user, foundation, messages
from tests.support.journal_client import refusal
from tests.support.waiting import until


@pytest.mark.parametrize("client_leaves", [False, True])
async def test_what_the_store_began_without_an_answer_is_swept(
    parts: Foundation, monkeypatch: pytest.MonkeyPatch, client_leaves: bool
) -> None:
    begin, begun, may_fail = parts.objects.create_multipart, asyncio.Event(), asyncio.Event()

    async def unanswered(key: str, content_type: str) -> str:
        await begin(key, content_type)
        begun.set()
        await may_fail.wait()
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    monkeypatch.setattr(parts.objects, "create_multipart", unanswered)
    upload = asyncio.create_task(parts.uploads.upload(messages(mp4_of(100_000))))
    await begun.wait()
    if client_leaves:
        upload.cancel()
        await asyncio.wait([upload])
    may_fail.set()
    await asyncio.wait([upload])
    await parts.uploads.undoing.wait()
    parts.clock.ahead = 61
    await parts.sweeper().sweep()
    assert await parts.leftovers() == NOTHING


@pytest.mark.parametrize(
    "reason", [ErrorReason.SERVICE_UNAVAILABLE, ErrorReason.CALL_TOKEN_REFUSED, ErrorReason.TOO_MANY_REQUESTS]
)
async def test_a_catalogue_that_is_away_at_the_end_leaves_the_sweep_to_decide(
    parts: Foundation, reason: ErrorReason
) -> None:
    """Whether the record was made is not known, nor by a try before the last one; the bytes stay until it is."""
    for done in (False, True):
        parts.near.failure, parts.near.after = ReelwayError(reason), done
        assert await refusal(parts.uploads.upload(messages(mp4_of(100_000)))) is ErrorReason.STORE_UNAVAILABLE
        left = await parts.leftovers()
        assert left["objects"] == left["entries"]
        assert len(left["entries"]) == 1
        await parts.sweeper().sweep()
        assert await parts.leftovers() == left, "its time is not up"
        parts.near.failure = None
        parts.clock.ahead += 61
        await parts.sweeper().sweep()
        left = await parts.leftovers()
        assert left["multiparts"] == left["entries"] == []
        assert len(left["objects"]) == len(left["records"]) == int(done)


async def test_a_catalogue_that_cannot_be_asked_keeps_the_sweep_from_deleting(parts: Foundation) -> None:
    parts.near.failure, parts.near.after = ReelwayError(ErrorReason.SERVICE_UNAVAILABLE), True
    with pytest.raises(ReelwayError):
        await parts.uploads.upload(messages(mp4_of(100_000)))
    parts.clock.ahead = 61
    await parts.redis.delete("{catalog}:index:3")
    await parts.sweeper().sweep()
    left = await parts.leftovers()
    assert len(left["objects"]) == len(left["entries"]) == 1


async def test_an_index_that_is_lost_when_the_record_is_saved_keeps_the_bytes(
    parts: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is in S3 by then, and the rebuilt index has it: its object must be there."""
    save, data = parts.records.save, mp4_of(100_000)

    async def then_lost(video: media_pb2.Video) -> None:
        await save(video)
        lease = parts.rebuild_lease()
        await lease.hold(lambda: parts.videos.clear(lease))
        await lease.release()

    monkeypatch.setattr(parts.records, "save", then_lost)
    with pytest.raises(ReelwayError):
        await parts.uploads.upload(messages(data))
    await rebuild(parts.records, parts.objects, parts.videos, parts.rebuild_lease(), writers_seconds=0)
    parts.clock.ahead = 61
    await parts.sweeper().sweep()
    (video,), _ = await parts.catalog.page("", 10, "")
    assert await parts.is_whole(video, data)
    assert (await parts.leftovers())["entries"] == []


async def test_an_upload_that_redis_forgets_on_its_way_to_the_catalog_leaves_nothing(
    parts: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = parts.near.create

    async def late(video: media_pb2.Video) -> media_pb2.Video:
        await parts.redis.flushall()
        return await create(video)

    monkeypatch.setattr(parts.near, "create", late)
    assert await refusal(parts.uploads.upload(messages(mp4_of(100_000)))) is ErrorReason.STORE_UNAVAILABLE
    await rebuild(parts.records, parts.objects, parts.videos, parts.rebuild_lease(), writers_seconds=0)
    parts.clock.ahead = 61
    await parts.sweeper().sweep()
    assert await parts.leftovers() == NOTHING


async def test_a_private_video_s_bytes_are_never_swept(parts: Foundation) -> None:
    """Its entry survived a crash between the record and the strike-out; only its owner sees the record."""
    as_user("anna")
    video = await parts.uploads.upload(messages(mp4_of(100_000)))
    await parts.catalog.update("anna", catalog_pb2.UpdateVideoRequest(video_id=video.video_id, is_private=True))
    await parts.register.begin(OpenUpload(video.video_id, video.object_key, "anna"))
    as_user("")
    parts.clock.ahead = 61
    await parts.sweeper().sweep()
    left = await parts.leftovers()
    assert left["objects"] == [video.object_key]
    assert left["entries"] == []


async def test_a_live_upload_is_never_swept(parts: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lasts for more than two leases; each beat of its heart gives it a whole one anew."""
    swept, beats = asyncio.Event(), [0.0]
    data, renew = mp4_of(PART + 100_000), parts.register.renew

    async def slow() -> Messages:
        async for message in messages(data[:-1]):
            yield message
        await swept.wait()
        yield UploadMessage([data[-1:]])

    async def beating(upload: OpenUpload) -> bool:
        begun = parts.clock.seconds()
        is_kept = await renew(upload)
        beats.append(begun)
        return is_kept

    async def has_multipart() -> bool:
        return bool((await parts.leftovers())["multiparts"])

    assert parts.register.heartbeat_seconds == 60 / 4, "three may be late"
    monkeypatch.setattr(OpenUploads, "heartbeat_seconds", 0.02)
    monkeypatch.setattr(parts.register, "renew", beating)
    upload = asyncio.create_task(parts.uploads.upload(slow()))
    await until(has_multipart)
    for _ in range(3):
        parts.clock.ahead += 50
        now = parts.clock.seconds()
        await until(lambda now=now: beats[-1] >= now)  # type: ignore[misc]
        await parts.sweeper(orphan_seconds=0).sweep()
    assert not upload.done()
    swept.set()
    assert await parts.is_whole(await upload, data)


async def test_a_live_upload_is_not_swept_by_a_process_whose_clock_is_ahead(
    clean_redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one whose own clock is behind lose what it has just begun."""
    async with redis_client.connect(RedisSettings(redis_url=clean_redis)) as client:
        register, upload = OpenUploads(client, 60), OpenUpload("a", "videos/a.mp4", "")
        await register.begin(upload)
        monkeypatch.setattr(time, "time", lambda now=time.time: now() + 120)
        assert await register.take_expired() == []
        assert await register.renew(upload)


async def test_an_upload_that_breaks_its_sweep_keeps_no_other_waiting(
    parts: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor what Redis does not know of."""
    abort, met = parts.objects.abort_multiparts, list[str]()

    async def broken_once(prefix: str) -> None:
        met.append(prefix)
        if len(met) == 1:
            raise RuntimeError("nobody foresaw this")
        await abort(prefix)

    monkeypatch.setattr(parts.objects, "abort_multiparts", broken_once)
    for number in range(2):
        await parts.register.begin(OpenUpload(str(uuid.uuid4()), f"videos/{number}.mp4", "anna"))
    await parts.objects.create_multipart("videos/unknown.mp4", "video/mp4")
    parts.clock.ahead = 61
    with capture_logs() as lines:
        await parts.sweeper(orphan_seconds=30).sweep()
    assert len(met) == 2
    assert await parts.register.keys() == {met[0]}
    assert (await parts.leftovers())["multiparts"] == []
    assert [line["what"] for line in lines if line["event"] == "failed"] == ["sweep of an upload"]


@pytest.mark.usefixtures("hasty_writes")
async def test_an_upload_that_was_swept_while_it_was_frozen_makes_no_video(parts: Foundation) -> None:
    """A process that was stopped for longer than its lease wakes up to find its object gone."""
    data = mp4_of(100_000)

    async def frozen() -> Messages:
        async for message in messages(data):
            yield message
        parts.clock.ahead += 61
        await parts.sweeper().sweep()

    assert await refusal(parts.uploads.upload(frozen())) is ErrorReason.STORE_UNAVAILABLE
    parts.clock.ahead += 61
    await parts.sweeper().sweep()
    assert await parts.leftovers() == NOTHING


async def test_an_upload_that_wakes_up_while_it_is_swept_makes_no_video(
    parts: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen with its object complete; it goes on when the sweeper has asked for the record, and not yet deleted."""
    asleep, woken = asyncio.Event(), asyncio.Event()
    renew, get = parts.register.renew, parts.near.get

    async def late(upload: OpenUpload) -> bool:
        asleep.set()
        await woken.wait()
        return await renew(upload)

    monkeypatch.setattr(parts.register, "renew", late)
    upload = asyncio.create_task(parts.uploads.upload(messages(mp4_of(100_000))))
    await asleep.wait()

    async def then_it_wakes(*, video_id: str = "", number: int = 0) -> media_pb2.Video:
        try:
            return await get(video_id=video_id, number=number)
        finally:
            woken.set()
            await asyncio.wait([upload])

    monkeypatch.setattr(parts.near, "get", then_it_wakes)
    parts.clock.ahead = 61
    await parts.sweeper().sweep()
    assert await refusal(upload) is ErrorReason.STORE_UNAVAILABLE
    assert await parts.leftovers() == NOTHING


@pytest.mark.parametrize("away", [False, True])
async def test_an_upload_that_was_swept_on_its_way_to_the_catalog_makes_no_video(
    parts: Foundation, monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    """Frozen behind its last look at the register, and in front of the catalog, which may be away when it is undone."""
    create, asked = parts.near.create, []

    async def late(video: media_pb2.Video) -> media_pb2.Video:
        asked.append(video.video_id)
        parts.clock.ahead = 61
        await parts.sweeper().sweep()
        return await create(video)

    async def unavailable(video_id: str) -> None:
        raise ReelwayError(ErrorReason.SERVICE_UNAVAILABLE)

    monkeypatch.setattr(parts.near, "create", late)
    with monkeypatch.context() as patched:
        if away:
            patched.setattr(parts.near, "delete", unavailable)
        assert await refusal(parts.uploads.upload(messages(mp4_of(100_000)))) is ErrorReason.STORE_UNAVAILABLE
    parts.clock.ahead += 61
    await parts.sweeper().sweep()
    assert await refusal(parts.near.get(video_id=asked[0])) is ErrorReason.VIDEO_NOT_FOUND
    # The record of a video that was deleted stays for its number.
    assert await parts.leftovers() == NOTHING | {"records": [f"catalog/{asked[0]}.json"]}


@pytest.mark.parametrize("cancels", ["heartbeat", "client"])
async def test_what_a_swept_upload_recorded_is_undone_to_the_end(
    each_store: Store, clean_redis: str, monkeypatch: pytest.MonkeyPatch, cancels: str
) -> None:
    """When it wakes up, its heart beats and finds the entry gone, and the gateway has long broken the call off."""
    async with foundation(each_store, clean_redis, lease_seconds=0.4 if cancels == "heartbeat" else 60) as parts:
        create = parts.near.create

        async def late(video: media_pb2.Video) -> media_pb2.Video:
            parts.clock.ahead = 61
            await parts.sweeper().sweep()
            recorded = await create(video)
            if cancels == "client":
                upload.cancel()
            else:
                await asyncio.sleep(2 * parts.register.heartbeat_seconds)
            return recorded

        monkeypatch.setattr(parts.near, "create", late)
        upload = asyncio.create_task(parts.uploads.upload(messages(mp4_of(100_000))))
        await asyncio.wait([upload])
        assert upload.cancelled() or upload.exception() is not None
        await parts.uploads.undoing.wait()
        assert (await parts.catalog.page("", 10, ""))[0] == []


async def test_multipart_uploads_that_nobody_knows_are_swept_when_they_are_old(
    juicefs_store: Store, clean_redis: str
) -> None:
    """Redis was emptied under them; a living one has its entry. (moto's multipart uploads all began in 2010.)"""
    async with foundation(juicefs_store, clean_redis) as parts:
        known = OpenUpload("a", "videos/a.mp4", "")
        await parts.register.begin(known)
        await parts.objects.create_multipart(known.key, "video/mp4")
        await parts.objects.create_multipart("videos/b.mp4", "video/mp4")
        await parts.sweeper(orphan_seconds=30).sweep()
        assert sorted((await parts.leftovers())["multiparts"]) == ["videos/a.mp4", "videos/b.mp4"]
        parts.clock.ahead = 40
        await parts.sweeper(orphan_seconds=30).sweep()
        assert (await parts.leftovers())["multiparts"] == ["videos/a.mp4"]


async def test_what_uploads_left_is_swept_some_at_a_time(near: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is half a dozen requests: one by one, what an outage of the store left would take as long as that lasted."""
    for number in range(4):
        await near.register.begin(OpenUpload(str(uuid.uuid4()), f"videos/{number}.mp4", ""))
    abort, together = near.objects.abort_multiparts, asyncio.Barrier(2)

    async def not_alone(prefix: str) -> None:
        await together.wait()
        await abort(prefix)

    monkeypatch.setattr(near.objects, "abort_multiparts", not_alone)
    near.clock.ahead = 61
    async with asyncio.timeout(10):
        await near.sweeper().sweep()
    assert await near.leftovers() == NOTHING


async def test_a_failed_upload_does_not_keep_the_next_from_being_swept(
    parts: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One entry that cannot be judged now must not hold up the others."""
    for number in range(3):
        await parts.register.begin(OpenUpload(str(uuid.uuid4()), f"videos/{number}.mp4", ""))
        await parts.objects.put(f"videos/{number}.mp4", b"bytes", "video/mp4")
    parts.clock.ahead = 61
    delete = parts.objects.delete

    async def failing(key: str) -> None:
        if key == "videos/0.mp4":
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
        await delete(key)

    with monkeypatch.context() as patch:
        patch.setattr(parts.objects, "delete", failing)
        await parts.sweeper().sweep()
    left = await parts.leftovers()
    assert left["objects"] == left["entries"] == ["videos/0.mp4"]
    parts.clock.ahead = 0
    await parts.sweeper().sweep()
    assert await parts.leftovers() == NOTHING, "what a sweep took is for the next one"
