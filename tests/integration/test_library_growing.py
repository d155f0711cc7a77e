"""A video that still grows in its owner's library: it is there, and can be given up."""

import aiohttp
import pytest

from tests.support.clips import mp4_of
from tests.support.library import LibraryUser
from tests.support.object_store import keys_of
from tests.support.system import RunningSystem
from tests.support.waiting import until

CLIP = mp4_of(5000)
# By the kernel's choice some of so many connections come to each gateway.
CONNECTIONS = 8


async def growing(user: LibraryUser) -> tuple[int, str]:
    """The number and the uuid of a new one."""
    number = (await user.ask("POST", "/create_video", 201))["video_id"]
    await user.ask("POST", f"/append_video/{number}", data=CLIP)
    [entry] = (await user.ask("GET", "/video/my"))["unprocessed_videos"]
    return number, entry["hash_id"]


async def ask_every_gateway(user: LibraryUser, path: str, expect: int, **options: object) -> None:
    """POST it on many connections."""
    for _ in range(CONNECTIONS):
        async with aiohttp.ClientSession() as apart:
            again = LibraryUser(user.system, apart, None)
            again.headers.update(user.headers)
            await again.ask("POST", path, expect, data=CLIP, **options)


async def test_it_is_listed_while_it_grows_and_a_video_once_it_is_finished(
    system: RunningSystem, http: aiohttp.ClientSession
) -> None:
    owner = LibraryUser.new(system, http)
    number, hash_id = await growing(owner)
    assert "failure_reason" not in await owner.unprocessed(hash_id)
    assert await owner.mine(hash_id) is None
    await owner.ask("PUT", f"/video/my/{hash_id}", 404, json={"title": "t", "description": "d"})
    await owner.ask("POST", "/api/record/videos/finalize_video_upload", json={"video_id": number})
    assert await owner.unprocessed(hash_id) is None
    assert (await owner.mine(hash_id))["size_in_bytes"] == len(CLIP)


async def test_deleted_it_takes_no_more_chunks_and_leaves_nothing(
    system: RunningSystem, http: aiohttp.ClientSession
) -> None:
    owner, other = LibraryUser.new(system, http), LibraryUser.new(system, http)
    number, hash_id = await growing(owner)
    await other.ask("DELETE", f"/video/my/{hash_id}", 404)
    assert await owner.ask("DELETE", f"/video/my/{hash_id}", 204) is None
    await owner.ask("DELETE", f"/video/my/{hash_id}", 404)
    for user in (owner, other):
        await ask_every_gateway(user, f"/append_video/{number}", 404)
    assert (await owner.ask("GET", "/video/my"))["unprocessed_videos"] == []

    async def is_gone() -> bool:
        return await keys_of(system.s3, hash_id) == {f"catalog/{hash_id}.json"}

    await until(is_gone)


@pytest.mark.parametrize("keyed", [False, True])
async def test_finished_and_deleted_it_is_unknown_to_whoever_appends(
    system: RunningSystem, http: aiohttp.ClientSession, keyed: bool
) -> None:
    owner = LibraryUser.new(system, http)
    number, hash_id = await growing(owner)
    headers = {"Idempotency-Key": "once"} if keyed else {}
    await owner.ask("POST", f"/append_video/{number}", data=CLIP, headers=headers)
    await owner.ask("POST", "/api/record/videos/finalize_video_upload", json={"video_id": number})
    await owner.ask("POST", f"/append_video/{number}", 200 if keyed else 409, data=CLIP, headers=headers)
    await owner.ask("DELETE", f"/video/my/{hash_id}", 204)
    await ask_every_gateway(owner, f"/append_video/{number}", 404, headers=headers)
