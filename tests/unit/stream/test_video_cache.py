"""What the stream service remembers of the catalogue: little, for a moment, for one user."""

import asyncio
from typing import cast

import pytest
from reelway.v1 import media_pb2

from services.common.caller import NOBODY, Caller, current_caller, set_caller
from services.common.catalog_client import CatalogClient
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.stream.video_cache import VideoCache
from tests.support.waiting import until

HERS = media_pb2.Video(video_id="v1", number=1, owner="anna", object_key="videos/v1.mp4")


class Catalog:
    """Knows one private video, and counts who asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def get(self, *, video_id: str = "", number: int = 0) -> media_pb2.Video:
        user = current_caller().user
        self.asked.append(user)
        if user != "anna" or (video_id or number) not in ("v1", 1):
            raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
        return HERS


@pytest.fixture
def catalog() -> Catalog:
    return Catalog()


def cache(catalog: Catalog, ttl_seconds: float = 1000) -> VideoCache:
    return VideoCache(cast(CatalogClient, catalog), ttl_seconds)


async def as_user(user: str, videos: VideoCache) -> media_pb2.Video:
    set_caller(Caller(user))
    try:
        return await videos.get("v1")
    finally:
        set_caller(NOBODY)


async def test_an_answer_is_remembered_for_its_user_alone(catalog: Catalog) -> None:
    videos = cache(catalog)
    for _ in range(3):
        assert await as_user("anna", videos) == HERS
    for user in ("berta", ""):
        with pytest.raises(ReelwayError):
            await as_user(user, videos)
    assert catalog.asked == ["anna", "berta", ""]


async def test_a_refusal_is_not_remembered(catalog: Catalog) -> None:
    """Read your own writes: who asked a moment too early is not told so twice."""
    videos = cache(catalog)
    for _ in range(2):
        with pytest.raises(ReelwayError):
            await as_user("berta", videos)
    assert catalog.asked == ["berta", "berta"]


async def test_an_answer_is_asked_for_again_when_it_is_old(catalog: Catalog) -> None:
    videos = cache(catalog, 0.05)

    async def asked_twice() -> bool:
        await as_user("anna", videos)
        return len(catalog.asked) == 2

    await until(asked_twice)


async def test_its_age_counts_from_the_question(catalog: Catalog) -> None:
    """An answer that was long on its way is that much older."""
    answer = catalog.get

    async def slow(*, video_id: str = "", number: int = 0) -> media_pb2.Video:
        video = await answer(video_id=video_id, number=number)
        await asyncio.sleep(0.1)
        return video

    catalog.get = slow  # type: ignore[method-assign]
    videos = cache(catalog, 0.05)
    await as_user("anna", videos)
    await as_user("anna", videos)
    assert len(catalog.asked) == 2


async def test_by_number_the_catalogue_is_always_asked(catalog: Catalog) -> None:
    videos = cache(catalog)
    set_caller(Caller("anna"))
    try:
        for _ in range(2):
            assert await videos.get_by_number(1) == HERS
        assert await videos.get("v1") == HERS
    finally:
        set_caller(NOBODY)
    assert catalog.asked == ["anna", "anna"], "and then it is known by its id"


async def test_what_nobody_reads_is_not_kept_for_every_viewer() -> None:
    told = media_pb2.Video(video_id="v1", number=1, etag='"e"', description="d" * 40_000)
    told.transcript.result.text = "t" * 60_000

    class Talkative:
        async def get(self, *, video_id: str = "", number: int = 0) -> media_pb2.Video:
            return media_pb2.Video.FromString(told.SerializeToString())

    videos = VideoCache(cast(CatalogClient, Talkative()), 1000)
    for user in ("anna", "boris"):
        kept = await as_user(user, videos)
        assert (kept.video_id, kept.number, kept.etag) == ("v1", 1, '"e"')
        assert kept.ByteSize() < 100
