"""Dialect 003 on the whole system: the life of a video, from a signed form to its objects being gone."""

import asyncio
import base64
import functools
import json
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import chain

import aiohttp
import pytest
import redis.asyncio as redis
from yarl import URL

from services.common.lease import Lease
from services.upload.redis_journal_store import lease_name
from tests.support.clips import Clip
from tests.support.library import LibraryUser
from tests.support.object_store import keys_of
from tests.support.system import RunningSystem
from tests.support.videos_api import catalog_side
from tests.support.waiting import until

DOCUMENTED = {
    "hash_id",
    "user_id",
    "file_name",
    "upload_time",
    "title",
    "description",
    "size_in_bytes",
    "duration_seconds",
    "video_type",
    "thumbnail_url",
    "is_private",
    "listing_time",
}


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height as the frame header says (ITU-T T.81, B.2.2)."""
    assert data[:2] == b"\xff\xd8"
    at = BytesIO(data)
    at.seek(2)
    while True:
        marker, length = at.read(2), int.from_bytes(at.read(2), "big")
        if marker in (b"\xff\xc0", b"\xff\xc2"):
            at.read(1)
            height, width = int.from_bytes(at.read(2), "big"), int.from_bytes(at.read(2), "big")
            return width, height
        at.seek(length - 2, 1)


async def test_from_a_signed_form_to_gone(
    system: RunningSystem, http: aiohttp.ClientSession, clips: dict[str, Clip]
) -> None:
    owner, other, anybody = (
        LibraryUser.new(system, http),
        LibraryUser.new(system, http),
        LibraryUser(system, http, None),
    )
    data = clips["clip.mp4"].data
    signing = datetime.now(UTC)
    signed = await owner.sign("my-clip.mp4")
    policy = json.loads(base64.b64decode(signed.fields["policy"]))
    assert ["content-length-range", 1, 1_000_000_000] in policy["conditions"]
    minute, second = timedelta(minutes=1), timedelta(seconds=1)
    assert signing + minute - second <= datetime.fromisoformat(policy["expiration"]) <= datetime.now(UTC) + minute
    # Promised, and not arrived: in no list, for nobody.
    nothing: dict[str, list[str]] = {"unprocessed_videos": [], "videos": []}
    assert await owner.ask("GET", "/video/my") == nothing
    await anybody.ask("GET", f"/video/user/{owner.id}", 404)
    await owner.ask("DELETE", f"/video/my/{signed.hash_id}", 404)

    posting = datetime.now(UTC)
    assert await owner.post(signed, data) == 204
    draft = await owner.until_mine(signed.hash_id)
    assert posting < datetime.fromisoformat(draft["upload_time"]) < datetime.now(UTC)
    assert set(draft) == DOCUMENTED - {"description", "listing_time"}
    assert draft["file_name"] == draft["title"] == "my-clip.mp4"
    assert (draft["user_id"], draft["size_in_bytes"], draft["video_type"]) == (owner.id, len(data), "video/mp4")
    assert draft["duration_seconds"] == 0 and draft["is_private"] is False
    async with http.get(draft["thumbnail_url"]) as picture:
        assert (picture.status, picture.content_type) == (200, "image/jpeg")
        assert jpeg_size(await picture.read()) == (360, 200)

    # A draft gives nothing away, through any door, to anybody.
    watch = {"user_id": owner.id, "hash_id": signed.hash_id}
    for user in (owner, other, anybody):
        await user.ask("GET", "/video/watch/", 404, params=watch)
        await user.ask("GET", f"/videos/{signed.hash_id}/stream", 404)
        await user.ask("GET", f"/videos/{signed.hash_id}/download", 404)
    assert (await anybody.ask("GET", f"/video/user/{owner.id}"))["videos"] == []

    path = f"/video/my/{signed.hash_id}"
    await other.ask("PUT", path, 404, json={"title": "Mine", "description": "now"})
    await other.ask("DELETE", path, 404)
    missing = await owner.ask("PUT", path, 400, json={"description": "no title"})
    assert missing == {"errors": ["missing required field: title"]}
    await other.ask("PUT", path, 404, json={"title": " ", "description": "now"})
    both = await owner.ask("PUT", path, 400, json={"title": " ", "is_private": True})
    assert both == {"errors": ["missing required field: title", "missing required field: description"]}
    unsupported = await owner.ask("PUT", path, 400, json={"title": "t", "description": "d", "hash_id": "x"})
    assert unsupported == {"errors": ["unsupported field: hash_id"]}
    many = await owner.ask("PUT", path, 400, json={f"{'n' * 300}{number}": None for number in range(1000)})
    assert many == {"errors": [f"unsupported field: {'n' * 200}…"] * 50}
    await owner.ask("PUT", path, 422, json={"title": ["t"], "description": "d"})
    assert await owner.ask("PUT", path, 204, json={"title": "A title", "description": "What it is"}) is None

    published = await owner.mine(signed.hash_id)
    assert set(published) == DOCUMENTED
    assert (published["title"], published["description"]) == ("A title", "What it is")
    assert datetime.fromisoformat(draft["upload_time"]) < datetime.fromisoformat(published["listing_time"])
    for user in (other, anybody):
        assert published["hash_id"] in [v["hash_id"] for v in (await user.ask("GET", "/video/explore/"))["videos"]]
        assert [v["hash_id"] for v in (await user.ask("GET", f"/video/user/{owner.id}/"))["videos"]] == [signed.hash_id]
        record = await user.ask("GET", "/video/watch", params=watch)
        assert record["video"]["title"] == "A title"
        assert URL(record["watchable_url"]).query["X-Amz-Expires"] == str(7 * 86_400)
        async with http.get(record["watchable_url"], headers={"Range": "bytes=0-1"}) as part:
            assert (part.status, await part.read()) == (206, data[:2])
            assert part.content_type == "video/mp4"
            assert part.headers["Content-Disposition"] == f'inline; filename="{signed.hash_id}.mp4"'
    await other.ask("GET", "/video/watch", 404, params={**watch, "user_id": other.id})
    explored = await owner.ask("GET", "/video/explore")
    assert signed.hash_id not in [v["hash_id"] for v in explored["videos"]]
    explored = await owner.ask("GET", "/video/explore", params={"include_my": "true"})
    assert signed.hash_id in [v["hash_id"] for v in explored["videos"]]
    async with http.get(f"{system.base_url}/videos/{signed.hash_id}/stream") as stream:
        assert await stream.read() == data

    # Private: its owner still sees it, everybody else is kept out of every door.
    await owner.ask("PUT", path, 204, json={"is_private": True})
    # It was listed when it was; and what was not named stays as it is.
    assert await owner.mine(signed.hash_id) == published | {"is_private": True}
    for user in (other, anybody):
        await user.ask("GET", "/video/watch", 403, params=watch)
        await user.until_status(f"/videos/{signed.hash_id}/stream", 404)
        assert (await user.ask("GET", f"/video/user/{owner.id}"))["videos"] == []
        found = await user.ask("GET", "/video/explore", params={"include_my": "true"})
        assert signed.hash_id not in [v["hash_id"] for v in found["videos"]]
    await owner.ask("GET", "/video/watch", params=watch)
    own = await owner.ask("GET", "/video/explore", params={"include_my": "true"})
    assert signed.hash_id in [v["hash_id"] for v in own["videos"]]

    await other.ask("DELETE", path, 404)
    assert await owner.ask("DELETE", path, 204) is None
    await owner.ask("DELETE", path, 404)
    await owner.ask("GET", "/video/watch", 404, params=watch)
    assert await owner.ask("GET", "/video/my") == nothing
    assert (await anybody.ask("GET", f"/video/user/{owner.id}"))["videos"] == []

    async def are_gone() -> bool:
        return await keys_of(system.s3, signed.hash_id) == {f"catalog/{signed.hash_id}.json"}

    await until(are_gone)


async def pages(user: LibraryUser, path: str) -> list[list[str]]:
    """The ids on every page of a list, from its first to the one that names no next."""
    found, query = list[list[str]](), dict[str, str]()
    while True:
        page = await user.ask("GET", path, params=query)
        found.append([video["hash_id"] for video in page["videos"]])
        if "next" not in page:
            return found
        query = {"next": page["next"]}


async def test_lists_have_pages_of_thirty(system: RunningSystem, http: aiohttp.ClientSession) -> None:
    owner, other = LibraryUser.new(system, http), LibraryUser.new(system, http)
    earlier = await pages(other, "/video/explore")
    async with catalog_side(system) as catalog:
        ids = await asyncio.gather(*(catalog.finished(owner.id) for _ in range(31)))
    for hash_id in ids:
        await owner.publish(hash_id)
    newest_first = ids[::-1]
    assert await pages(other, f"/video/user/{owner.id}") == [newest_first[:30], newest_first[30:]]
    explored = await pages(other, "/video/explore")
    assert [*chain(*explored)] == [*newest_first, *chain(*earlier)]
    assert {len(page) for page in explored[:-1]} == {30}
    # For one's own the document names no `next`: it has more than that on a page.
    [own] = await pages(owner, "/video/my")
    assert sorted(own) == sorted(ids)
    await asyncio.gather(*(owner.ask("DELETE", f"/video/my/{hash_id}", 204) for hash_id in ids))


async def has_picture(user: LibraryUser, hash_id: str) -> bool:
    return "thumbnail_url" in await user.mine(hash_id)


@pytest.mark.parametrize("name", ["clip.webm", "clip.ogv", "clip.avi", "clip.mpg"])
async def test_every_type_becomes_a_draft(
    system: RunningSystem, http: aiohttp.ClientSession, clips: dict[str, Clip], name: str
) -> None:
    owner = LibraryUser.new(system, http)
    # Whatever it was signed as, what it is is told from its bytes.
    draft = await owner.draft(clips[name].data, name=name)
    types = {"webm": "video/webm", "ogv": "video/ogg", "avi": "video/x-msvideo", "mpg": "video/mpeg"}
    assert draft["video_type"] == types[name.partition(".")[2]]
    assert draft["thumbnail_url"]


async def test_failures_have_their_reason_and_can_be_deleted(
    system: RunningSystem, http: aiohttp.ClientSession, clips: dict[str, Clip]
) -> None:
    owner = LibraryUser.new(system, http)
    cases = {
        "Corrupted/Invalid file": [clips["clip.mp4"].data[:200], b"\x00" * 5000, clips["clip.webm"].data[:300]],
        "Unsupported video type": [clips["clip.mkv"].data, b"\x89PNG\r\n\x1a\n" + b"\x00" * 100],
    }
    uploaded = [(reason, await owner.upload(data)) for reason, files in cases.items() for data in files]
    for reason, hash_id in uploaded:
        entry = await owner.until_failed(hash_id)
        assert entry["failure_reason"] == reason
        assert set(entry) == {"hash_id", "user_id", "file_name", "upload_time", "failure_reason"}
        await owner.ask("PUT", f"/video/my/{hash_id}", 404, json={"title": "t", "description": "d"})
        await owner.ask("DELETE", f"/video/my/{hash_id}", 204)
        await owner.ask("DELETE", f"/video/my/{hash_id}", 404)
    assert await owner.ask("GET", "/video/my") == {"unprocessed_videos": [], "videos": []}
    for _, hash_id in uploaded:
        assert await keys_of(system.s3, hash_id) == {f"catalog/{hash_id}.json"}


async def test_a_video_of_another_door_gets_its_metadata(
    system: RunningSystem, http: aiohttp.ClientSession, clips: dict[str, Clip]
) -> None:
    owner = LibraryUser.new(system, http)
    form = aiohttp.FormData()
    form.add_field("video", clips["clip.mov"].data, filename="holiday.mov")
    created = await owner.ask("POST", "/videos", 201, data=form)
    await until(functools.partial(has_picture, owner, created["id"]))
    video = await owner.mine(created["id"])
    assert (video["video_type"], video["file_name"]) == ("video/quicktime", "holiday.mov")
    assert "duration_seconds" in video and "listing_time" not in video
    await owner.publish(video["hash_id"])
    assert (await owner.mine(created["id"]))["listing_time"]


async def test_a_recording_can_be_watched_as_soon_as_it_is_one_object(
    system: RunningSystem, http: aiohttp.ClientSession, clips: dict[str, Clip]
) -> None:
    """Between its end and that moment there is nothing that a presigned URL could lead to: come back, it says."""
    owner = LibraryUser.new(system, http)
    data = clips["clip.webm"].data
    number = (await owner.ask("POST", "/api/record/videos", 201, json={"title": "Recorded", "description": ""}))[
        "video_id"
    ]
    await owner.ask("POST", f"/append_video/{number}/", data=data[:1000])
    await owner.ask("POST", f"/append_video/{number}/", data=data[1000:])
    async with redis.Redis.from_url(system.redis_url, decode_responses=True) as client:
        hash_id = str(await client.hget("{catalog}:numbers", str(number)))
        watch = {"user_id": owner.id, "hash_id": hash_id}
        await owner.ask("GET", "/video/watch", 404, params=watch)
        compactor = Lease(client, lease_name(hash_id), 60)
        assert await compactor.take()
        await owner.ask("POST", "/api/record/videos/finalize_video_upload", json={"video_id": number})
        url = f"{system.base_url}/video/watch"
        async with http.get(url, headers=owner.headers, params=watch) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        assert await owner.status("GET", f"/videos/{hash_id}/stream") == 200
        await compactor.release()

    async def can_be_watched() -> bool:
        return await owner.status("GET", "/video/watch", params=watch) == 200

    await until(can_be_watched)
    record = await owner.ask("GET", "/video/watch", params=watch)
    async with http.get(record["watchable_url"]) as whole:
        assert (whole.content_type, await whole.read()) == ("video/webm", data)
    # And the same is known of it as of an upload.
    await until(functools.partial(has_picture, owner, hash_id))
    assert {"duration_seconds", "size_in_bytes"} <= set(await owner.mine(hash_id))
