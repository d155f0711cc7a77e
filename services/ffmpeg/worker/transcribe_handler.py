"""Writes down what is said in a video.

Handler of JobKind.TRANSCRIBE. Parameters of its VideoWork, all optional:

    etag       of the bytes that are meant; a video that has others by now is left alone
    language   ISO 639-1; empty: as configured, or detected

Objects, all below `transcripts/{video_id}/`, where {key} is `transcript_key`:

    {key}.vtt, {key}.json            the captions; text, language and cues; written in this order, never changed
    pieces/{key}/{start}-{end}.json  what is heard so far; gone once the two are there
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
from reelway.v1 import catalog_pb2, catalog_pb2_grpc, media_pb2

from services.common import logs
from services.common.caller import SYSTEM_USER, set_caller, system_caller
from services.common.channel import CALL_SECONDS
from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error
from services.common.errors import ReelwayError
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.common.transcript_keys import transcript_prefix
from services.common.video_state import GONE
from services.ffmpeg.job import JobFault, Progress
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.transcription import webvtt
from services.ffmpeg.transcription.audio import CagedAudio
from services.ffmpeg.transcription.failure import TranscriptionError
from services.ffmpeg.transcription.piece_store import S3Pieces
from services.ffmpeg.transcription.settings import TranscribeSettings
from services.ffmpeg.transcription.transcribe import Transcriber, Transcript, transcript_key
from services.ffmpeg.worker.handler import JobContext

log = logs.get_logger(__name__)

LookUp = Callable[[str], Awaitable[media_pb2.Video | None]]
"""The record of a video, tombstones included; None where there never was one."""


def look_up_in(catalog: grpc.aio.Channel) -> LookUp:
    """Asks the catalog, in the system's name."""
    stub: catalog_pb2_grpc.CatalogServiceAsyncStub = catalog_pb2_grpc.CatalogServiceStub(catalog)

    async def look_up(video_id: str) -> media_pb2.Video | None:
        request = catalog_pb2.LookUpVideoRequest(video_id=video_id)
        try:
            answer = await stub.LookUpVideo(request, timeout=CALL_SECONDS, metadata=system_caller().metadata())
        except grpc.aio.AioRpcError as error:
            refusal = from_rpc_error(error)
            if refusal.reason is ErrorReason.VIDEO_NOT_FOUND:
                return None
            raise refusal from None
        return answer.video

    return look_up


class TranscribeHandler:
    """See the module.

    Result: `outcome`: `speech`, `no_speech` and `no_audio` with `key` (prefix and {key}, to which `.vtt` and
    `.json` are added), `language`, `language_probability`, `model`, `audio_seconds`; or `gone` (deleted) or
    `changed` (other bytes) with nothing else. A failure's reason is a FailureReason.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        objects: S3Objects,
        data: S3Bytes,
        look_up: LookUp,
        settings: TranscribeSettings,
        video_bytes: int,
    ) -> None:
        self._sandbox, self._objects, self._data, self._look_up = sandbox, objects, data, look_up
        self._language, self._video_bytes = settings.transcribe_language, video_bytes
        self._transcriber = Transcriber(
            settings.engine_config(),
            memory=settings.transcribe_memory,
            max_seconds=settings.transcribe_max_seconds,
            min_timeout=settings.transcribe_min_timeout_seconds,
            child_environment=settings.transcribe_env,
        )

    async def __call__(self, context: JobContext) -> Mapping[str, Any]:
        """Raises JobFault, NoLongerHeld, ReelwayError."""
        set_caller(system_caller())
        video_id: str = context.job.spec["video_id"]
        parameters: Mapping[str, str] = context.job.spec["parameters"]
        video = await self._look_up(video_id)
        if video is None or video.state in GONE:
            return {"outcome": "gone"}
        _require_right(context.job.owner, video)
        if parameters.get("etag", video.etag) != video.etag:
            return {"outcome": "changed"}
        if not video.object_key:
            raise JobFault("INPUT_UNAVAILABLE", "the video is not whole yet", may_pass=True)
        try:
            result = await self._transcribe(context, video, parameters.get("language") or self._language)
        except TranscriptionError as error:
            log.warning("no transcript", video_id=video_id, reason=error.reason.value, why=error.detail)
            await self._removed_with(video_id)
            raise JobFault(error.reason.value, error.reason.message, may_pass=error.reason.transient) from None
        return {"outcome": "gone"} if await self._removed_with(video_id) else result

    async def _transcribe(self, context: JobContext, video: media_pb2.Video, language: str) -> Mapping[str, Any]:
        media = context.folder.path / "in" / "video"
        await self._fetch(video, media)
        key = transcript_key(video.video_id, video.etag, self._transcriber.config, language)
        pieces = S3Pieces(self._objects, video.video_id, key)

        async def show(fraction: float) -> None:
            context.show(Progress(fraction))

        audio = CagedAudio(self._sandbox, context.folder, media)
        transcript = await self._transcriber.transcribe(audio, pieces, language, show)
        await context.still_held()
        place = f"{transcript_prefix(video.video_id)}{key}"
        await self._objects.put(f"{place}.vtt", transcript.vtt.encode(), webvtt.CONTENT_TYPE)
        await self._objects.put(f"{place}.json", _document(transcript), "application/json")
        await pieces.clear()
        return {
            "outcome": transcript.outcome.value.lower(),
            "key": place,
            "language": transcript.language.code,
            "language_probability": round(transcript.language.probability, 3),
            "model": transcript.model,
            "audio_seconds": round(transcript.audio_seconds, 3),
        }

    async def _fetch(self, video: media_pb2.Video, path: Path) -> None:
        """Write the video's object into a new file."""
        if video.size_bytes > self._video_bytes:
            raise JobFault("INPUT_TOO_LARGE", f"the video is larger than {self._video_bytes} bytes")
        file = await asyncio.to_thread(path.open, "xb")
        try:
            async for chunk in self._data.read(video.object_key, 0, video.size_bytes):
                await asyncio.to_thread(file.write, chunk)
        except ReelwayError as error:
            if error.reason is ErrorReason.VIDEO_NOT_FOUND:
                raise JobFault("INPUT_UNAVAILABLE", "the video went away while it was read", may_pass=True) from None
            raise
        finally:
            await asyncio.to_thread(file.close)

    async def _removed_with(self, video_id: str) -> bool:
        """Whether the video was deleted meanwhile: who deleted it could not see what came after; it is removed."""
        video = await self._look_up(video_id)
        if video is not None and video.state not in GONE:
            return False
        keys = [info.key async for info in self._objects.list(transcript_prefix(video_id))]
        for key in keys:
            await self._objects.delete(key)
        return True


def _require_right(user: str, video: media_pb2.Video) -> None:
    """A transcript costs minutes of work: it is made for the system, the owner, and of what nobody owns."""
    if user not in {SYSTEM_USER, video.owner} and video.owner:
        raise JobFault("INPUT_REFUSED", "there is no such video, or it is not yours")


def _document(transcript: Transcript) -> bytes:
    return json.dumps(
        {
            "outcome": transcript.outcome.value.lower(),
            "text": transcript.text,
            "language": transcript.language.code,
            "language_probability": round(transcript.language.probability, 3),
            "model": transcript.model,
            "audio_seconds": round(transcript.audio_seconds, 3),
            "cues": [dataclasses.asdict(cue) for cue in transcript.cues],
        },
        ensure_ascii=False,
    ).encode()
