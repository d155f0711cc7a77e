"""Finalize means words: recordings become transcripts over the REST API, and over gRPC.

| promise | test |
|---|---|
| real speech, recorded, sent in chunks, finalized: words and times | test_a_recording_is_heard |
| captions on the video in a browser | test_chromium_shows_the_captions |
| silence, noise, a tone, no sound: completed and empty | test_nothing_is_said |
| on demand, for the caller's own videos, over REST and gRPC | test_on_demand |
| without an engine a transcript fails and says why, and nothing else does | test_without_an_engine |
| clips that never become one video fail, and do not wait for ever | test_clips_that_cannot_be_joined |
| commands are not held up | test_commands_do_not_wait_for_transcripts |
| whatever is killed on the way costs nothing | tests/faults/test_transcripts_killed.py |
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from reelway.v1 import media_pb2, transcript_pb2, transcript_pb2_grpc

from services.common.caller import Caller
from services.common.channel import open_channel
from tests.support.browser import chromium
from tests.support.clips import mp4_of
from tests.support.http_server import serving
from tests.support.library import LibraryUser
from tests.support.object_store import keys_of
from tests.support.recorder import FINALIZE, RECORD, ended, record, send, transcriptions, uuid_of
from tests.support.speech import clips, make, make_reading, normal, word_error_rate
from tests.support.system import RunningSystem
from tests.support.waiting import until

ENDED = {"completed", "failed"}
PICTURE = ("-f", "lavfi", "-i", "testsrc=size=64x36:rate=5:duration=3")


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture(scope="module")
async def anna(hearing_system: RunningSystem, http: aiohttp.ClientSession) -> LibraryUser:
    return LibraryUser.new(hearing_system, http)


async def fetch(user: LibraryUser, path: str, **headers: str) -> tuple[aiohttp.ClientResponse, str]:
    url = user.system.base_url + path
    async with user.http.get(url, headers={**user.headers, **headers}) as answer:
        return answer, await answer.text()


def cues_of(captions: str) -> list[tuple[float, float, str]]:
    """Start, end and text of each cue."""

    def seconds(stamp: str) -> float:
        hours, minutes, rest = stamp.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(rest)

    found = re.findall(r"(\d+:\d+:\d+\.\d+) --> (\d+:\d+:\d+\.\d+)\n(.+?)\n\n", captions + "\n\n", re.DOTALL)
    return [(seconds(start), seconds(end), text) for start, end, text in found]


@dataclass(frozen=True)
class Reading:
    """A recording whose transcript was asked for a moment ago."""

    number: int
    begins: list[float]
    """Seconds at which each clip begins in it."""
    uploaded: str
    """The uuid of the same file, uploaded whole."""
    command_seconds: float
    """What a command took while nothing was transcribed."""


@pytest.fixture(scope="module")
async def reading(anna: LibraryUser, tmp_path_factory: pytest.TempPathFactory) -> Reading:
    media = tmp_path_factory.mktemp("reading") / "reading.webm"
    begins = await make_reading(media)
    uploaded = await upload(anna, media)
    seconds = await run_command(anna, uploaded)
    return Reading(await record(anna, media), begins, uploaded, seconds)


async def upload(user: LibraryUser, media: Path) -> str:
    form = aiohttp.FormData()
    form.add_field("video", await asyncio.to_thread(media.read_bytes), filename=media.name)
    return str((await user.ask("POST", "/videos", 201, data=form))["id"])


async def run_command(user: LibraryUser, video_id: str) -> float:
    """Seconds from a command's registration to its completion."""
    body = {
        "ffmpeg_command": "-i {{in_1}} -vf scale=640:-2,fps=25 -t 12 -c:v libx264 -an {{out_1}}",
        "input_files": {"in_1": f"video://{video_id}"},
        "output_files": {"out_1": "out.mp4"},
    }
    begun = time.monotonic()
    task_id = (await user.ask("POST", "/ffmpeg/register", json=body))["task_id"]

    async def is_done() -> bool:
        task = await user.ask("GET", f"/ffmpeg/status/{task_id}")
        assert task["status"] != "failed", task
        return bool(task["status"] == "completed")

    await until(is_done, 60)
    return time.monotonic() - begun


async def test_commands_do_not_wait_for_transcripts(anna: LibraryUser, reading: Reading) -> None:
    """One that is registered while a transcript runs is done at most one task length later than alone."""
    number, alone = reading.number, reading.command_seconds

    async def state() -> str:
        return str((await anna.ask("GET", f"{RECORD}/{number}"))["transcription_status"])

    async def runs() -> bool:
        return await state() == "running"

    await until(runs)
    took = [await run_command(anna, reading.uploaded)]
    # Again where something else on this machine got in between.
    while min(took) > 2 * alone and await runs():
        took.append(await run_command(anna, reading.uploaded))
    if min(took) > 2 * alone:
        # It may have come since the one that was alone.
        await ended(anna, number)
        alone = max(alone, await run_command(anna, reading.uploaded))
    assert min(took) <= 2 * alone, (alone, took)


