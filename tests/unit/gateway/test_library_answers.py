"""Dialect 003's answers to what no video of a test's length, library or system shows."""

from __future__ import annotations

import json
from typing import cast
from unittest.mock import AsyncMock, Mock

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from google.protobuf.timestamp_pb2 import Timestamp
from reelway.v1 import library_pb2, media_pb2

from gateway.keys import LIBRARY
from gateway.operations.library import Library
from gateway.routes import library
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError


def asked_of(**methods: AsyncMock) -> web.Request:
    """A request to a gateway whose library does this."""
    app = web.Application()
    app[LIBRARY] = cast(Library, Mock(**methods))
    return make_mocked_request("GET", "/", app=app)


async def test_a_video_as_it_is_told() -> None:
    video = media_pb2.Video(
        video_id="v",
        owner="anna",
        create_time=Timestamp(seconds=1),
        upload_time=Timestamp(seconds=2, nanos=34_567_899),
        listing_time=Timestamp(seconds=86_400),
        title="A film",
        duration_seconds=1.6,
    )
    draft, recorded = media_pb2.Video(), media_pb2.Video(create_time=Timestamp(seconds=1))
    draft.CopyFrom(video)
    draft.ClearField("listing_time")
    videos = [library_pb2.LibraryVideo(video=each) for each in (video, draft, recorded)]
    found = library_pb2.ListOwnResponse(videos=videos, next_page_token="there")
    answer = await library.my(asked_of(own=AsyncMock(return_value=found)), library.PageQuery())
    assert answer.text is not None
    published, unpublished, bare = json.loads(answer.text)["videos"]
    assert published == {
        "hash_id": "v",
        "user_id": "anna",
        "upload_time": "1970-01-01T00:00:02.034567Z",
        "title": "A film",
        "description": "",
        "size_in_bytes": 0,
        "duration_seconds": 2,
        "is_private": False,
        "listing_time": "1970-01-02T00:00:00.000000Z",
    }
    assert published.keys() - unpublished.keys() == {"description", "listing_time"}
    assert bare == {
        "hash_id": "", "upload_time": "1970-01-01T00:00:01.000000Z", "size_in_bytes": 0, "is_private": False
    }  # fmt: skip
    assert json.loads(answer.text)["next"] == "there"


async def test_an_upload_that_is_no_video_as_it_is_told() -> None:
    waiting = media_pb2.Video(
        video_id="v", owner="anna", file_name="a.mp4", title="A film", upload_time=Timestamp(seconds=2)
    )
    failures = (
        media_pb2.PROCESSING_FAILURE_INTERNAL,
        media_pb2.PROCESSING_FAILURE_TOO_LARGE,
        media_pb2.PROCESSING_FAILURE_CORRUPTED,
        media_pb2.PROCESSING_FAILURE_UNSUPPORTED,
        media_pb2.PROCESSING_FAILURE_UNSPECIFIED,
    )
    failed = [media_pb2.Video(state=media_pb2.VIDEO_STATE_FAILED, failure=failure) for failure in failures]
    found = library_pb2.ListOwnResponse(unprocessed=[waiting, *failed])
    answer = await library.my(asked_of(own=AsyncMock(return_value=found)), library.PageQuery())
    assert answer.text is not None
    first, *others = json.loads(answer.text)["unprocessed_videos"]
    upload_time = "1970-01-01T00:00:02.000000Z"
    assert first == {"hash_id": "v", "user_id": "anna", "file_name": "a.mp4", "upload_time": upload_time}
    assert [each["failure_reason"] for each in others] == [
        "Internal error, please try again later",
        "Maximum file size exceeded",
        "Corrupted/Invalid file",
        "Unsupported video type",
        # Of a kind that is newer than this gateway.
        "Internal error, please try again later",
    ]


async def test_an_outage_is_not_an_answer_without_words() -> None:
    away = AsyncMock(side_effect=ReelwayError(ErrorReason.SERVICE_UNAVAILABLE))
    request, path = asked_of(edit=away, remove=away), library.VideoPath(hash_id="v")
    for asked in (library.edit(request, path, library.Video()), library.delete(request, path)):
        with pytest.raises(ReelwayError):
            await asked
