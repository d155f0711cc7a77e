"""Every route of dialect 003, and the bytes behind the others, for every kind of caller: the status each must get."""

import asyncio
import json
import time
from typing import Any
from uuid import uuid4

import aiohttp
import jwt
import pytest
import redis.asyncio as redis
from yarl import URL

from gateway.routes.library import routes
from services.common.caller import SYSTEM_USER
from tests.support.clips import Clip
from tests.support.library import LibraryUser
from tests.support.system import RunningSystem
from tests.support.waiting import until

OWNER = uuid4()
CALLERS = ("none", "bad", "expired", "algorithm", "other", "owner")
SIGN = {"file_name": "a.mp4", "file_content_type": "video/mp4"}
TEXTS = {"title": "A title", "description": "What it is"}

# Method, path and query or body -> status for each caller. {draft}, {private} and {public} are the owner's videos.
# The last two columns are somebody else's valid token, and the owner's.
TABLE: dict[tuple[str, str], tuple[dict[str, Any], tuple[int, int, int, int, int, int]]] = {
    ("GET", "/video/explore"): ({}, (200, 401, 401, 401, 200, 200)),
    ("GET", "/video/explore?include_my=true"): ({}, (200, 401, 401, 401, 200, 200)),
    ("GET", "/video/explore?next=bogus"): ({}, (422, 401, 401, 401, 422, 422)),
    ("GET", "/video/upload"): ({"params": SIGN}, (401, 401, 401, 401, 200, 200)),
    ("GET", "/video/upload?file_name=a"): ({}, (401, 401, 401, 401, 422, 422)),
    ("GET", "/video/upload/config"): ({}, (401, 401, 401, 401, 200, 200)),
    ("GET", "/video/my"): ({}, (401, 401, 401, 401, 200, 200)),
    ("GET", "/video/my?next=bogus"): ({}, (401, 401, 401, 401, 422, 422)),
    ("GET", "/video/user/{owner}"): ({}, (200, 401, 401, 401, 200, 200)),
    ("GET", "/video/user/nobody-at-all"): ({}, (404, 401, 401, 401, 404, 404)),
    ("GET", "/video/user/{owner}?next=bogus"): ({}, (422, 401, 401, 401, 422, 422)),
    ("GET", "/video/watch?user_id={owner}&hash_id={public}"): ({}, (200, 401, 401, 401, 200, 200)),
    ("GET", "/video/watch?user_id={owner}&hash_id={private}"): ({}, (403, 401, 401, 401, 403, 200)),
    ("GET", "/video/watch?user_id={owner}&hash_id={draft}"): ({}, (404, 401, 401, 401, 404, 404)),
    ("GET", "/video/watch?user_id={owner}"): ({}, (422, 401, 401, 401, 422, 422)),
    ("PUT", "/video/my/{private}"): ({"json": {"title": "B"}}, (401, 401, 401, 401, 404, 204)),
    ("PUT", "/video/my/{public}"): ({"json": {"title": "B"}}, (401, 401, 401, 401, 404, 204)),
    ("PUT", "/video/my/{draft}"): ({"json": {"is_private": True}}, (401, 401, 401, 401, 404, 400)),
    ("PUT", "/video/my/unknown"): ({"json": TEXTS}, (401, 401, 401, 401, 404, 404)),
    ("PUT", "/video/my/{public}/"): ({"json": {"title": []}}, (401, 401, 401, 401, 422, 422)),
    # The same videos through the other doors.
    ("GET", "/videos/{public}/stream"): ({}, (200, 401, 401, 401, 200, 200)),
    ("GET", "/videos/{private}/stream"): ({}, (404, 401, 401, 401, 404, 200)),
    ("GET", "/videos/{draft}/stream"): ({}, (404, 401, 401, 401, 404, 404)),
    ("HEAD", "/videos/{private}/download"): ({}, (404, 401, 401, 401, 404, 200)),
    ("HEAD", "/videos/{draft}/download"): ({}, (404, 401, 401, 401, 404, 404)),
    ("GET", "/get_video/{private_number}/"): ({}, (404, 401, 401, 401, 404, 200)),
    ("GET", "/get_video/{draft_number}/"): ({}, (404, 401, 401, 401, 404, 404)),
    ("GET", "/api/record/videos/{private_number}"): ({}, (404, 401, 401, 401, 404, 200)),
    ("GET", "/api/record/videos/{draft_number}"): ({}, (404, 401, 401, 401, 404, 404)),
    ("GET", "/api/record/videos/{private_number}/stream_video"): ({}, (404, 401, 401, 401, 404, 200)),
    ("GET", "/api/record/videos/{draft_number}/stream_video"): ({}, (404, 401, 401, 401, 404, 404)),
    ("GET", "/api/record/videos/{public_number}/captions.vtt"): ({}, (404, 401, 401, 401, 404, 404)),
    ("GET", "/api/record/videos/{private_number}/captions.vtt"): ({}, (404, 401, 401, 401, 404, 200)),
    ("HEAD", "/api/record/videos/{private_number}/captions.vtt"): ({}, (404, 401, 401, 401, 404, 200)),
    ("GET", "/api/record/videos/{draft_number}/captions.vtt"): ({}, (404, 401, 401, 401, 404, 404)),
    ("GET", "/videos/{private}/captions.vtt"): ({}, (404, 401, 401, 401, 404, 200)),
    ("HEAD", "/videos/{draft}/captions.vtt"): ({}, (404, 401, 401, 401, 404, 404)),
    ("GET", "/videos/{private}/transcript"): ({}, (404, 401, 401, 401, 404, 200)),
    ("GET", "/videos/{draft}/transcript"): ({}, (404, 401, 401, 401, 404, 404)),
    ("GET", "/videos/{public}/transcript"): ({}, (404, 401, 401, 401, 404, 404)),
    ("POST", "/videos/{private}/transcript"): ({}, (404, 401, 401, 401, 404, 202)),
    ("POST", "/videos/{draft}/transcript"): ({}, (404, 401, 401, 401, 404, 404)),
    ("POST", "/videos/{public}/transcript"): ({}, (403, 401, 401, 401, 403, 202)),
    ("HEAD", "/record/videos/{private_number}/stream_video"): ({}, (404, 401, 401, 401, 404, 200)),
    ("HEAD", "/record/videos/{draft_number}/stream_video"): ({}, (404, 401, 401, 401, 404, 404)),
    ("PATCH", "/api/record/videos/update_video_chunck"): (
        {"json": {"video_id": "{draft_number}", "video_chunck": "bW9yZQ=="}},
        (404, 401, 401, 401, 404, 404),
    ),
    ("PATCH", "/record/videos/update_video_chunck"): (
        {"json": {"video_id": "{private_number}", "video_chunck": "bW9yZQ=="}},
        (404, 401, 401, 401, 404, 409),
    ),
    ("POST", "/api/record/videos/finalize_video_upload"): (
        {"json": {"video_id": "{draft_number}"}},
        (404, 401, 401, 401, 404, 404),
    ),
    ("POST", "/record/videos/finalize_video_upload"): (
        {"json": {"video_id": "{private_number}"}},
        (404, 401, 401, 401, 404, 200),
    ),
    ("POST", "/append_video/{draft_number}/"): ({"data": b"more"}, (404, 401, 401, 401, 404, 404)),
    ("POST", "/append_video/{private_number}/"): ({"data": b"more"}, (404, 401, 401, 401, 404, 409)),
    # Last, for it ends them.
    ("DELETE", "/video/my/unknown"): ({}, (401, 401, 401, 401, 404, 404)),
    ("DELETE", "/video/my/{private}"): ({}, (401, 401, 401, 401, 404, 204)),
    ("DELETE", "/video/my/{draft}"): ({}, (401, 401, 401, 401, 404, 204)),
}


