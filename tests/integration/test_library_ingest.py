"""How signed uploads arrive: what a form allows, events and their loss, many at once, and what never comes."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import quote_plus

import aiohttp
import pytest
import redis.asyncio as redis
from reelway.v1 import ffmpeg_pb2, ffmpeg_pb2_grpc, signing_pb2, signing_pb2_grpc

from deploy.local.ports import free_port
from services.common.caller import system_caller
from services.common.channel import open_channel
from services.common.s3_objects import S3Objects
from tests.support.clips import Clip
from tests.support.library import LibraryUser, Signed
from tests.support.object_store import keys_of, put_object
from tests.support.programs import static
from tests.support.servers import S3Server
from tests.support.system import RunningSystem, start_system
from tests.support.waiting import until

TOKEN = "events-token"
MAX_BYTES = 300_000
FETCHED_BYTES = 2_000_000


@pytest.fixture(scope="module")
def hook() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
async def eventful(
    juicefs_s3: S3Server, tmp_path_factory: pytest.TempPathFactory, hook: str
) -> AsyncIterator[RunningSystem]:
    """A system that is told of arrivals, and does not look for itself."""
    env = {
        "INGEST_INTERVAL_SECONDS": "3600",
        "INGEST_EVENTS_LISTEN": hook,
        "INGEST_EVENTS_TOKEN": TOKEN,
        "LIBRARY_MAX_BYTES": str(MAX_BYTES),
        "SIGN_SECONDS": "5",
        "LIBRARY_SIGNED_SECONDS": "5",
        "LIBRARY_SIGNED_PER_OWNER": "3",
        "CATALOG_SWEEP_INTERVAL_SECONDS": "0.5",
        "COMMAND_INPUT_BYTES": str(FETCHED_BYTES),
    }
    async with start_system(tmp_path_factory.mktemp("eventful"), env=env, s3=juicefs_s3) as running:
        yield running


def event(*keys: str) -> bytes:
    """As AWS sends it; keys are written as in a URL's query."""
    records = [
        {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Post",
            "s3": {"bucket": {"name": "b"}, "object": {"key": quote_plus(key), "size": 1, "eTag": "e"}},
        }
        for key in keys
    ]
    return json.dumps({"Records": records}).encode()


async def notify(http: aiohttp.ClientSession, hook: str, body: bytes, token: str = TOKEN) -> tuple[int, object]:
    headers = {"Authorization": f"Bearer {token}"}
    async with http.post(f"http://{hook}/", data=body, headers=headers) as response:
        return response.status, await response.json()


async def test_an_event_begins_the_processing(
    eventful: RunningSystem, http: aiohttp.ClientSession, hook: str, clips: dict[str, Clip]
) -> None:
    owner = LibraryUser.new(eventful, http)
    signed = await owner.sign()
    assert await owner.post(signed, clips["clip.mp4"].data) == 204
    body = event(signed.fields["key"], "somebody/elses", "incoming/no-uuid")
    assert (await notify(http, hook, body, token="wrong"))[0] == 401
    assert (await notify(http, hook, b"<xml>"))[0] == 422
    assert await notify(http, hook, b'{"Service":"Amazon S3","Event":"s3:TestEvent"}') == (200, {"objects": 0})
    assert await owner.ask("GET", "/video/my") == {"unprocessed_videos": [], "videos": []}
    assert await notify(http, hook, body) == (200, {"objects": 1})
    # And again, as S3 may.
    assert await notify(http, hook, body) == (200, {"objects": 1})
    await owner.until_mine(signed.hash_id)


async def test_an_event_by_grpc_and_too_large_a_file(eventful: RunningSystem, http: aiohttp.ClientSession) -> None:
    owner = LibraryUser.new(eventful, http)
    signed = await owner.sign()
    # The form does not let it through; whoever has the store's keys does.
    assert await owner.post(signed, b"\x00" * (MAX_BYTES + 1)) == 400
    await put_object(eventful.s3, signed.fields["key"], b"\x00\x00\x00\x18ftypisom" + b"\x00" * MAX_BYTES)
    async with open_channel(eventful.process("upload").listen) as channel:
        stub: signing_pb2_grpc.SigningServiceAsyncStub = signing_pb2_grpc.SigningServiceStub(channel)
        answer = await stub.NotifyArrivals(
            signing_pb2.NotifyArrivalsRequest(event_json=event(signed.fields["key"])), timeout=10
        )
    assert answer.objects == 1
    assert (await owner.until_failed(signed.hash_id))["failure_reason"] == "Maximum file size exceeded"
    await owner.ask("DELETE", f"/video/my/{signed.hash_id}", 204)
    assert await keys_of(eventful.s3, signed.hash_id) == {f"catalog/{signed.hash_id}.json"}


