"""Lists of the library on a real Redis: order, pages that stay right while videos come and go."""

import itertools
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import redis.asyncio as redis
from reelway.v1 import library_pb2, media_pb2

from services.catalog import library_store
from services.catalog.catalog import Catalog
from services.catalog.library import PRESIGNED_URL_BYTES, Library, Page
from services.catalog.library_servicer import LibraryServicer
from services.catalog.library_store import LibraryStore
from services.catalog.memberships import listed_for
from services.catalog.redis_video_store import RedisVideoStore
from services.common import redis_client
from services.common.caller import Caller, set_caller
from services.common.channel import MESSAGE_LIMIT
from services.common.clock import SystemClock
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import Lease
from services.common.request_limits import DESCRIPTION_LENGTH
from services.common.settings import RedisSettings
from tests.support.foundation import taken_lease

READY, DRAFT = media_pb2.VIDEO_STATE_READY, media_pb2.VIDEO_STATE_DRAFT


@dataclass
class Lists:
    """Records straight into the index, and the library over it."""

    client: redis.Redis
    store: RedisVideoStore
    library: Library
    lease: Lease
    number: int = 0

    def video(self, owner: str, listed: int | None = None, **fields: object) -> media_pb2.Video:
        """A finished video; `listed` in microseconds."""
        self.number += 1
        video = media_pb2.Video(
            video_id=str(uuid.uuid4()), number=self.number, owner=owner, version=1, state=READY if listed else DRAFT
        )
        if listed:
            video.listing_time.FromMicroseconds(listed)
        for name, value in fields.items():
            setattr(video, name, value)
        return video

    async def add(self, *videos: media_pb2.Video) -> None:
        for video in videos:
            assert await self.store.create(video, "mark") is None
            assert await self.store.saved(video, "mark")

    async def change(self, video: media_pb2.Video, **fields: object) -> None:
        for name, value in fields.items():
            setattr(video, name, value)
        video.version += 1
        assert await self.store.replace(video, "mark")

    async def explore(self, user: str = "", size: int = 30, token: str = "", own: bool = False) -> Page:
        return await self.library.explore(user, size, token, own)

    async def explore_all(self, user: str = "", size: int = 7, own: bool = False) -> list[str]:
        found, token = list[str](), ""
        while True:
            page = await self.explore(user, size, token, own)
            assert len(page.videos) <= size
            found += [video.video_id for video in page.videos]
            token = page.token
            if not token:
                return found


@pytest.fixture
async def lists(clean_redis: str) -> AsyncIterator[Lists]:
    async with redis_client.connect(RedisSettings(redis_url=clean_redis), text=False) as client:
        store = RedisVideoStore(client, SystemClock())
        lease = await taken_lease(client)
        await store.finish_load(0, 0, lease)
        # Listing asks the index alone: whoever saves records is not part of it.
        # What is read needs no store of bytes.
        catalog = Catalog(store, None, None, SystemClock())  # type: ignore[arg-type]
        library = Library(catalog, store, LibraryStore(client), SystemClock())
        yield Lists(client, store, library, lease)


def ids(videos: list[media_pb2.Video]) -> list[str]:
    return [video.video_id for video in videos]


