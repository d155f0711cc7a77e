"""Who may read is asked anew wherever somebody decides by the answer."""

from typing import Any, cast

import pytest
from reelway.v1 import media_pb2

from services.common.catalog_client import CatalogClient
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.stream.playback import Playback
from services.stream.video_cache import VideoCache


class Catalog:
    """Has one video, until it is hidden."""

    hidden = False

    async def get(self, *, video_id: str = "", number: int = 0) -> media_pb2.Video:
        if self.hidden:
            raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
        return media_pb2.Video(video_id="v1", state=media_pb2.VIDEO_STATE_READY, object_key="videos/v1.mp4")


class Finder:
    """Stands for the versions of a video, and for the store that signs."""

    async def find(self, video: media_pb2.Video) -> media_pb2.Video:
        return video

    async def presign_get(self, *args: Any) -> str:
        return "signed"


async def test_what_was_hidden_is_not_found_however_long_answers_are_kept() -> None:
    catalog, finder = Catalog(), cast(Any, Finder())
    playback = Playback(VideoCache(cast(CatalogClient, catalog), 1000), finder, finder)
    await playback.stat(video_id="v1")
    assert await playback.presign("v1", 60, "video/mp4", "") == "signed"
    catalog.hidden = True
    for asked in (playback.stat(video_id="v1"), playback.stat(number=1), playback.presign("v1", 60, "video/mp4", "")):
        with pytest.raises(ReelwayError) as refused:
            await asked
        assert refused.value.reason is ErrorReason.VIDEO_NOT_FOUND