async def test_signatures_are_limited_per_owner_until_their_uploads_arrive(
    eventful: RunningSystem, http: aiohttp.ClientSession, hook: str, clips: dict[str, Clip]
) -> None:
    owner, other = LibraryUser.new(eventful, http), LibraryUser.new(eventful, http)
    signed = [await owner.sign() for _ in range(3)]
    query = {"file_name": "a.mp4", "file_content_type": "video/mp4"}
    for _ in range(2):
        told = {"detail": "Too many uploads that you signed for have not arrived"}
        assert await owner.ask("GET", "/video/upload", 429, params=query) == told
    await other.sign()
    assert await owner.post(signed[0], clips["clip.mp4"].data) == 204
    await notify(http, hook, event(signed[0].fields["key"]))
    await owner.sign()
    await owner.ask("GET", "/video/upload", 429, params=query)

    async def are_given_up() -> bool:
        return await owner.status("GET", "/video/upload", params=query) == 200

    await until(are_given_up, 30)


async def give_up_processing(system: RunningSystem, video_id: str) -> None:
    """Cancel its job; the catalog looks after it now and not half a minute later."""

    async def cancelled() -> bool:
        async with redis.Redis.from_url(system.redis_url, decode_responses=True) as client:
            specs = {key: await client.hget(key, "spec") async for key in client.scan_iter(match="{ff}:job:*")}
        return any([await cancel(key.rpartition(":")[2]) for key, spec in specs.items() if video_id in str(spec)])

    async def cancel(task_id: str) -> bool:
        async with open_channel(system.process("ffmpeg").listen) as channel:
            stub: ffmpeg_pb2_grpc.FfmpegServiceAsyncStub = ffmpeg_pb2_grpc.FfmpegServiceStub(channel)
            request = ffmpeg_pb2.CancelTaskRequest(task_id=task_id)
            await stub.CancelTask(request, timeout=10, metadata=system_caller().metadata())
        return True

    await until(cancelled)
    async with redis.Redis.from_url(system.redis_url) as client:
        await client.zadd("{catalog}:processing", {video_id: 0}, xx=True)


async def test_what_is_being_processed_is_not_deleted_and_what_is_given_up_or_never_comes_ends(
    eventful: RunningSystem, http: aiohttp.ClientSession, hook: str, clips: dict[str, Clip]
) -> None:
    owner = LibraryUser.new(eventful, http)
    signed, hopeless, forgotten = [await owner.sign(name) for name in ("a.mp4", "b.mp4", "c.mp4")]
    for upload in (signed, hopeless):
        assert await owner.post(upload, clips["clip.mp4"].data) == 204
    await eventful.process("worker").kill()
    try:
        await notify(http, hook, event(signed.fields["key"], hopeless.fields["key"]))
        entry = await owner.unprocessed(signed.hash_id)
        assert set(entry) == {"hash_id", "user_id", "file_name", "upload_time"}
        assert await owner.ask("DELETE", f"/video/my/{signed.hash_id}", 425) is None
        await owner.ask("PUT", f"/video/my/{signed.hash_id}", 404, json={"title": "t", "description": "d"})
        watch = {"user_id": owner.id, "hash_id": signed.hash_id}
        await owner.ask("GET", "/video/watch", 404, params=watch)
        assert await owner.status("GET", f"/videos/{signed.hash_id}/stream") == 404
        await give_up_processing(eventful, hopeless.hash_id)
        failed = await owner.until_failed(hopeless.hash_id)
        assert failed["failure_reason"] == "Internal error, please try again later"
        await owner.ask("DELETE", f"/video/my/{hopeless.hash_id}", 204)
        assert await keys_of(eventful.s3, hopeless.hash_id) == {f"catalog/{hopeless.hash_id}.json"}
    finally:
        await eventful.process("worker").start()
    await owner.until_mine(signed.hash_id)

    async def is_given_up() -> bool:
        async with redis.Redis.from_url(eventful.redis_url) as client:
            return await client.zscore("{catalog}:signed", forgotten.hash_id) is None

    await until(is_given_up, 60)
    # Too late: the object belongs to nobody.
    await put_object(eventful.s3, forgotten.fields["key"], clips["clip.mp4"].data)
    await notify(http, hook, event(forgotten.fields["key"]))

    async def is_thrown_away() -> bool:
        return await keys_of(eventful.s3, forgotten.hash_id) == {f"catalog/{forgotten.hash_id}.json"}

    await until(is_thrown_away)
    assert await owner.unprocessed(forgotten.hash_id) is None


