"""Writes down what is said in a video.

Handler of JobKind.TRANSCRIBE. Parameters of its VideoWork:

    request    of the video's record, which gets the outcome
    etag       of the bytes that are meant, optional; a video that has others by now is left alone
    language   ISO 639-1; empty: as configured, or detected

Objects, all below `transcripts/{video_id}/`, where {key} is `transcript_key`:

    {key}.vtt, {key}.json            the captions; text, language and cues; written in this order, never changed
    pieces/{key}/{start}-{end}.json  what is heard so far; gone once the outcome is told
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
from reelway.v1 import media_pb2, transcript_pb2

from services.common import fault_points, logs
from services.common.caller import set_caller, system_caller
from services.common.catalog_client import CatalogClient, if_found
from services.common.object_keys import captions_key, document_key, transcript_key, transcript_prefix
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.common.task_failure import TaskFailure
from services.common.video_state import GONE
from services.ffmpeg.job import JobFault, Progress
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.transcription import webvtt
from services.ffmpeg.transcription.audio import CagedAudio
from services.ffmpeg.transcription.failure import TranscriptionError
from services.ffmpeg.transcription.piece_store import S3Pieces
from services.ffmpeg.transcription.settings import TranscribeSettings
from services.ffmpeg.transcription.transcribe import Transcriber, Transcript
from services.ffmpeg.worker.handler import JobContext, may_go_away
from services.ffmpeg.worker.new_file import write_new
from services.ffmpeg.worker.while_there import while_there

log = logs.get_logger(__name__)


class TranscribeHandler:
    """See the module.

    Result: `outcome`: `speech`, `no_speech` and `no_audio` with `key` (prefix and {key}, to which `.vtt` and
    `.json` are added), `language`, `language_probability`, `model`, `audio_seconds`; or `gone` (deleted),
    `changed` (other bytes) or `answered` (the request has its outcome) with nothing else. A failure's reason is a
    FailureReason.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        objects: S3Objects,
        data: S3Bytes,
        catalog: grpc.aio.Channel,
        settings: TranscribeSettings,
        video_bytes: int,
    ) -> None:
        self._sandbox, self._objects, self._data, self._catalog = sandbox, objects, data, CatalogClient(catalog)
        self._language, self._video_bytes = settings.transcribe_language, video_bytes
        self._transcriber = Transcriber.of(settings)

    async def __call__(self, context: JobContext) -> Mapping[str, Any]:
        """Raises JobFault, NoLongerHeld, ReelwayError."""
        set_caller(system_caller())
        video_id: str = context.job.spec["video_id"]
        parameters: Mapping[str, str] = context.job.spec["parameters"]
        request = int(parameters["request"])
        begun = transcript_pb2.StartTranscriptRequest(video_id=video_id, request=request)
        video = await if_found(self._catalog.start_transcript(begun))
        if video is None:
            await self._remove(video_id)
            return {"outcome": "gone"}
        if not _wanted(video, request):
            return {"outcome": "answered"}
        if parameters.get("etag", video.etag) != video.etag:
            return {"outcome": "changed"}
        if not video.object_key:
            raise JobFault(TaskFailure.INPUT_UNAVAILABLE, "the video is not whole yet", may_pass=True)
        hearing = self._transcribe(context, video, parameters.get("language") or self._language)
        try:
            result = await while_there(hearing, lambda: self._require_there(video_id))
        except TranscriptionError as error:
            log.warning("no transcript", video_id=video_id, reason=error.reason.name, why=error.detail)
            fault = JobFault(error.reason, error.reason.message, may_pass=error.reason.transient)
            await self._give_up(context, fault, request)
            raise fault from None
        except JobFault as fault:
            await self._give_up(context, fault, request)
            raise
        return await self._tell(context, result, request)

    async def _transcribe(
        self, context: JobContext, video: media_pb2.Video, language: str
    ) -> tuple[Transcript, media_pb2.TranscriptResult]:
        """The transcript, and what the record says of it; its objects are in the store."""
        media = context.folder.path / "in" / "video"
        await self._fetch(video, media)
        config = self._transcriber.config
        name = transcript_key(video.video_id, video.etag, config.engine, config.model, language)
        pieces = S3Pieces(self._objects, video.video_id, name)

        def show(fraction: float) -> None:
            context.show(Progress(fraction))

        audio = CagedAudio(self._sandbox, context.folder, media)
        transcript = await self._transcriber.transcribe(audio, pieces, language, show)
        await context.still_held()
        result = media_pb2.TranscriptResult(
            text=transcript.text,
            language=transcript.language.code,
            language_probability=round(transcript.language.probability, 3),
            key=f"{transcript_prefix(video.video_id)}{name}",
            model=transcript.model,
            source_etag=video.etag,
            audio_seconds=round(transcript.audio_seconds, 3),
        )
        cues = [dataclasses.asdict(cue) for cue in transcript.cues]
        document = json.dumps({**_facts(transcript, result), "text": result.text, "cues": cues}, ensure_ascii=False)
        await self._objects.put(captions_key(result.key), transcript.vtt.encode(), webvtt.CONTENT_TYPE)
        await self._objects.put(document_key(result.key), document.encode(), "application/json")
        fault_points.reach("transcript.stored")
        return transcript, result

    async def _tell(
        self, context: JobContext, made: tuple[Transcript, media_pb2.TranscriptResult], request: int
    ) -> Mapping[str, Any]:
        """Put the transcript into the record; the job's result."""
        transcript, result = made
        video_id: str = context.job.spec["video_id"]
        await context.still_held()
        outcome = transcript_pb2.FinishTranscriptRequest(video_id=video_id, request=request, result=result)
        video = await if_found(self._catalog.finish_transcript(outcome))
        fault_points.reach("transcript.told")
        if video is None:
            # Its deletion could not see what was stored after it.
            await self._remove(video_id)
            return {"outcome": "gone"}
        # Not before: an attempt that cannot tell its outcome is followed by one that would hear everything again.
        await S3Pieces(self._objects, video_id, result.key.rpartition("/")[2]).clear()
        return {**_facts(transcript, result), "key": result.key}

    async def _give_up(self, context: JobContext, fault: JobFault, request: int) -> None:
        """Tell the catalog at once where no other attempt follows; of the last of several it learns from the queue."""
        video_id: str = context.job.spec["video_id"]
        if fault.may_pass:
            video = await self._look_up(video_id)
        else:
            failure = media_pb2.TranscriptFailure(reason=fault.failure.reason, message=fault.failure.message)
            outcome = transcript_pb2.FinishTranscriptRequest(video_id=video_id, request=request, failure=failure)
            video = await if_found(self._catalog.finish_transcript(outcome))
        if video is None:
            await self._remove(video_id)

    async def _fetch(self, video: media_pb2.Video, path: Path) -> None:
        """Write the video's object into a new file."""
        if video.size_bytes > self._video_bytes:
            raise JobFault(TaskFailure.INPUT_TOO_LARGE, f"the video is larger than {self._video_bytes} bytes")
        with may_go_away("the video"):
            await write_new(path, self._data.read(video.object_key, 0, video.size_bytes))

    async def _look_up(self, video_id: str) -> media_pb2.Video | None:
        """The record; None where the video was deleted."""
        video = await if_found(self._catalog.look_up(video_id))
        return None if video is None or video.state in GONE else video

    async def _require_there(self, video_id: str) -> None:
        """Raises JobFault where the video was deleted."""
        if await self._look_up(video_id) is None:
            raise JobFault(TaskFailure.INPUT_UNAVAILABLE, "the video was deleted")

    async def _remove(self, video_id: str) -> None:
        """All that was heard in a video that was deleted."""
        await self._objects.delete_all(transcript_prefix(video_id))


def _wanted(video: media_pb2.Video, request: int) -> bool:
    return video.transcript.request == request and video.transcript.state == media_pb2.TRANSCRIPT_STATE_RUNNING


def _facts(transcript: Transcript, result: media_pb2.TranscriptResult) -> dict[str, Any]:
    """What is told of a transcript besides its words."""
    return {
        "outcome": transcript.outcome.value,
        "language": result.language,
        "language_probability": result.language_probability,
        "model": result.model,
        "audio_seconds": result.audio_seconds,
    }
