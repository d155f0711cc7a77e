"""What the tests of the catalogue's use cases begin with, and look at behind them."""

from reelway.v1 import catalog_pb2, media_pb2

from services.catalog.library import Library
from services.catalog.library_store import LibraryStore
from services.catalog.processing import Processing
from services.catalog.rebuild import rebuild
from services.catalog.sweeper import Sweeper
from services.common.lease import Lease
from tests.support.foundation import Foundation, finished_video

UpdateRequest = catalog_pb2.UpdateVideoRequest


def draft(**fields: object) -> media_pb2.Video:
    video = finished_video()
    for name, value in fields.items():
        setattr(video, name, value)
    return video


def library_of(parts: Foundation) -> Library:
    return Library(parts.catalog, parts.videos, LibraryStore(parts.redis), parts.clock)


async def saved(parts: Foundation, video_id: str) -> media_pb2.Video:
    """The record of truth."""
    record = await parts.records.load(f"catalog/{video_id}.json")
    assert record is not None
    return record


def catalog_sweeper(parts: Foundation) -> Sweeper:
    return Sweeper(
        parts.catalog,
        Processing(parts.catalog, parts.objects, parts.clock),
        store=parts.videos,
        lease=Lease(parts.redis, "test", 30),
        clock=parts.clock,
        grace_seconds=30,
        signed_seconds=86_400,
    )


async def catalogue(parts: Foundation) -> dict[str, list[media_pb2.Video]]:
    """What each user sees."""
    return {user: (await parts.catalog.page(user, 1000, ""))[0] for user in ("", "anna", "berta")}


async def fill(parts: Foundation) -> media_pb2.Video:
    """Some videos with bytes, of each owner; the last one given a number is deleted, and is the answer."""
    videos = []
    for owner in ("", "anna", "berta", "anna", ""):
        video = finished_video()
        await parts.objects.put(video.object_key, b"bytes", "video/mp4")
        videos.append(await parts.catalog.create(video, owner))
    request = UpdateRequest(video_id=videos[3].video_id, is_private=True, title="mine")
    await parts.catalog.update("anna", request)
    await parts.catalog.delete("", videos[4].video_id)
    return videos[4]


async def index_made_again(parts: Foundation) -> None:
    """Redis loses everything, and S3 tells it again."""
    await parts.redis.flushall()
    await rebuild(parts.records, parts.objects, parts.videos, parts.rebuild_lease(), writers_seconds=0)