async def test_newest_first_with_many_of_the_same_moment(lists: Lists) -> None:
    videos = [lists.video("anna", listed=1000 + number // 10) for number in range(45)]
    await lists.add(*videos)
    found = await lists.explore_all(size=7)
    assert sorted(found) == sorted(ids(videos)), "each once"
    times = {video.video_id: video.listing_time.ToMicroseconds() for video in videos}
    assert [times[one] for one in found] == sorted(times.values(), reverse=True)
    assert await lists.explore_all(size=1) == await lists.explore_all(size=1000) == found


async def test_pages_stay_right_while_videos_come_and_go(lists: Lists) -> None:
    videos = [lists.video("anna", listed=1000 + number) for number in range(30)]
    await lists.add(*videos)
    newest_first = ids(videos)[::-1]
    first = await lists.explore(size=10)
    assert ids(list(first.videos)) == newest_first[:10]
    # Newer ones come; the one at the page's end goes, and so do some ahead and behind.
    await lists.add(*(lists.video("boris", listed=5000 + number) for number in range(5)))
    gone = [newest_first[index] for index in (3, 9, 12)]
    for video in videos:
        if video.video_id in gone:
            await lists.change(video, is_private=True)
    second = await lists.explore(size=10, token=first.token)
    assert ids(list(second.videos)) == [one for one in newest_first[10:] if one not in gone][:10]
    third = await lists.explore(size=10, token=second.token)
    assert ids(list(third.videos)) == [one for one in newest_first[10:] if one not in gone][10:]
    assert third.token == ""


async def test_whose_videos_are_where(lists: Lists) -> None:
    public, private = lists.video("anna", listed=10), lists.video("anna", listed=20, is_private=True)
    draft, other = lists.video("anna"), lists.video("boris", listed=15)
    failed = lists.video("anna", state=media_pb2.VIDEO_STATE_FAILED)
    busy = lists.video("anna", state=media_pb2.VIDEO_STATE_PROCESSING)
    signed = lists.video("clara", state=media_pb2.VIDEO_STATE_SIGNED)
    nobodys = lists.video("", state=READY)
    await lists.add(public, private, draft, other, failed, busy, signed, nobodys)

    assert await lists.explore_all() == ids([other, public])
    assert await lists.explore_all("anna") == ids([other])
    assert await lists.explore_all("anna", own=True) == ids([private, other, public])
    assert await lists.explore_all("boris", own=True) == ids([other, public])
    for user, expected in {"": [public], "boris": [public], "anna": [private, public]}.items():
        page = await lists.library.of_user(user, "anna", 0, "")
        assert ids(list(page.videos)) == ids(expected)
    for unknown in ("clara", "nobody", ""):
        with pytest.raises(ReelwayError) as refused:
            await lists.library.of_user("", unknown, 0, "")
        assert refused.value.reason is ErrorReason.USER_NOT_FOUND
    page, unprocessed = await lists.library.own("anna", 0, "")
    assert (ids(list(page.videos)), ids(list(unprocessed))) == (ids([draft, private, public]), ids([busy, failed]))
    # What others ask for by number has no drafts in it.
    assert ids(await lists.store.page(listed_for("anna"), 0, 10)) == ids([public, private, other, nobodys])
    assert ids(await lists.store.page(listed_for("clara"), 0, 10)) == ids([public, other, nobodys])


async def test_a_page_of_ones_own_fits_a_message_however_long_the_descriptions(lists: Lists) -> None:
    videos = [lists.video("anna", description="説" * DESCRIPTION_LENGTH) for _ in range(200)]
    await lists.store.load(videos, lists.lease)
    found, token = list[str](), ""
    while True:
        page, _ = await lists.library.own("anna", 0, token)
        assert sum(video.ByteSize() for video in page.videos) < MESSAGE_LIMIT
        found += ids(list(page.videos))
        token = page.token
        if not token:
            break
    assert found == ids(videos)[::-1]


async def test_a_first_page_fits_a_message_with_what_is_unfinished_and_its_thumbnails(lists: Lists) -> None:
    class Signs:
        async def presign_get(self, key: str, *options: object) -> str:
            return "https://store/".ljust(PRESIGNED_URL_BYTES, "x")

    text = "d" * DESCRIPTION_LENGTH
    finished = [lists.video("anna", thumbnail_key="thumbnail", description=text) for _ in range(215)]
    finished += [lists.video("anna", thumbnail_key="thumbnail", description=text[:500]) for _ in range(1000)]
    waiting = [lists.video("anna", state=media_pb2.VIDEO_STATE_UPLOADING, description=text) for _ in range(215)]
    await lists.store.load([*finished, *waiting], lists.lease)
    set_caller(Caller("anna"))
    servicer = LibraryServicer(lists.library, None, Signs(), SystemClock())  # type: ignore[arg-type]
    found, token = list[str](), ""
    while True:
        page = await servicer.ListOwn(library_pb2.ListOwnRequest(page_size=1000, page_token=token), None)
        assert page.ByteSize() <= MESSAGE_LIMIT
        found += [shown.video.video_id for shown in page.videos]
        assert bool(page.unprocessed) == (not token)
        token = page.next_page_token
        if not token:
            break
    assert found == ids(finished)[::-1]


async def test_what_was_heard_does_not_shorten_a_page(lists: Lists) -> None:
    heard = media_pb2.Transcript(result=media_pb2.TranscriptResult(text="words " * 100_000, language="en"))
    videos = [lists.video("anna", listed=number + 1) for number in range(10)]
    for video in videos:
        video.transcript.CopyFrom(heard)
    await lists.add(*videos)
    page = await lists.explore()
    assert ids(list(page.videos)) == ids(videos)[::-1]
    assert {(video.transcript.result.text, video.transcript.result.language) for video in page.videos} == {("", "en")}
    watched = await lists.library.watch("", "anna", videos[0].video_id)
    assert watched.transcript.result.text == ""


async def test_what_became_private_or_went_while_a_page_was_read_is_not_on_it(
    lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look into the lists and the look at the records."""
    videos = [lists.video("anna", listed=number + 1) for number in range(4)]
    await lists.add(*videos)
    records = lists.store.records

    async def late(video_ids: Sequence[str]) -> list[media_pb2.Video]:
        monkeypatch.undo()
        await lists.change(videos[1], is_private=True, title="Not for you")
        await lists.change(videos[2], state=media_pb2.VIDEO_STATE_DELETING)
        return await records(video_ids)

    monkeypatch.setattr(lists.store, "records", late)
    first = await lists.explore(size=3)
    assert ids(list(first.videos)) == ids([videos[3]])
    assert ids(list((await lists.explore(token=first.token)).videos)) == ids([videos[0]])


async def test_what_is_finished_while_ones_own_are_read_is_in_one_of_the_lists(
    lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = lists.video("anna", state=media_pb2.VIDEO_STATE_PROCESSING)
    await lists.add(busy)
    records = lists.store.records

    async def early(video_ids: Sequence[str]) -> list[media_pb2.Video]:
        monkeypatch.undo()
        found = await records(video_ids)
        await lists.change(busy, state=DRAFT)
        return found

    monkeypatch.setattr(lists.store, "records", early)
    page, unprocessed = await lists.library.own("anna", 0, "")
    assert (ids(list(page.videos)), ids(list(unprocessed))) == (ids([busy]), [])


@pytest.mark.parametrize("is_private", [False, True])
async def test_what_becomes_private_or_public_between_any_two_looks_is_on_the_page_once(
    lists: Lists, monkeypatch: pytest.MonkeyPatch, is_private: bool
) -> None:
    videos = [lists.video("anna", listed=number + 1) for number in range(5)]
    turned = videos[2]
    turned.is_private = is_private
    await lists.add(*videos)
    pool = lists.client.connection_pool
    take: Any = pool.get_connection

    async def turn_first(*args: Any) -> Any:
        # Once for each exchange with Redis, but for those of the change itself.
        monkeypatch.setattr(pool, "get_connection", take)
        await lists.change(turned, is_private=not turned.is_private)
        monkeypatch.setattr(pool, "get_connection", turn_first)
        return await take(*args)

    monkeypatch.setattr(pool, "get_connection", turn_first)
    explored = await lists.explore("anna", own=True)
    of_user = await lists.library.of_user("anna", "anna", 0, "")
    assert [ids(list(page.videos)) for page in (explored, of_user)] == [ids(videos)[::-1]] * 2


async def test_many_own_videos_hide_nothing_behind_them(lists: Lists) -> None:
    behind = [lists.video("boris", listed=number + 1) for number in range(3)]
    await lists.store.load(
        [*behind, *(lists.video("anna", listed=1000 + number) for number in range(25_000))], lists.lease
    )
    assert await lists.explore_all("anna", size=30) == ids(behind)[::-1]


async def test_a_page_is_full_though_own_videos_between_are_left_out(lists: Lists) -> None:
    owners = ["anna"] * 8 + ["boris"]
    await lists.store.load(
        [lists.video(owner, listed=number) for number, owner in enumerate(owners * 9, 1)], lists.lease
    )
    first = await lists.explore("anna", size=5)
    last = await lists.explore("anna", size=5, token=first.token)
    assert [len(page.videos) for page in (first, last)] == [5, 4]
    whole = await lists.explore("anna", size=9)
    assert (len(whole.videos), whole.token) == (9, ""), "nothing is left, so there is no next page"


async def test_a_look_ends_after_very_many_own_videos(lists: Lists, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_store, "_MOST_LOOKED_AT", 10)
    behind = lists.video("boris", listed=1)
    await lists.store.load([behind, *(lists.video("anna", listed=1000 + number) for number in range(50))], lists.lease)
    page = await lists.explore("anna", size=3)
    assert not page.videos
    assert page.token, "it says where to go on"
    assert await lists.explore_all("anna", size=3) == [behind.video_id]


async def test_of_two_that_look_at_once_one_is_given_a_video_and_none_what_is_done(
    lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = lists.store
    await lists.client.zadd("due", {"taken": 1, "done": 1, "left": 1, "later": 20})
    look = lists.client.zrange

    async def slow(*args: Any, **options: Any) -> object:
        found = await look(*args, **options)
        await lists.client.zadd("due", {"taken": 40})
        await lists.client.zrem("due", "done")
        return found

    monkeypatch.setattr(lists.client, "zrange", slow)
    assert await store.claim("due", 10, 30, 32) == ["left"]
    await store.put_off("due", "done", 50)
    await store.put_off("due", "left", 20)
    assert await look("due", 0, -1, withscores=True) == [(b"later", 20), (b"left", 30), (b"taken", 40)]


async def test_a_rebuilt_index_lists_the_same(lists: Lists) -> None:
    videos = [
        lists.video("anna", listed=number + 1 if number % 2 else None, is_private=number % 3 == 0)
        for number in range(20)
    ]
    videos += [lists.video("anna", state=state) for state in media_pb2.VideoState.values() if state]
    await lists.add(*videos)

    async def sets() -> dict[bytes, object]:
        keys = [key async for key in lists.client.scan_iter(match="{catalog}:*")]
        # Behind a rebuild what is to be done is due at once.
        due = (b"{catalog}:processing", b"{catalog}:deleting")
        return {
            key: await lists.client.zrange(key, 0, -1, withscores=key not in due)
            for key in keys
            if await lists.client.type(key) == b"zset"
        }

    before = await sets()
    await lists.store.clear(lists.lease)
    await lists.store.load(videos, lists.lease)
    await lists.store.finish_load(lists.number, lists.number, lists.lease)
    assert await sets() == before


@pytest.mark.parametrize("token", ["x", "bm90LW91cnM", "bjE6NQ", "ZToxOnh4eHh4eHh4LXh4eHg", "e:1:" + "0" * 36])
async def test_other_tokens_are_refused(lists: Lists, token: str) -> None:
    with pytest.raises(ReelwayError) as refused:
        await lists.explore(token=token)
    assert refused.value.reason is ErrorReason.INVALID_PAGE_TOKEN


async def test_a_token_is_of_one_list(lists: Lists) -> None:
    await lists.add(*(lists.video("anna", listed=time) for time in (1, 2)))

    async def of_user(token: str = "") -> Page:
        return await lists.library.of_user("", "anna", 1, token)

    async def own(token: str = "") -> Page:
        return (await lists.library.own("anna", 1, token))[0]

    async def explore(token: str = "") -> Page:
        return await lists.explore(size=1, token=token)

    tokens = {read: (await read()).token for read in (of_user, own, explore)}
    for read, (other, token) in itertools.product(tokens, tokens.items()):
        if read is other:
            assert (await read(token)).videos
            continue
        with pytest.raises(ReelwayError) as refused:
            await read(token)
        assert refused.value.reason is ErrorReason.INVALID_PAGE_TOKEN


async def test_a_deep_page_costs_what_the_first_does(lists: Lists) -> None:
    await lists.store.load(
        [lists.video(f"user-{number % 50}", listed=number + 1) for number in range(20_000)], lists.lease
    )
    middle = await lists.explore(size=1000)
    for _ in range(9):
        middle = await lists.explore(size=1000, token=middle.token)

    async def sent() -> int:
        return int((await lists.client.info("stats"))["total_net_output_bytes"])

    costs = []
    for token in ("", middle.token):
        before = await sent()
        assert len((await lists.explore(token=token)).videos) == 30
        costs.append(await sent() - before)
    assert costs[1] < 1.2 * costs[0], "bytes that Redis had to send"
    assert max(costs) < 20_000 * len(middle.videos[0].video_id), "it does not send the whole list"
