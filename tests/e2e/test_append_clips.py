"""Whole clips appended one after another play back as one video."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import redis.asyncio

from services.common.catalog_client import CatalogClient
from services.common.channel import open_channel
from services.common.clip_joiner import ClipJoiner
from services.common.clock import SystemClock
from services.common.error_catalog import ErrorReason
from services.common.object_keys import RECORDS, joined_prefix, journal_prefix
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.common.upload_client import UploadClient
from services.stream.versions import Versions
from services.stream.video_cache import VideoCache
from tests.support.clips import described, make_clip
from tests.support.journal_client import refusal
from tests.support.system import RunningSystem
from tests.support.waiting import until

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "10")
SINE = ("-f", "lavfi", "-i", "sine=frequency={}:duration={}")


def probe(data: bytes, folder: Path, *arguments: str) -> Any:
    path = folder / "probed"
    path.write_bytes(data)
    return described(path, *arguments)


def frames(data: bytes, folder: Path) -> int:
    found = probe(data, folder, "-count_frames", "-select_streams", "v:0", "-show_streams")
    return int(found["streams"][0]["nb_read_frames"])


def packets(data: bytes, folder: Path) -> list[str]:
    found = probe(data, folder, "-select_streams", "v:0", "-show_packets", "-show_data_hash", "sha256")
    return [packet["data_hash"] for packet in found["packets"]]


async def append_all(http: aiohttp.ClientSession, *chunks: bytes) -> int:
    async with http.post("/create_video/") as answer:
        number: int = (await answer.json())["video_id"]
    for chunk in chunks:
        async with http.post(f"/append_video/{number}/", data=chunk) as answer:
            assert answer.status == 200, await answer.text()
    return number


async def fetch(http: aiohttp.ClientSession, number: int) -> tuple[bytes, aiohttp.ClientResponse]:
    async with http.get(f"/get_video/{number}/") as answer:
        data = await answer.read()
        assert answer.status == 200, data
        return data, answer


async def joins(system: RunningSystem, number: int) -> list[dict[str, Any]]:
    """What each join that was ever made of a video says of itself."""
    async with S3Objects.open(system.s3.settings) as objects:
        video_id = await id_of(objects, number)
    async with redis.asyncio.Redis.from_url(system.redis_url, decode_responses=True) as client:
        jobs: list[Any] = [await client.hgetall(key) async for key in client.scan_iter("{ff}:job:*")]
    results = [json.loads(job["result"]) for job in jobs if job["kind"] == "join" and video_id in job["spec"]]
    return [{"clips": one["clips"], "encoded": one["encoded"]} for one in results]


async def test_clips_of_one_kind_are_joined_packet_by_packet(
    system: RunningSystem, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    clips = [make_clip(tmp_path / f"{index}.mp4", X264, seconds=0.4 + index / 5).read_bytes() for index in range(3)]
    halves = len(clips[1]) // 2
    # The second clip comes in two slices.
    number = await append_all(http, clips[0], clips[1][:halves], clips[1][halves:], clips[2])
    joined, answer = await fetch(http, number)
    assert answer.content_type == "video/mp4"
    assert packets(joined, tmp_path) == [packet for clip in clips for packet in packets(clip, tmp_path)]
    # Cached until the next append: the same bytes under the same tag, ranges too.
    async with http.get(f"/get_video/{number}/", headers={"Range": "bytes=100-199"}) as part:
        assert (part.status, await part.read()) == (206, joined[100:200])
        assert part.headers["ETag"] == answer.headers["ETag"]
    async with http.post(f"/append_video/{number}/", data=clips[0]) as appended:
        assert appended.status == 200
    longer, after = await fetch(http, number)
    assert after.headers["ETag"] != answer.headers["ETag"]
    assert packets(longer, tmp_path) == packets(joined, tmp_path) + packets(clips[0], tmp_path)
    made = await joins(system, number)
    assert sorted(made, key=lambda one: one["clips"]) == [
        {"clips": 3, "encoded": False},
        {"clips": 4, "encoded": False},
    ]


async def test_clips_of_different_kinds_become_one_video_with_every_frame(
    system: RunningSystem, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    sound = (argument.format(440, 0.6) for argument in SINE)
    mp4 = make_clip(tmp_path / "a.mp4", (*sound, *X264, "-c:a", "aac", "-shortest"), seconds=0.6).read_bytes()
    webm = make_clip(
        tmp_path / "b.webm", ("-c:v", "libvpx", "-deadline", "realtime"), seconds=0.48, size="96x160"
    ).read_bytes()
    avi = make_clip(tmp_path / "c.avi", ("-c:v", "mpeg4"), seconds=0.4, size="64x48").read_bytes()
    number = await append_all(http, mp4, webm, avi)
    # Asked for by several at once, made once; and kept.
    answers = await asyncio.gather(*(fetch(http, number) for _ in range(4)))
    joined = answers[0][0]
    assert all(data == joined for data, _ in [*answers, await fetch(http, number)])
    assert await joins(system, number) == [{"clips": 3, "encoded": True}]
    assert frames(joined, tmp_path) == sum(frames(clip, tmp_path) for clip in (mp4, webm, avi))
    streams = probe(joined, tmp_path, "-show_streams")["streams"]
    assert [(one["codec_name"], one.get("width"), one.get("height")) for one in streams] == [
        ("h264", 128, 96),
        ("aac", None, None),
    ]


async def test_a_finished_recording_of_clips_becomes_one_object_with_the_same_bytes(
    system: RunningSystem, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    clips = [make_clip(tmp_path / f"{index}.mp4", X264, seconds=0.4).read_bytes() for index in range(2)]
    number = await append_all(http, *clips)
    joined, before = await fetch(http, number)
    async with http.post("/api/record/videos/finalize_video_upload", json={"video_id": number}) as answer:
        assert answer.status == 200
    for _ in range(3):
        data, after = await fetch(http, number)
        assert (data, after.headers["ETag"]) == (joined, before.headers["ETag"])

    async with S3Objects.open(system.s3.settings) as objects:
        video_id = await id_of(objects, number)
        await until(lambda: is_one_object(objects, video_id))
    data, after = await fetch(http, number)
    assert (data, after.headers["ETag"]) == (joined, before.headers["ETag"])


async def test_who_reads_one_clip_gets_no_byte_of_the_file_that_it_was_joined_to(
    system: RunningSystem, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    clips = [make_clip(tmp_path / f"{index}.mp4", X264, seconds=0.4).read_bytes() for index in range(2)]
    number = await append_all(http, clips[0])
    _, answer = await fetch(http, number)
    first = answer.headers["ETag"]
    settings = system.s3.settings
    async with (
        S3Objects.open(settings) as objects,
        S3Bytes.open(settings) as data,
        open_channel(system.process("catalog").listen) as catalog,
        open_channel(system.process("upload").listen) as upload,
        open_channel(system.process("ffmpeg").listen) as ffmpeg,
    ):
        # What it knows of the record stays what it was before the compaction.
        videos = VideoCache(CatalogClient(catalog), 3600)
        versions = Versions(videos, UploadClient(upload), data, ClipJoiner(objects, ffmpeg, SystemClock()))
        video = await videos.get(await id_of(objects, number))
        under_way = await versions.find(video, first, 0, len(clips[0]))
        async with http.post(f"/append_video/{number}/", data=clips[1]) as appended:
            assert appended.status == 200
        assert [bytes(piece) async for piece in versions.read(under_way, 0, len(clips[0]))] == [clips[0]]
        async with http.post("/api/record/videos/finalize_video_upload", json={"video_id": number}) as finalized:
            assert finalized.status == 200
        await until(lambda: is_one_object(objects, video.video_id))

        for call in (versions.find(video, first, 0, 100), anext(versions.read(under_way, 0, 100))):
            assert await refusal(call) is ErrorReason.VIDEO_CHANGED
        joined, answer = await fetch(http, number)
        current = await versions.find(video)
        assert (current.etag, current.size) == (answer.headers["ETag"], len(joined))
    # Nobody had the clips joined again, which would fail: they are gone.
    assert await joins(system, number) == [{"clips": 2, "encoded": False}]


async def is_one_object(objects: S3Objects, video_id: str) -> bool:
    """Whether neither chunks nor a joined file are left beside a video's object."""
    prefixes = journal_prefix(video_id), joined_prefix(video_id)
    return not [info.key for prefix in prefixes async for info in objects.list(prefix)]


async def id_of(objects: S3Objects, number: int) -> str:
    """The UUID of a video, from its record."""
    async for info in objects.list(RECORDS):
        record = json.loads(await objects.get(info.key) or b"{}")
        if record.get("number") == str(number):
            return str(record["video_id"])
    raise AssertionError(f"no record of video {number}")


async def test_what_cannot_be_joined_is_left_out_at_the_end_and_said_of_any_other(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "0.mp4", X264, seconds=0.4).read_bytes()
    number = await append_all(http, clip, b"\x1a\x45\xdf\xa3 and no more of a WebM")
    data, answer = await fetch(http, number)
    assert (data, answer.content_type) == (clip, "video/mp4")
    async with http.post(f"/append_video/{number}/", data=clip) as appended:
        assert appended.status == 200
    async with http.get(f"/get_video/{number}/") as answer:
        assert answer.status == 409
        assert "cannot be joined" in (await answer.json())["detail"]