def tokens(system: RunningSystem) -> dict[str, dict[str, str]]:
    """Request headers of each caller."""
    claims = {"sub": str(OWNER), "exp": int(time.time()) + 600}
    secret = system.secret

    def bearer(token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"}

    return {
        "none": {},
        "bad": bearer("not.a.token"),
        "expired": bearer(jwt.encode({**claims, "exp": int(time.time()) - 60}, secret, "HS256")),
        "algorithm": bearer(jwt.encode(claims, secret, "HS512")),
        "other": system.authorization(),
        "owner": system.authorization(OWNER),
    }


@pytest.fixture(scope="module")
async def names(system: RunningSystem, http: aiohttp.ClientSession, clips: dict[str, Clip]) -> dict[str, str]:
    """A draft, a private (with captions) and a public video of the owner, and their numbers."""
    owner = LibraryUser(system, http, OWNER)
    data = clips["clip.mp4"].data
    ids = {name: await owner.upload(data, name=f"{name}.mp4") for name in ("draft", "private", "public")}
    for hash_id in ids.values():
        await owner.until_mine(hash_id)
    await owner.publish(ids["private"], is_private=True)
    await owner.publish(ids["public"])
    transcript = f"/videos/{ids['private']}/transcript"
    await owner.ask("POST", transcript, 202)

    async def is_heard() -> bool:
        return bool((await owner.ask("GET", transcript))["status"] == "completed")

    # They have no sound, so that it is quick.
    await until(is_heard)
    async with redis.Redis.from_url(system.redis_url, decode_responses=True) as client:
        found = await client.hgetall("{catalog}:numbers")
    number_of = {str(hash_id): str(number) for number, hash_id in found.items()}
    numbers = {f"{name}_number": number_of[hash_id] for name, hash_id in ids.items()}
    return {"owner": str(OWNER), **ids, **numbers}


def test_the_table_names_every_route_of_the_dialect() -> None:
    named = {(method, path.partition("?")[0].rstrip("/")) for method, path in TABLE}
    for operation in (each for each in routes if each.published):
        pattern = operation.path.replace("{hash_id}", "{draft}").replace("{user_id}", "{owner}")
        assert (operation.method, pattern) in named


@pytest.mark.parametrize(("method", "path"), TABLE)
async def test_each_caller_gets_its_status(
    system: RunningSystem, http: aiohttp.ClientSession, names: dict[str, str], method: str, path: str
) -> None:
    options, statuses = TABLE[method, path]
    if isinstance(body := options.get("json"), dict):
        filled = {name: value.format_map(names) if isinstance(value, str) else value for name, value in body.items()}
        options = {**options, "json": filled}
    got = []
    for headers in tokens(system).values():
        url = system.base_url + path.format_map(names)
        async with http.request(method, url, headers=headers, allow_redirects=False, **options) as response:
            body = await response.read()
            got.append(response.status)
        if response.status == 200 and path.startswith("/video/"):
            # What is listed is for whoever asked, and so are its presigned URLs.
            assert response.headers["Cache-Control"] == "no-store"
        if response.status == 401 and method != "HEAD":
            assert body == b'{"detail": "Unauthorized"}'
        if "/video/my/" in path and response.status in {204, 404, 425}:
            assert body == b""
    assert dict(zip(CALLERS, got, strict=True)) == dict(zip(CALLERS, statuses, strict=True))


async def test_lists_show_a_draft_or_private_video_to_its_owner_alone(
    system: RunningSystem, http: aiohttp.ClientSession, clips: dict[str, Clip]
) -> None:
    owner = LibraryUser.new(system, http)
    users = {"owner": owner, "other": LibraryUser.new(system, http), "anybody": LibraryUser(system, http, None)}
    draft = (await owner.draft(clips["clip.mp4"].data, name="secret-draft.mp4"))["hash_id"]
    private = (await owner.draft(clips["clip.mp4"].data, name="secret-private.mp4"))["hash_id"]
    await owner.publish(private, title="secret-private.mp4", is_private=True)
    public = (await owner.draft(clips["clip.mp4"].data, name="for-all.mp4"))["hash_id"]
    await owner.publish(public, title="for-all.mp4")
    lists = ("/api/record/videos", "/record/videos/", "/video/explore?include_my=true", f"/video/user/{owner.id}")
    for name, user in users.items():
        shown = [json.dumps(await user.ask("GET", path)) for path in lists]
        assert ["for-all" in each for each in shown] == [True] * len(lists)
        seen = "".join(shown)
        assert ("secret-private" in seen) == (name == "owner")
        # Not even its owner finds a draft anywhere but among its own.
        assert "secret-draft" not in seen and draft not in seen
    assert {draft, private, public} == {video["hash_id"] for video in (await owner.ask("GET", "/video/my"))["videos"]}


@pytest.fixture(scope="module")
async def draft(system: RunningSystem, http: aiohttp.ClientSession, clips: dict[str, Clip]) -> str:
    """One more draft of the owner."""
    return str((await LibraryUser(system, http, OWNER).draft(clips["clip.mp4"].data))["hash_id"])


@pytest.mark.parametrize(
    "asked",
    [
        ("PUT", "/video/my/{draft}", b'{"title":"\\ud800","description":"d"}', 422),
        ("PUT", "/video/my/{draft}", b'{"title":"\xff","description":"d"}', 422),
        ("PUT", "/video/my/{draft}", b"[" * 100_000, 422),
        ("PUT", "/video/my/{draft}", b'["title"]', 422),
        ("PUT", "/video/my/{draft}", b"", 422),
        ("PUT", "/video/my/{draft}", b'{"title":null,"description":null}', 400),
        ("PUT", "/video/my/{draft}", b'{"title":" ","description":"d"}', 400),
        ("PUT", "/video/my/{draft}", b'{"title":"t","description":"d","state":"READY"}', 400),
        ("PUT", "/video/my/{draft}", b'{"title":"' + b"t" * 256 + b'","description":"d"}', 422),
        ("PUT", "/video/my/%00", b'{"title":"t","description":"d"}', 404),
        ("DELETE", "/video/my/{draft}%2F..", b"", 404),
        ("GET", "/video/user/%FF", b"", 404),
        ("GET", "/video/user/" + "u" * 3000, b"", 404),
        ("GET", "/video/user/", b"", 404),
        ("GET", "/video/watch?user_id=%FF&hash_id=%00", b"", 404),
        ("GET", "/video/watch?user_id=&hash_id={draft}", b"", 404),
        ("GET", "/video/explore?include_my=perhaps", b"", 422),
        ("GET", "/video/explore?next=%00%FF", b"", 422),
        ("GET", "/video/explore?next=" + "A" * 4000, b"", 422),
        ("POST", "/video/explore", b"", 405),
    ],
)
async def test_what_no_honest_client_sends(
    system: RunningSystem, http: aiohttp.ClientSession, draft: str, asked: tuple[str, str, bytes, int]
) -> None:
    method, path, body, status = asked
    url = URL(system.base_url + path.replace("{draft}", draft), encoded=True)
    headers = {**system.authorization(OWNER), "Content-Type": "application/json"}
    async with http.request(method, url, headers=headers, data=body or None) as response:
        assert response.status == status, await response.text()


async def test_edits_at_once_are_all_taken(
    system: RunningSystem, http: aiohttp.ClientSession, clips: dict[str, Clip]
) -> None:
    owner = LibraryUser.new(system, http)
    hash_id = (await owner.draft(clips["clip.mp4"].data))["hash_id"]
    await asyncio.gather(*(owner.publish(hash_id, title=f"Title {number}") for number in range(20)))
    assert (await owner.mine(hash_id))["title"].startswith("Title ")


async def test_a_draft_or_private_video_is_no_input_of_a_task(
    system: RunningSystem, http: aiohttp.ClientSession, clips: dict[str, Clip]
) -> None:
    owner, other = LibraryUser.new(system, http), LibraryUser.new(system, http)
    draft = (await owner.draft(clips["clip.mp4"].data))["hash_id"]
    private = (await owner.draft(clips["clip.mp4"].data))["hash_id"]
    await owner.publish(private, is_private=True)

    async def failure(user: LibraryUser, hash_id: str) -> str | None:
        body = {
            "ffmpeg_command": "-i {{in_1}} -c copy {{out_1}}",
            "input_files": {"in_1": f"video://{hash_id}"},
            "output_files": {"out_1": "out.mp4"},
        }
        task_id = (await user.ask("POST", "/ffmpeg/register", json=body))["task_id"]

        async def has_ended() -> bool:
            return (await user.ask("GET", f"/ffmpeg/status/{task_id}"))["status"] in {"completed", "failed"}

        await until(has_ended)
        reason: str | None = (await user.ask("GET", f"/ffmpeg/status/{task_id}"))["error_message"]
        return reason

    unknown = await failure(other, str(uuid4()))
    assert unknown is not None
    assert await failure(other, draft) == await failure(other, private) == await failure(owner, draft) == unknown
    assert await failure(owner, private) is None


async def test_a_token_in_the_systems_name_is_refused(system: RunningSystem, http: aiohttp.ClientSession) -> None:
    token = jwt.encode({"sub": SYSTEM_USER, "exp": int(time.time()) + 60}, system.secret, "HS256")
    url = f"{system.base_url}/video/explore"
    async with http.get(url, headers={"Authorization": f"Bearer {token}"}) as response:
        assert response.status == 401
