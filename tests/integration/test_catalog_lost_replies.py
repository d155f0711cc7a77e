"""Each answer of Redis and of the store gets lost once, in a change of a record; its caller asks again."""

import contextlib
import itertools

import pytest
from reelway.v1 import media_pb2

from services.common.errors import ReelwayError
from tests.integration.catalog_rig import UpdateRequest, catalog_sweeper, saved
from tests.support.foundation import Foundation, finished_video
from tests.support.lost_replies import reply_lost


@pytest.mark.parametrize("creates", [True, False], ids=["create", "update"])
async def test_a_change_that_is_repeated_behind_a_lost_answer_is_made_once(near: Foundation, creates: bool) -> None:
    # Redis has the scripts from here on.
    videos = [await near.catalog.create(finished_video(), "anna")]
    for number in itertools.count(1):
        video = finished_video() if creates else await near.catalog.create(finished_video(), "anna")
        request = UpdateRequest(video_id=video.video_id, title="changed")

        async def change(video: media_pb2.Video = video, request: UpdateRequest = request) -> media_pb2.Video:
            return await (near.catalog.create(video, "anna") if creates else near.catalog.update("anna", request))

        with reply_lost(number) as calls, contextlib.suppress(ReelwayError):
            await change()
        videos.append(await change())
        if calls.made < number:
            break
    near.clock.ahead = 60
    await catalog_sweeper(near).sweep()
    for video in videos:
        assert await near.catalog.look_up(video.video_id) == video == await saved(near, video.video_id)
    assert [video.version for video in videos[1:]] == [1 if creates else 2] * (len(videos) - 1)
    assert len({video.number for video in videos}) == len(videos)
    assert [unsaved async for unsaved in near.videos.unsaved_before(float("inf"))] == []