async def test_what_an_attempt_stored_behind_a_deletion_goes_with_the_next_one(
    system: RunningSystem, http: aiohttp.ClientSession, clips: dict[str, Clip]
) -> None:
    """Its forerunner died when it had told its outcome: the draft was there, and somebody deleted it."""
    owner = LibraryUser.new(system, http)
    video_id = (await owner.draft(clips["clip.mp4"].data))["hash_id"]
    await owner.ask("DELETE", f"/video/my/{video_id}", 204)
    for key in (f"thumbnails/{video_id}.jpg", f"videos/{video_id}.mp4"):
        await put_object(system.s3, key, b"late")
    work = ffmpeg_pb2.VideoWork(
        kind=ffmpeg_pb2.TASK_KIND_PROBE, video_id=video_id, parameters={"source": f"incoming/{video_id}"}
    )
    async with open_channel(system.process("ffmpeg").listen) as channel:
        stub: ffmpeg_pb2_grpc.FfmpegServiceAsyncStub = ffmpeg_pb2_grpc.FfmpegServiceStub(channel)
        await stub.RegisterTask(
            ffmpeg_pb2.RegisterTaskRequest(video=work), timeout=10, metadata=system_caller().metadata()
        )

    async def nothing_is_left() -> bool:
        return await keys_of(system.s3, video_id) == {f"catalog/{video_id}.json"}

    await until(nothing_is_left)


