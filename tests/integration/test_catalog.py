"""Whose records they are, what may be in them, and who sees them, on a real Redis and S3."""

import asyncio
import uuid
from collections.abc import Sequence

import pytest
from reelway.v1 import library_pb2, media_pb2

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.request_limits import TITLE_LENGTH
from tests.integration.catalog_rig import UpdateRequest, draft, library_of, saved
from tests.support.foundation import Foundation
from tests.support.journal_client import refusal


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"video_id": "no uuid"}, "video_id"),
        ({"video_id": "0DB06C3C-0000-4000-8000-000000000000"}, "video_id"),
        ({"state": media_pb2.VIDEO_STATE_DELETED}, "state"),
        ({"state": media_pb2.VIDEO_STATE_UNSPECIFIED}, "state"),
        ({"state": media_pb2.VIDEO_STATE_SIGNED}, "state"),
        ({"title": "x" * 256}, "title"),
        ({"description": "x" * 10_001}, "description"),
        ({"file_name": "x" * 256}, "file_name"),
        ({"file_name": "../x.mp4"}, "file_name"),
        ({"file_name": "C:\\x.mp4"}, "file_name"),
        ({"file_name": "a\nb.mp4"}, "file_name"),
        ({"container": media_pb2.CONTAINER_UNSPECIFIED}, "container"),
        ({"size_bytes": 0}, "size_bytes"),
        ({"size_bytes": -5}, "size_bytes"),
        ({"sha256": "0" * 65}, "sha256"),
        ({"sha256": "F" * 64}, "sha256"),
        ({"etag": ""}, "etag"),
        ({"etag": "bare"}, "etag"),
        ({"etag": 'W/"weak"'}, "etag"),
        ({"etag": '"a\r\nb"'}, "etag"),
        ({"object_key": ""}, "object_key"),
        ({"object_key": "videos/4d1c6c5e-5b0f-4c39-9a3d-1f0e8b7a2c64.mp4"}, "object_key"),
        ({"object_key": "catalog/4d1c6c5e-5b0f-4c39-9a3d-1f0e8b7a2c64.json"}, "object_key"),
    ],
)
async def test_a_record_that_breaks_a_rule_is_refused(near: Foundation, fields: dict[str, object], field: str) -> None:
    with pytest.raises(ReelwayError) as refused:
        await near.catalog.create(draft(**fields), "")
    assert refused.value.reason is ErrorReason.INVALID_REQUEST
    assert [violation.field for violation in refused.value.violations] == [field]


@pytest.mark.parametrize("state", [media_pb2.VIDEO_STATE_UPLOADING, media_pb2.VIDEO_STATE_SIGNED])
async def test_a_video_without_bytes_says_nothing_of_them(
    near: Foundation, state: media_pb2.VideoState.ValueType
) -> None:
    with pytest.raises(ReelwayError) as refused:
        await near.catalog.create(draft(state=state, sha256="0" * 64), "anna")
    told = {violation.field for violation in refused.value.violations}
    assert told == {"container", "size_bytes", "sha256", "etag", "object_key"}


async def test_what_the_catalogue_sets_cannot_be_set(near: Foundation) -> None:
    told = draft(owner="berta", number=99, version=7, is_private=True, thumbnail_key="catalog/x.json")
    told.transcript.result.key = "x"
    for time in (told.create_time, told.modify_time, told.listing_time, told.process_time):
        time.seconds = 2**60  # no JSON has such a time: neither has S3
    video = await near.catalog.create(told, "anna")
    assert video.create_time.ToDatetime() == video.modify_time.ToDatetime()
    ours = media_pb2.Video(owner="anna", number=1, version=1, create_time=video.create_time)
    ours.modify_time.CopyFrom(video.create_time)
    for name in ("video_id", "state", "container", "size_bytes", "etag", "object_key"):
        setattr(ours, name, getattr(told, name))
    assert video == ours


async def test_who_may_see_and_who_may_change(near: Foundation) -> None:
    hers = await near.catalog.create(draft(), "anna")
    nobody_s = await near.catalog.create(draft(), "")
    for user in ("", "anna", "berta"):
        assert (await near.catalog.get(user, video_id=hers.video_id)).number == hers.number
        assert (await near.catalog.get(user, number=nobody_s.number)).video_id == nobody_s.video_id
    for user in ("", "berta"):
        request = UpdateRequest(video_id=hers.video_id, title="mine")
        assert await refusal(near.catalog.update(user, request)) is ErrorReason.NOT_THE_OWNER
        assert await refusal(near.catalog.delete(user, hers.video_id)) is ErrorReason.NOT_THE_OWNER
    await near.catalog.update("berta", UpdateRequest(video_id=nobody_s.video_id, title="anybody's"))
    private = await near.catalog.update("anna", UpdateRequest(video_id=hers.video_id, is_private=True))
    assert await near.catalog.get("anna", number=hers.number) == private
    for user in ("", "berta"):
        assert await refusal(near.catalog.get(user, video_id=hers.video_id)) is ErrorReason.VIDEO_NOT_FOUND
        assert await refusal(near.catalog.get(user, number=hers.number)) is ErrorReason.VIDEO_NOT_FOUND
        assert await refusal(near.catalog.update(user, UpdateRequest(video_id=hers.video_id))) is (
            ErrorReason.VIDEO_NOT_FOUND
        )
        assert await refusal(near.catalog.delete(user, hers.video_id)) is ErrorReason.VIDEO_NOT_FOUND


