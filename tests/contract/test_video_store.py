"""What the catalogue relies on in its index, on a real Redis."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis
from reelway.v1 import media_pb2

from services.catalog import redis_video_store
from services.catalog.library_store import LibraryStore
from services.catalog.memberships import DELETING as DELETING_LIST
from services.catalog.memberships import PROCESSING, PUBLISHED, listed_for, owned_key, public_key
from services.catalog.redis_video_store import RedisVideoStore
from services.common import redis_client
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import Lease
from services.common.settings import RedisSettings
from tests.support.costs import at_most, others_run
from tests.support.foundation import TurnedClock, taken_lease

READY, DELETING, DELETED = (media_pb2.VIDEO_STATE_READY, media_pb2.VIDEO_STATE_DELETING, media_pb2.VIDEO_STATE_DELETED)
FOREVER = float("inf")
NOBODYS = [owned_key("")]
BOTH = [*NOBODYS, owned_key("anna")]


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
async def empty(clean_redis: str, clock: TurnedClock) -> AsyncIterator[RedisVideoStore]:
    """Without an index."""
    async with redis_client.connect(RedisSettings(redis_url=clean_redis), text=False) as client:
        yield RedisVideoStore(client, clock)


@pytest.fixture
async def lease(client: redis.Redis) -> Lease:
    return await taken_lease(client)


@pytest.fixture
async def store(empty: RedisVideoStore, lease: Lease) -> RedisVideoStore:
    """With an index that is empty."""
    await empty.finish_load(0, 0, lease)
    return empty


async def new(store: RedisVideoStore, owner: str = "", mark: str = "m") -> media_pb2.Video:
    video = media_pb2.Video(
        video_id=str(uuid.uuid4()), number=await store.next_number(), owner=owner, state=READY, version=1
    )
    assert await store.create(video, mark) is None
    return video


async def step(store: RedisVideoStore, video: media_pb2.Video, mark: str = "m", **fields: object) -> media_pb2.Video:
    """The next version, committed."""
    after = media_pb2.Video()
    after.CopyFrom(video)
    for name, value in fields.items():
        setattr(after, name, value)
    after.version += 1
    assert await store.replace(after, mark)
    return after


async def test_a_record_comes_back_by_both_names(store: RedisVideoStore) -> None:
    video = await new(store, "anna")
    assert await store.get(video.video_id) == video
    assert await store.get_by_number(video.number) == video
    assert await store.get(str(uuid.uuid4())) is None
    assert await store.get_by_number(video.number + 1) is None
    assert await store.get_by_number(-1) is None


async def test_a_record_is_created_once(store: RedisVideoStore) -> None:
    video = await new(store)
    again = media_pb2.Video(video_id=video.video_id, number=99, version=1, state=READY, title="other")
    assert await store.create(again, "m2") == video
    assert await store.get(video.video_id) == video
    assert await store.get_by_number(99) is None
    assert [mark async for mark in store.unsaved_before(float("inf"))] == [(video.video_id, "m")]


async def test_of_two_creations_at_once_one_counts(store: RedisVideoStore) -> None:
    video_id = str(uuid.uuid4())
    videos = [media_pb2.Video(video_id=video_id, number=n, version=1, state=READY) for n in range(1, 21)]
    answers = await asyncio.gather(*(store.create(video, "m") for video in videos))
    assert answers.count(None) == 1
    winner = videos[answers.index(None)]
    assert all(answer == winner for answer in answers if answer is not None)


async def test_a_version_is_replaced_once(store: RedisVideoStore) -> None:
    video = await new(store)
    rivals = []
    for title in ("a", "b", "c"):
        rival = media_pb2.Video()
        rival.CopyFrom(video)
        rival.title, rival.version = title, 2
        rivals.append(rival)
    answers = await asyncio.gather(*(store.replace(rival, "m") for rival in rivals))
    assert sorted(answers) == [False, False, True]
    assert await store.get(video.video_id) == rivals[answers.index(True)]


async def test_a_change_whose_answer_was_lost_is_no_conflict(store: RedisVideoStore) -> None:
    """The Redis client asks again by itself; who expected a version would be told that somebody else changed it."""
    video = await new(store)
    after = await step(store, video, "mine", title="new")
    assert await store.replace(after, "mine")
    assert not await store.replace(after, "another's")
    await step(store, after, title="newer")
    assert not await store.replace(after, "mine")


async def test_what_is_not_there_is_not_replaced(store: RedisVideoStore) -> None:
    ghost = media_pb2.Video(video_id=str(uuid.uuid4()), number=7, version=2, state=READY)
    assert not await store.replace(ghost, "m")
    assert await store.get(ghost.video_id) is None


async def test_numbers_rise_and_are_given_once(store: RedisVideoStore, lease: Lease) -> None:
    given = await asyncio.gather(*(store.next_number() for _ in range(100)))
    assert sorted(given) == list(range(1, 101))
    await store.finish_load(500, 0, lease)
    assert await store.next_number() == 501


async def test_a_number_from_before_a_rebuild_is_not_given_to_a_second_video(
    store: RedisVideoStore, lease: Lease
) -> None:
    """Its creation was held up between taking the number and the commit, while Redis was emptied and filled again."""
    late = media_pb2.Video(video_id=str(uuid.uuid4()), number=await store.next_number(), version=1, state=READY)
    await store.clear(lease)
    await store.finish_load(0, 0, lease)
    video = await new(store)
    assert video.number == late.number
    with pytest.raises(ReelwayError) as refused:
        await store.create(late, "m")
    assert refused.value.reason is ErrorReason.INDEX_MISSING
    assert await store.get_by_number(video.number) == video
    assert await store.get(late.video_id) is None


async def test_a_page_has_the_owners_asked_for_in_order_of_numbers(store: RedisVideoStore) -> None:
    videos = [await new(store, owner) for owner in ("", "anna", "berta", "anna", "")]
    seen = [videos[at] for at in (0, 1, 3, 4)]
    assert await store.page(BOTH, 0, 10) == seen
    assert await store.page(BOTH, 0, 2) == seen[:2]
    assert await store.page(BOTH, seen[1].number, 2) == seen[2:]
    assert await store.page(NOBODYS, 0, 10) == [videos[0], videos[4]]
    assert await store.page([owned_key("carla")], 0, 10) == []


async def test_a_video_that_two_of_the_lists_have_is_on_the_page_once(store: RedisVideoStore) -> None:
    videos = [await new(store, owner) for owner in ("anna", "berta", "anna", "", "berta", "berta")]
    for at in (0, 2, 4, 5):
        videos[at].listing_time.FromMicroseconds(1)
        videos[at] = await step(store, videos[at], is_private=at == 5)
    seen = [videos[at] for at in (0, 2, 3, 4)]
    assert await store.page(listed_for("anna"), 0, 10) == seen
    assert await store.page(listed_for("anna"), 0, 3) == seen[:3]
    assert await store.page(listed_for("anna"), seen[1].number, 3) == seen[2:]
    assert await store.page(listed_for(""), 0, 10) == seen


async def test_what_is_skipped_is_counted_as_it_would_be_on_a_page(
    store: RedisVideoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_video_store, "_SKIPPED_AT_ONCE", 2)
    videos = [await new(store, owner) for owner in ("anna", "berta", "anna", "", "berta", "anna")]
    for at in (0, 2, 4):
        videos[at].listing_time.FromMicroseconds(1)
        videos[at] = await step(store, videos[at])
    # Of anna's some are in two lists, of carla's none.
    for user, seen in (("anna", (0, 2, 3, 4, 5)), ("carla", (0, 2, 3, 4)), ("", (0, 2, 3, 4))):
        for after in range(7):
            rest = [videos[at] for at in seen if videos[at].number > after]
            for skip in range(7):
                behind = await store.behind(user, after, skip)
                assert await store.page(listed_for(user), behind, 10) == rest[skip:]


async def test_no_more_records_are_read_at_once_than_a_message_holds(
    store: RedisVideoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that shows that they are; two at least. Who wants all of them asks again for the rest."""
    videos = [await new(store) for _ in range(5)]
    ids = [str(uuid.uuid4()), *(video.video_id for video in videos)]
    three = sum(video.ByteSize() for video in videos[:3])
    for enough, first in ((0, 2), (three - 1, 3), (three, 4)):
        monkeypatch.setattr(redis_video_store, "PAGE_BYTES", enough)
        assert await store.beginning(ids) == videos[:first]
        assert await store.records(ids) == videos


