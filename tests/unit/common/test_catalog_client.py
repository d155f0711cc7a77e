"""What the other services read of the catalogue in more than one call."""

from typing import Any
from unittest.mock import Mock

from reelway.v1 import catalog_pb2, media_pb2

from services.common.caller import SYSTEM_USER, from_metadata
from services.common.catalog_client import CatalogClient

GROWS, READY = media_pb2.VIDEO_STATE_UPLOADING, media_pb2.VIDEO_STATE_READY


async def test_all_that_grow_are_told_page_by_page_and_nothing_else() -> None:
    """A page may be empty before the last one; an older catalogue lists what does not grow."""
    pages = {"": (GROWS, "1"), "1": (None, "2"), "2": (READY, "3"), "3": (GROWS, "")}

    async def list_videos(request: catalog_pb2.ListVideosRequest, metadata: Any, **_: Any) -> Any:
        assert from_metadata(metadata).user == SYSTEM_USER
        state, behind = pages[request.page_token]
        videos = [] if state is None else [media_pb2.Video(video_id=request.page_token, state=state)]
        return catalog_pb2.ListVideosResponse(videos=videos, next_page_token=behind)

    catalog = CatalogClient(Mock())
    catalog._stub = Mock(ListVideos=list_videos)
    assert [video_id async for video_id in catalog.growing()] == ["", "3"]