async def test_what_nobody_owns_cannot_be_made_private(near: Foundation) -> None:
    video = await near.catalog.create(draft(), "")
    request = UpdateRequest(video_id=video.video_id, is_private=True)
    assert await refusal(near.catalog.update("anna", request)) is ErrorReason.INVALID_REQUEST


async def test_an_update_changes_what_is_set_and_counts(near: Foundation) -> None:
    video = await near.catalog.create(draft(title="t", description="d"), "anna")
    near.clock.ahead = 100
    changed = await near.catalog.update("anna", UpdateRequest(video_id=video.video_id, title="", expected_version=1))
    assert (changed.title, changed.description, changed.version) == ("", "d", 2)
    assert changed.modify_time == video.modify_time, "it is the time of the bytes"
    for nothing in (UpdateRequest(), UpdateRequest(title="", description="d", is_private=False, expected_version=2)):
        nothing.video_id = video.video_id
        assert await near.catalog.update("anna", nothing) == changed, "a version is a change"
    stale = UpdateRequest(video_id=video.video_id, title="x", expected_version=1)
    assert await refusal(near.catalog.update("anna", stale)) is ErrorReason.VERSION_CONFLICT
    await near.catalog.update("anna", UpdateRequest(video_id=video.video_id, title="x" * TITLE_LENGTH))
    long = UpdateRequest(video_id=video.video_id, title="x" * (TITLE_LENGTH + 1))
    assert await refusal(near.catalog.update("anna", long)) is ErrorReason.INVALID_REQUEST


async def test_updates_at_once_are_all_applied(near: Foundation) -> None:
    video = await near.catalog.create(draft(), "anna")
    await asyncio.gather(
        near.catalog.update("anna", UpdateRequest(video_id=video.video_id, title="t")),
        near.catalog.update("anna", UpdateRequest(video_id=video.video_id, description="d")),
        near.catalog.update("anna", UpdateRequest(video_id=video.video_id, is_private=True)),
    )
    after = await near.catalog.get("anna", video_id=video.video_id)
    assert (after.title, after.description, after.is_private, after.version) == ("t", "d", True, 4)
    assert await saved(near, video.video_id) == after


async def test_pages_have_what_the_caller_may_see(near: Foundation) -> None:
    """Without what somebody else has not published, which one must know of."""
    owners = ("", "anna", "berta", "anna", "", "anna", "anna")
    videos = [await near.catalog.create(draft(), owner) for owner in owners]
    library = library_of(near)
    for video in videos[5:]:
        await library.edit("anna", library_pb2.EditRequest(video_id=video.video_id, title="t", description="d"))
    for video in (videos[3], videos[5]):
        await near.catalog.update("anna", UpdateRequest(video_id=video.video_id, is_private=True))

    async def numbers(user: str, size: int) -> list[list[int]]:
        pages: list[list[int]] = []
        token = ""
        while True:
            page, token = await near.catalog.page(user, size, token)
            pages.append([video.number for video in page])
            if not token:
                return pages

    assert await numbers("", 0) == [[1, 5, 7]]
    assert await numbers("anna", 2) == [[1, 2], [4, 5], [6, 7]]
    assert await numbers("berta", 2) == [[1, 3], [5, 7]]
    assert await numbers("carla", 1) == [[1], [5], [7]]
    await near.catalog.update("anna", UpdateRequest(video_id=videos[6].video_id, is_private=True))
    assert await numbers("berta", 0) == [[1, 3, 5]]
    for size in (-1, 1001):
        assert await refusal(near.catalog.page("", size, "")) is ErrorReason.INVALID_REQUEST
    page, token = await near.catalog.page("anna", 1, "", skip=2)
    assert [video.number for video in page] == [4]
    assert [video.number for video in (await near.catalog.page("anna", 1, token, skip=1))[0]] == [6]
    assert await near.catalog.page("anna", 1, "", skip=2**63 - 1) == ([], "")
    assert await refusal(near.catalog.page("", 0, "", skip=-1)) is ErrorReason.INVALID_REQUEST


async def test_what_went_while_a_page_was_read_is_not_on_it(near: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look into the lists and the look at the records."""
    videos = [await near.catalog.create(draft(), "anna") for _ in range(3)]
    beginning = near.videos.beginning

    async def late(video_ids: Sequence[str]) -> list[media_pb2.Video]:
        monkeypatch.undo()
        await near.catalog.delete("anna", videos[1].video_id)
        return await beginning(video_ids)

    monkeypatch.setattr(near.videos, "beginning", late)
    page, token = await near.catalog.page("anna", 2, "")
    assert [video.number for video in page] == [1]
    page, token = await near.catalog.page("anna", 2, token)
    assert ([video.number for video in page], token) == ([3], "")


async def test_a_video_id_that_cannot_be_is_not_found(near: Foundation) -> None:
    for video_id in ("x", "..", "0DB06C3C-0000-4000-8000-000000000000", str(uuid.uuid4())[:-1], "é"):
        assert await refusal(near.catalog.get("", video_id=video_id)) is ErrorReason.VIDEO_NOT_FOUND
        assert await refusal(near.catalog.delete("", video_id)) is ErrorReason.VIDEO_NOT_FOUND
