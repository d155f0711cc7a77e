"""A transcript as a job of the whole system: from a recording to words in the store, and to nothing again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
from reelway.v1 import ffmpeg_pb2, ffmpeg_pb2_grpc

from services.common.caller import system_caller
from services.common.channel import open_channel
from tests.support.object_store import client_of, keys_of
from tests.support.speech import clips, make, word_error_rate
from tests.support.system import RunningSystem
from tests.support.waiting import until

ANNA = uuid4()
FINISHED = {ffmpeg_pb2.TASK_STATE_COMPLETED, ffmpeg_pb2.TASK_STATE_FAILED}


async def upload(system: RunningSystem, file: Path, user: UUID = ANNA) -> str:
    form = aiohttp.FormData()
    form.add_field("video", await asyncio.to_thread(file.read_bytes), filename=file.name)
    url, headers = f"{system.base_url}/videos", system.authorization(user)
    async with aiohttp.ClientSession() as http, http.post(url, data=form, headers=headers) as answer:
        assert answer.status == 201, await answer.text()
        return str((await answer.json())["id"])


async def transcribe(system: RunningSystem, video_id: str, **parameters: str) -> ffmpeg_pb2.Task:
    """Register the job, and wait for its end."""
    metadata: Any = system_caller().metadata()
    async with open_channel(system.process("ffmpeg").listen) as channel:
        stub: ffmpeg_pb2_grpc.FfmpegServiceAsyncStub = ffmpeg_pb2_grpc.FfmpegServiceStub(channel)
        work = ffmpeg_pb2.VideoWork(kind=ffmpeg_pb2.TASK_KIND_TRANSCRIBE, video_id=video_id, parameters=parameters)
        request = ffmpeg_pb2.RegisterTaskRequest(video=work)
        task = (await stub.RegisterTask(request, metadata=metadata)).task

        async def ended() -> bool:
            nonlocal task
            get = ffmpeg_pb2.GetTaskRequest(task_id=task.task_id)
            task = (await stub.GetTask(get, metadata=metadata)).task
            return task.state in FINISHED

        await until(ended, 150)
    return task


async def stored(system: RunningSystem, key: str) -> tuple[bytes, str]:
    """Bytes and content type."""

    def read() -> tuple[bytes, str]:
        found = client_of(system.s3).get_object(Bucket=system.s3.bucket, Key=key)
        return found["Body"].read(), found["ContentType"]

    return await asyncio.to_thread(read)


def result(task: ffmpeg_pb2.Task) -> Mapping[str, Any]:
    assert task.state == ffmpeg_pb2.TASK_STATE_COMPLETED, task.error
    found: Mapping[str, Any] = json.loads(task.result_json)
    return found


async def test_a_recordings_words_are_stored_and_go_with_it(hearing_system: RunningSystem, tmp_path: Path) -> None:
    system = hearing_system
    wav, text = clips()[0]
    media = tmp_path / "reading.webm"
    picture = ("-f", "lavfi", "-i", "testsrc=size=64x36:rate=5:duration=7")
    await make(*picture, "-i", str(wav), "-c:v", "libvpx", "-c:a", "libopus", str(media))
    video_id = await upload(system, media)

    found = result(await transcribe(system, video_id, language="en"))
    assert (found["outcome"], found["language"], found["model"]) == ("speech", "en", "base")
    document = json.loads((await stored(system, f"{found['key']}.json"))[0])
    assert word_error_rate(text, document["text"]) <= 0.15
    captions, content_type = await stored(system, f"{found['key']}.vtt")
    assert content_type == "text/vtt; charset=utf-8"
    assert captions.startswith(b"WEBVTT\n\n00:00:0")
    # The pieces are gone; what the transcript is made of is there.
    assert await keys_of(system.s3, f"transcripts/{video_id}") == {f"{found['key']}.json", f"{found['key']}.vtt"}

    assert result(await transcribe(system, video_id, etag='"another"')) == {"outcome": "changed"}
    refused = await transcribe(system, video_id, language="klingon")
    assert refused.error.reason == "UNSUPPORTED_LANGUAGE"

    url = f"{system.base_url}/video/my/{video_id}"
    async with aiohttp.ClientSession() as http, http.delete(url, headers=system.authorization(ANNA)) as answer:
        assert answer.status == 204
    assert await keys_of(system.s3, video_id) == {f"catalog/{video_id}.json"}
    assert result(await transcribe(system, video_id)) == {"outcome": "gone"}


async def test_a_video_without_sound_has_an_empty_transcript(hearing_system: RunningSystem, tmp_path: Path) -> None:
    media = tmp_path / "mute.webm"
    await make("-f", "lavfi", "-i", "testsrc=size=64x36:rate=5:duration=1", "-c:v", "libvpx", str(media))
    video_id = await upload(hearing_system, media)
    found = result(await transcribe(hearing_system, video_id))
    assert (found["outcome"], found["language"]) == ("no_audio", "")
    assert await stored(hearing_system, f"{found['key']}.vtt") == (b"WEBVTT\n\n", "text/vtt; charset=utf-8")