async def test_pages_that_many_ask_for_at_once_wait_for_their_turn(store: RedisVideoStore, client: redis.Redis) -> None:
    """All at once they took each connection, and more memory than the process has; who asks for one video is let by."""
    ids = [(await new(store)).video_id for _ in range(2)]
    before = len(await client.client_list())
    pages = [asyncio.create_task(store.beginning(ids)) for _ in range(50)]
    await asyncio.sleep(0)
    assert await store.get(ids[0]) is not None
    assert not all(page.done() for page in pages)
    assert [len(page) for page in await asyncio.gather(*pages)] == [2] * 50
    assert len(await client.client_list()) - before <= 8


async def test_others_run_while_many_are_skipped(store: RedisVideoStore, client: redis.Redis) -> None:
    both = {f"{number}": number for number in range(1, 30_001)}
    for key in (owned_key("anna"), PUBLISHED, public_key("anna")):
        await client.zadd(key, both)
    assert await others_run(lambda: store.behind("anna", 0, 30_000)) == 30_000


async def test_no_more_is_gone_through_than_what_the_user_has(
    store: RedisVideoStore, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has published one of a million videos asks for a page far behind."""
    monkeypatch.setattr(redis_video_store, "_SKIPPED_AT_ONCE", 1)
    await client.zadd(owned_key(""), {f"{number}": number for number in range(1, 1001) if number % 100})
    for key in (owned_key("anna"), PUBLISHED, public_key("anna")):
        await client.zadd(key, {f"{number}": number for number in range(100, 1001, 100)})
    await client.config_resetstat()
    assert await store.behind("anna", 0, 950) == 950
    assert (await client.info("commandstats"))["cmdstat_zrange"]["calls"] < 50


async def test_many_are_skipped_in_one_step_where_no_list_has_a_video_of_another(
    store: RedisVideoStore, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_video_store, "_SKIPPED_AT_ONCE", 0)
    owners = ("", "anna")
    many = [
        media_pb2.Video(video_id=str(uuid.uuid4()), number=2 * at, state=READY, owner=owners[at % 2])
        for at in range(1, 1001)
    ]
    await store.load(many, lease)
    for after, skip, behind in ((0, 900, 1800), (1000, 400, 1800), (0, 1001, 2000)):
        assert await store.behind("anna", after, skip) == behind
    assert await store.behind("", 0, 400) == 1600


async def test_a_page_is_stable_while_videos_come_and_go(store: RedisVideoStore) -> None:
    videos = [await new(store) for _ in range(6)]
    first = await store.page(NOBODYS, 0, 3)
    await step(store, videos[0], state=DELETING)
    await step(store, videos[4], state=DELETING)
    late = await new(store)
    assert first == videos[:3]
    assert await store.page(NOBODYS, first[-1].number, 3) == [videos[3], videos[5], late]


async def test_the_order_is_exact_where_floats_still_are(store: RedisVideoStore, lease: Lease) -> None:
    """Scores are doubles: numbers up to 2^53 are told apart."""
    await store.finish_load(2**53 - 3, 0, lease)
    videos = [await new(store) for _ in range(2)]
    assert await store.page(NOBODYS, videos[0].number, 5) == [videos[1]]


async def test_a_tombstone_leaves_the_lists_and_keeps_its_number(store: RedisVideoStore, clock: TurnedClock) -> None:
    video = await new(store)
    assert await store.due(DELETING_LIST, FOREVER, 10) == []
    began = clock.seconds()
    deleting = await step(store, video, state=DELETING)
    clock.ahead = 60
    deleting = await step(store, deleting, title="changed meanwhile")
    assert await store.due(DELETING_LIST, began - 1, 10) == [], "whoever deletes it is at it"
    assert await store.due(DELETING_LIST, began + 30, 10) == [video.video_id]
    assert await store.page(NOBODYS, 0, 10) == []
    deleted = await step(store, deleting, state=DELETED)
    assert await store.due(DELETING_LIST, FOREVER, 10) == []
    assert await store.get_by_number(video.number) == deleted


async def test_a_mark_stays_until_the_current_version_is_saved(store: RedisVideoStore, clock: TurnedClock) -> None:
    video = await new(store, mark="first")
    changed = await step(store, video, mark="second", title="new")
    marks = {(video.video_id, "first"), (video.video_id, "second")}
    assert {mark async for mark in store.unsaved_before(clock.seconds() + 1)} == marks
    assert [mark async for mark in store.unsaved_before(clock.seconds() - 60)] == []
    assert not await store.saved(video, "first"), "a newer version must be saved first"
    assert {mark async for mark in store.unsaved_before(clock.seconds() + 1)} == marks
    assert await store.saved(changed, "second")
    assert await store.saved(changed, "second"), "asked again, as where the answer was lost"
    assert [mark async for mark in store.unsaved_before(clock.seconds() + 1)] == [(video.video_id, "first")]
    assert await store.saved(changed, "first")
    assert [mark async for mark in store.unsaved_before(clock.seconds() + 1)] == []


async def test_only_the_current_version_is_known_to_be_saved_and_only_to_the_index_that_saw_it(
    store: RedisVideoStore,
    lease: Lease,
) -> None:
    video = await new(store)
    assert not await store.is_saved(video)
    assert await store.saved(video, "m")
    assert await store.is_saved(video)
    changed = await step(store, video, title="new")
    assert not await store.is_saved(changed)
    assert not await store.is_saved(video)
    assert not await store.saved(video, "m")
    assert not await store.is_saved(changed)
    assert await store.saved(changed, "m")
    assert await store.is_saved(changed)
    await store.clear(lease)
    await store.load([changed], lease)
    await store.finish_load(1, 1, lease)
    assert not await store.is_saved(changed)


async def test_a_record_that_the_index_has_lost_does_not_count_as_saved(store: RedisVideoStore, lease: Lease) -> None:
    """Redis was emptied, and perhaps rebuilt before the record was in S3: its writer must not say that it is kept."""
    video = await new(store)
    await store.clear(lease)
    for index in (False, True):
        if index:
            await store.finish_load(0, 0, lease)
        with pytest.raises(ReelwayError) as refused:
            await store.saved(video, "m")
        assert refused.value.reason is ErrorReason.INDEX_MISSING


async def test_without_an_index_everything_says_so(empty: RedisVideoStore) -> None:
    video = media_pb2.Video(video_id=str(uuid.uuid4()), number=1, version=1, state=READY)
    assert not await empty.exists()
    for call in (
        empty.next_number(),
        empty.create(video, "m"),
        empty.replace(video, "m"),
        empty.get(video.video_id),
        empty.get_by_number(1),
        empty.page(BOTH, 0, 1),
    ):
        with pytest.raises(ReelwayError) as refused:
            await call
        assert refused.value.reason is ErrorReason.INDEX_MISSING


async def test_a_load_is_the_index_that_was(store: RedisVideoStore, lease: Lease, clock: TurnedClock) -> None:
    videos = [await new(store, owner) for owner in ("", "anna", "", "anna")]
    videos[2] = await step(store, videos[2], state=DELETING)
    await store.close_index(lease)
    await store.clear(lease)
    await store.load(videos, lease)
    assert not await store.exists(), "the marker comes last"
    await store.finish_load(4, 4, lease)
    assert await store.page(BOTH, 0, 10) == [videos[0], videos[1], videos[3]]
    assert await store.get_by_number(3) == videos[2]
    assert await store.due(DELETING_LIST, clock.seconds(), 10) == [videos[2].video_id]
    assert [mark async for mark in store.unsaved_before(float("inf"))] == []
    assert (await new(store)).number == 5


async def test_every_unsaved_change_is_told(store: RedisVideoStore, client: redis.Redis) -> None:
    """However many there are, but not at once: a rebuild empties the index after it."""
    await client.zadd("{catalog}:unsaved", {f"{number}/mark": 1.0 for number in range(20_000)})
    told = bytearray(20_000)
    with at_most(2**21):
        async for number, _ in store.unsaved_before(float("inf")):
            told[int(number)] = 1
    assert all(told)


async def test_redis_that_is_away_is_a_store_that_is_unavailable(clock: TurnedClock) -> None:
    async with redis_client.connect(RedisSettings(redis_url="redis://127.0.0.1:1/0"), text=False) as client:
        away, lists = RedisVideoStore(client, clock), LibraryStore(client)
        video = media_pb2.Video(video_id=str(uuid.uuid4()), version=1)
        answers = await asyncio.gather(
            away.next_number(),
            away.create(video, "m"),
            away.get(video.video_id),
            away.get_by_number(1),
            away.get_unguarded(video.video_id),
            away.knows_owner("anna"),
            away.page(NOBODYS, 0, 10),
            away.saved(video, "m"),
            away.is_saved(video),
            anext(away.unsaved_before(FOREVER)),
            away.due(DELETING_LIST, FOREVER, 10),
            away.exists(),
            away.clear(Lease(client, "lease", 60)),
            lists.newest(NOBODYS, 10),
            away.claim(PROCESSING, 0, 1, 10),
            away.put_off(PROCESSING, video.video_id, 1),
            return_exceptions=True,
        )
    for answer in answers:
        assert isinstance(answer, ReelwayError)
        assert answer.reason is ErrorReason.STORE_UNAVAILABLE