async def test_a_recording_is_heard(anna: LibraryUser, reading: Reading) -> None:
    number = reading.number
    video = await ended(anna, number)
    assert (video["transcription_status"], video["transcription_error"]) == ("completed", None)
    assert video["transcription"]["id"] == number
    text = video["transcription"]["transcription_text"]
    assert word_error_rate(" ".join(words for _, words in clips()), text) <= 0.15
    listed = await anna.ask("GET", RECORD)
    assert next(one for one in listed if one["id"] == number) == video

    answer, captions = await fetch(anna, f"{RECORD}/{number}/captions.vtt")
    assert (answer.status, answer.content_type, answer.charset) == (200, "text/vtt", "utf-8")
    assert captions.startswith("WEBVTT\n")
    cues = cues_of(captions)
    assert normal(" ".join(words for _, _, words in cues)) == normal(text)
    assert all(len(words) <= 84 and end - start <= 7 for start, end, words in cues)
    for begin, (wav, words) in zip(reading.begins, clips(), strict=True):
        start = next(start for start, _, found in cues if normal(found)[:2] == normal(words)[:2])
        assert abs(start - begin) <= 1.0, wav.name
    again, _ = await fetch(anna, f"/record/videos/{number}/captions.vtt/", **{"If-None-Match": answer.headers["ETag"]})
    assert again.status == 304

    video_id = await uuid_of(anna.system, number)
    assert await transcriptions(anna.system, video_id) == 1, "finalizing twice makes one job"
    told = await anna.ask("GET", f"/videos/{video_id}/transcript")
    assert told == {"id": video_id, "status": "completed", "text": text, "language": "en", "error": None}
    assert (await fetch(anna, f"/videos/{video_id}/captions.vtt"))[1] == captions
    async with open_channel(anna.system.process("catalog").listen) as channel:
        stub: transcript_pb2_grpc.TranscriptServiceAsyncStub = transcript_pb2_grpc.TranscriptServiceStub(channel)
        metadata: Any = Caller(anna.id, "a").metadata()
        found = await stub.GetTranscript(transcript_pb2.GetTranscriptRequest(video_id=video_id), metadata=metadata)
    result = found.transcript.result
    assert (found.captions, result.text, result.model) == (captions, text, "base")


async def test_chromium_shows_the_captions(anna: LibraryUser, reading: Reading) -> None:
    """On a page of another origin than the API's, as an application's is; nobody's video, for it has no token."""
    number = reading.number
    await ended(anna, number)
    anybody = LibraryUser(anna.system, anna.http, None)
    cues = cues_of((await fetch(anybody, f"{RECORD}/{number}/captions.vtt"))[1])
    start, end, words = cues[0]
    base = f"{anna.system.base_url}{RECORD}/{number}"

    async def page_of(request: web.Request) -> web.Response:
        html = f"""<!doctype html><video muted crossorigin src="{base}/stream_video">
            <track default kind="captions" srclang="en" src="{base}/captions.vtt"></video>"""
        return web.Response(text=html, content_type="text/html")

    async with serving(page_of) as port, chromium() as browser:
        page = await browser.new_page()
        await page.goto(f"http://127.0.0.1:{port}/")
        await page.wait_for_function("document.querySelector('track').track.cues?.length > 0", timeout=30_000)
        shown: Any = await page.evaluate(
            """async at => {
                const video = document.querySelector("video"), track = document.querySelector("track").track
                const changed = new Promise(done => { track.oncuechange = () => track.activeCues.length && done() })
                video.currentTime = at
                await changed
                const [cue] = track.activeCues
                return {count: track.cues.length, mode: track.mode, text: cue.text, start: cue.startTime}
            }""",
            (start + end) / 2,
        )
    assert shown == {"count": len(cues), "mode": "showing", "text": words, "start": start}


async def test_nothing_is_said(anna: LibraryUser, tmp_path: Path) -> None:
    sounds = {
        "silence": ("-f", "lavfi", "-i", "anullsrc=r=48000:d=3", "-c:a", "libopus"),
        "noise": ("-f", "lavfi", "-i", "anoisesrc=color=brown:duration=20:amplitude=0.3", "-c:a", "libopus"),
        "tone": ("-f", "lavfi", "-i", "sine=frequency=440:duration=3", "-c:a", "libopus"),
        "mute": (),
    }
    numbers = {}
    for name, sound in sounds.items():
        await make(*PICTURE, *sound, "-c:v", "libvpx", str(tmp_path / f"{name}.webm"))
        numbers[name] = await record(anna, tmp_path / f"{name}.webm")
    for name, number in numbers.items():
        video = await ended(anna, number)
        told = (video["transcription_status"], video["transcription"], video["transcription_error"])
        assert (name, *told) == (name, "completed", {"id": number, "transcription_text": ""}, None)
        answer, captions = await fetch(anna, f"{RECORD}/{number}/captions.vtt")
        assert (answer.status, captions) == (200, "WEBVTT\n\n")


