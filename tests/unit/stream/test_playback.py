"""Who may read is asked anew soon wherever the answer is remembered once more."""

from typing import Any, cast

from reelway.v1 import media_pb2

from services.common.catalog_client import CatalogClient
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.stream.playback import Playback
from services.stream.video_cache import VideoCache
from tests.support.waiting import until


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


async def refusals(playback: Playback) -> list[ErrorReason | None]:
    found: list[ErrorReason | None] = []
    for asked in (playback.stat(video_id="v1"), playback.stat(number=1), playback.presign("v1", 60, "video/mp4", "")):
        try:
            await asked
            found.append(None)
        except ReelwayError as error:
            found.append(error.reason)
    return found


async def test_what_was_hidden_is_not_found_long_before_reads_are_refused() -> None:
    catalog, finder = Catalog(), cast(Any, Finder())
    playback = Playback(VideoCache(cast(CatalogClient, catalog), 10), finder, finder)
    assert await refusals(playback) == [None] * 3
    catalog.hidden = True

    async def all_are_refused() -> bool:
        return await refusals(playback) == [ErrorReason.VIDEO_NOT_FOUND] * 3

    await until(all_are_refused, 5)
