"""Changes of the library that something broke into, on a real Redis and a real store."""

import pytest
from reelway.v1 import media_pb2

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.upload.signatures import Signatures
from services.upload.signing import Signing
from tests.integration.catalog_rig import library_of
from tests.support.foundation import Foundation, as_user, finished_video
from tests.support.journal_client import refusal
from tests.support.lost_replies import reply_lost

ANNA = "anna"


async def new_video(parts: Foundation) -> media_pb2.Video:
    video = finished_video()
    await parts.objects.put(video.object_key, b"bytes", "video/mp4")
    return await parts.catalog.create(video, ANNA)


@pytest.mark.parametrize("broken", ["put", "delete"])
@pytest.mark.parametrize("by", ["library", "catalog"])
async def test_a_deletion_that_the_store_broke_off_is_carried_through_by_the_next_try(
    near: Foundation, monkeypatch: pytest.MonkeyPatch, by: str, broken: str
) -> None:
    """The channel tries again by itself: its caller must not be told that there never was such a video."""
    video = await new_video(near)
    delete = library_of(near).remove if by == "library" else near.catalog.delete

    async def failing(*_: object) -> None:
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    with monkeypatch.context() as patch:
        patch.setattr(near.objects, broken, failing)
        for _ in range(2):
            assert await refusal(delete(ANNA, video.video_id)) is ErrorReason.STORE_UNAVAILABLE
    assert await refusal(delete("boris", video.video_id)) is ErrorReason.VIDEO_NOT_FOUND
    await delete(ANNA, video.video_id)
    assert [info.key async for info in near.objects.list("")] == [f"catalog/{video.video_id}.json"]
    assert await refusal(delete(ANNA, video.video_id)) is ErrorReason.VIDEO_NOT_FOUND


async def test_a_signature_that_could_not_be_recorded_takes_no_place(near: Foundation) -> None:
    """The catalogue is away, or the answer of Redis is lost, and the client tries again."""
    as_user(ANNA)
    signatures = Signatures(near.redis, near.clock, per_owner=1, seconds=60)
    signing = Signing(near.objects, near.client, signatures, max_bytes=1, content_types=["video/mp4"], seconds=60)
    near.near.failure = ReelwayError(ErrorReason.SERVICE_UNAVAILABLE)
    for _ in range(2):
        assert await refusal(signing.sign("a.mp4", "video/mp4")) is ErrorReason.SERVICE_UNAVAILABLE
    near.near.failure = None
    with reply_lost(1):
        assert await refusal(signing.sign("a.mp4", "video/mp4")) is ErrorReason.STORE_UNAVAILABLE
    await signing.sign("a.mp4", "video/mp4")
    assert await refusal(signing.sign("a.mp4", "video/mp4")) is ErrorReason.TOO_MANY_UPLOADS
    near.clock.ahead = 61
    await signing.sign("a.mp4", "video/mp4")