async def test_on_demand(anna: LibraryUser, tmp_path: Path) -> None:
    """A video that came by another door; its owner asks, and deletes it."""
    wav, words = clips()[1]
    media = tmp_path / "clip.webm"
    await make(*PICTURE, "-i", str(wav), "-c:v", "libvpx", "-c:a", "libopus", str(media))
    video_id = await upload(anna, media)
    path = f"/videos/{video_id}"
    await anna.ask("GET", f"{path}/transcript", 404)
    await anna.ask("GET", f"{path}/captions.vtt", 404)
    refused = await anna.ask("POST", f"{path}/transcript?language=klingon", 422)
    assert [item["loc"] for item in refused["detail"]] == [["query", "language"]]
    boris = LibraryUser.new(anna.system, anna.http)
    assert await boris.status("POST", f"{path}/transcript") == 403

    asked = await anna.ask("POST", f"{path}/transcript?language=en-GB", 202)
    assert asked == {"id": video_id, "status": "pending", "text": None, "language": None, "error": None}
    await anna.ask("POST", f"{path}/transcript?language=de", 409)

    async def is_there() -> bool:
        return (await anna.ask("GET", f"{path}/transcript"))["status"] in ENDED

    await until(is_there, 90)
    told = await anna.ask("POST", f"{path}/transcript?language=en", 202)
    assert (told["status"], told["language"]) == ("completed", "en")
    assert word_error_rate(words, told["text"]) <= 0.15
    assert await transcriptions(anna.system, video_id) == 1

    await anna.ask("DELETE", f"/video/my/{video_id}", 204)
    assert await keys_of(anna.system.s3, video_id) == {f"catalog/{video_id}.json"}
    await anna.ask("GET", f"{path}/captions.vtt", 404)


async def test_without_an_engine(system: RunningSystem, http: aiohttp.ClientSession, tmp_path: Path) -> None:
    user = LibraryUser.new(system, http)
    tone = ("-f", "lavfi", "-i", "sine=duration=3", "-c:a", "libopus")
    await make(*PICTURE, *tone, "-c:v", "libvpx", str(tmp_path / "tone.webm"))
    number = await record(user, tmp_path / "tone.webm")
    video = await ended(user, number)
    told = (video["transcription_status"], video["transcription"], video["transcription_error"])
    assert told == ("failed", None, "Transcription is switched off on this server")
    await user.ask("GET", f"{RECORD}/{number}/captions.vtt", 404)
    assert await user.status("GET", f"{RECORD}/{number}/stream_video") == 200
    # Asking again, here over gRPC, tries again.
    video_id = await uuid_of(system, number)
    async with open_channel(system.process("catalog").listen) as channel:
        stub: transcript_pb2_grpc.TranscriptServiceAsyncStub = transcript_pb2_grpc.TranscriptServiceStub(channel)
        metadata: Any = Caller(user.id, "u").metadata()
        request = transcript_pb2.RequestTranscriptRequest(video_id=video_id)
        again = (await stub.RequestTranscript(request, metadata=metadata)).transcript
    assert (again.request, again.state) == (2, media_pb2.TRANSCRIPT_STATE_PENDING)
    await ended(user, number)
    assert await transcriptions(system, video_id) == 2


async def test_clips_that_cannot_be_joined(
    system: RunningSystem, http: aiohttp.ClientSession, mp4: bytes, tmp_path: Path
) -> None:
    user = LibraryUser.new(system, http)
    # Three chunks: what begins like a clip is between two of them.
    (tmp_path / "broken.mp4").write_bytes(mp4 + mp4_of(len(mp4)) + mp4[:-1])
    number = await send(user, tmp_path / "broken.mp4", chunks=3)
    await user.ask("POST", FINALIZE, json={"video_id": number})
    video = await ended(user, number)
    assert (video["transcription_status"], video["transcription"]) == ("failed", None)
    assert video["transcription_error"].startswith("The clips cannot be joined to one video: A clip is no video")
    assert await user.status("GET", f"{RECORD}/{number}/stream_video") == 409
    assert await user.status("GET", f"/get_video/{number}") == 409
    hash_id = await uuid_of(system, number)
    await user.publish(hash_id)
    refused = await user.ask("GET", "/video/watch", 409, params={"user_id": user.id, "hash_id": hash_id})
    assert refused["detail"].startswith("The clips cannot be joined to one video")