async def test_a_video_too_large_to_be_fetched_is_described_by_its_parts(
    eventful: RunningSystem, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Red, green and blue for four seconds each: a third in, it is green."""
    large, picture = tmp_path / "large.mp4", tmp_path / "picture.jpg"
    thirds = "".join(f"color={color}:d=4:s=320x240[{color}];" for color in ("red", "lime", "blue"))
    source = f"{thirds}[red][lime][blue]concat=n=3,noise=alls=60:allf=t+u"
    encoded = ("-g", "1", "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "ultrafast", "-crf", "33")
    await ffmpeg("-f", "lavfi", "-i", source, *encoded, str(large))
    assert large.stat().st_size > FETCHED_BYTES
    owner = LibraryUser.new(eventful, http)
    form = aiohttp.FormData()
    form.add_field("video", large.read_bytes(), filename="large.mp4")
    created = await owner.ask("POST", "/videos", 201, data=form)

    async def is_described() -> bool:
        return "thumbnail_url" in await owner.mine(created["id"])

    await until(is_described)
    video = await owner.mine(created["id"])
    assert (video["duration_seconds"], video["size_in_bytes"]) == (12, large.stat().st_size)
    async with http.get(video["thumbnail_url"]) as answer:
        picture.write_bytes(await answer.read())
    red, green, blue = await ffmpeg("-i", str(picture), "-vf", "scale=1:1", "-pix_fmt", "rgb24", "-f", "rawvideo", "-")
    assert green > 100 > max(red, blue)


async def ffmpeg(*arguments: str) -> bytes:
    """What it writes to its standard output."""
    command = [static(), "-v", "error", "-nostdin", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output


async def test_a_form_binds_key_type_size_and_time(juicefs_s3: S3Server, http: aiohttp.ClientSession) -> None:
    async with S3Objects.open(juicefs_s3.settings) as objects:

        async def post(
            data: bytes = b"0123456789", *, seconds: int = 60, changed: Mapping[str, str] | None = None
        ) -> int:
            url, fields = await objects.presign_post("incoming/x", "video/mp4", 10, seconds)
            assert (fields["key"], fields["Content-Type"]) == ("incoming/x", "video/mp4")
            form = aiohttp.FormData()
            for name, value in ({**fields, **(changed or {})}).items():
                form.add_field(name, value)
            form.add_field("file", data, filename="f")
            if seconds == 1:
                await asyncio.sleep(2.1)
            async with http.post(url, data=form) as response:
                return response.status

        assert await post(changed={"key": "incoming/y"}) == 403
        assert await post(changed={"Content-Type": "text/html"}) == 403
        assert await post(b"0123456789A") == 400
        assert await post(b"") == 400
        assert await post(seconds=1) in {400, 403}
        assert [info.key async for info in objects.list("incoming/")] == []
        assert await post() == 204
        assert [(info.key, info.size) async for info in objects.list("incoming/")] == [("incoming/x", 10)]


@pytest.mark.parametrize(
    ("name", "content_type", "status"),
    [
        ("a.mp4", "video/mp4", 200),
        ("!@_-.*'()AZ09.ogg", "video/ogg", 200),
        ("a" * 255, "video/x-msvideo", 200),
        ("a" * 256, "video/mp4", 400),
        (".hidden.mp4", "video/mp4", 400),
        ("a b.mp4", "video/mp4", 400),
        ("a/b.mp4", "video/mp4", 400),
        ("ä.mp4", "video/mp4", 400),
        ("a.mp4\n", "video/mp4", 400),
        ("", "video/mp4", 400),
        ("a.mkv", "video/x-matroska", 400),
        ("a.mp4", "VIDEO/MP4", 400),
        ("a.mp4", "", 400),
    ],
)
async def test_names_and_types(
    system: RunningSystem, http: aiohttp.ClientSession, name: str, content_type: str, status: int
) -> None:
    owner = LibraryUser.new(system, http)
    query = {"file_name": name, "file_content_type": content_type}
    answer = await owner.ask("GET", "/video/upload", status, params=query)
    assert set(answer) == ({"url", "signatures"} if status == 200 else {"error"})
    if status == 200:
        assert answer["signatures"]["Content-Type"] == content_type
    elif content_type == "video/mp4":
        assert "a-z" in answer["error"], "what another name may be made of"
    assert (await owner.ask("GET", "/video/upload", 422, params={"file_name": name}))["detail"][0]["loc"] == [
        "query",
        "file_content_type",
    ]


async def test_config(system: RunningSystem, http: aiohttp.ClientSession) -> None:
    assert await LibraryUser.new(system, http).ask("GET", "/video/upload/config") == {
        "max_size_in_bytes": 1_000_000_000,
        "valid_file_types": ["video/mp4", "video/webm", "video/ogg", "video/mpeg", "video/x-msvideo"],
    }


async def test_a_hundred_at_once_without_an_event_become_one_draft_each(
    system: RunningSystem, http: aiohttp.ClientSession, clips: dict[str, Clip]
) -> None:
    owner = LibraryUser.new(system, http)
    signed: list[Signed] = await asyncio.gather(*(owner.sign(f"{number}.mp4") for number in range(100)))
    statuses = await asyncio.gather(*(owner.post(upload, clips["clip.mp4"].data) for upload in signed))
    assert set(statuses) == {204}

    async def are_drafts() -> bool:
        return len((await owner.ask("GET", "/video/my"))["videos"]) == 100

    await until(are_drafts, 120)
    found = await owner.ask("GET", "/video/my")
    assert found["unprocessed_videos"] == []
    ids = {upload.hash_id for upload in signed}
    assert {video["hash_id"] for video in found["videos"]} == ids
    async with redis.Redis.from_url(system.redis_url, decode_responses=True) as client:
        jobs = [await client.hgetall(key) async for key in client.scan_iter(match="{ff}:job:*")]
    runs = Counter(json.loads(job["spec"]).get("video_id", "") for job in jobs for _ in range(int(job["attempt"])))
    assert {video_id: runs[video_id] for video_id in ids} == dict.fromkeys(ids, 1)
