"""Dialect 000, Video-Stream-API: upload, stream, download."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, Field

from gateway.captions_response import CAPTIONS_TYPE, serve_captions
from gateway.invalid_request import ErrorBody, HTTPValidationError
from gateway.keys import PLAYBACK, SETTINGS, TRANSCRIPTS, UPLOADS
from gateway.multipart_form import FormFile
from gateway.operations.transcripts import TranscriptState, TranscriptView
from gateway.range_document import RANGE_REQUEST_HEADERS, range_answers
from gateway.routing import COMMON_ANSWERS, Answer, Routes, StreamedBody
from gateway.video_response import serve_video, video_answers
from services.common.uuids import UuidText

routes = Routes("Video-Stream-API", answers=COMMON_ANSWERS)


class VideoPath(BaseModel):
    """Which video."""

    video_id: UuidText


class Transcribed(BaseModel):
    """What is said in a video."""

    id: str
    status: TranscriptState
    text: Annotated[str | None, Field(description="null while it is not known; empty if nothing is said")] = None
    language: Annotated[str | None, Field(description="ISO 639-1; null if it is not known")] = None
    error: Annotated[str | None, Field(description="Why it failed")] = None


class Language(BaseModel):
    """The language to expect."""

    language: Annotated[
        str, Field(max_length=35, description="For example en or pt-BR; empty: as configured, or detected")
    ] = ""


class Created(BaseModel):
    """A stored video."""

    id: str
    url: str
    created_at: str


@routes.post(
    "/videos",
    summary="Upload a video",
    takes=StreamedBody("The video", media_types=["multipart/form-data"], file_fields=["video"]),
    answers={
        201: Answer("Stored", Created),
        413: Answer("The file is too large", ErrorBody),
        422: Answer("No video field, an empty file, or not a video", HTTPValidationError),
    },
)
async def upload(request: web.Request) -> web.Response:
    """Stores one video file, and answers once it is durable. Its format is detected from its bytes."""
    file = await FormFile.open(request, "video", max_size=request.app[SETTINGS].upload_max_bytes)
    uploaded = await request.app[UPLOADS].upload(file.chunks(), file.file_name, file.likely_size)
    video = uploaded.video
    created = Created(
        id=video.video_id,
        url=uploaded.object_url,
        created_at=video.create_time.ToDatetime().strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    return web.json_response(created.model_dump(), status=201)


async def _serve(request: web.Request, video_id: str, disposition: str, content_type: str = "") -> web.StreamResponse:
    stat = await request.app[PLAYBACK].stat(video_id)
    return await serve_video(request, stat, disposition=disposition, name=stat.video_id, content_type=content_type)


@routes.get(
    "/videos/{video_id}/stream",
    summary="Stream a video",
    request_headers=RANGE_REQUEST_HEADERS,
    answers=video_answers(),
    head=True,
)
async def stream(request: web.Request, path: VideoPath) -> web.StreamResponse:
    """The video's bytes for a player, with ranges, conditional requests and HEAD."""
    return await _serve(request, path.video_id, "inline")


@routes.get(
    "/videos/{video_id}/download",
    summary="Download a video",
    request_headers=RANGE_REQUEST_HEADERS,
    answers=video_answers(["application/octet-stream"]),
    head=True,
)
async def download(request: web.Request, path: VideoPath) -> web.StreamResponse:
    """The video as an attachment. Ranges work, so a download can be resumed."""
    return await _serve(request, path.video_id, "attachment", "application/octet-stream")


def _transcribed(video_id: str, view: TranscriptView, status: int) -> web.Response:
    body = Transcribed(id=video_id, status=view.state, text=view.text, language=view.language, error=view.error)
    return web.json_response(body.model_dump(), status=status)


@routes.post(
    "/videos/{video_id}/transcript",
    summary="Transcribe a video",
    answers={
        202: Answer("Under way, or already there", Transcribed),
        403: Answer("The video is somebody else's", ErrorBody),
        404: Answer("No such video, or not yours to see", ErrorBody),
        409: Answer("The video still grows, or is being transcribed in another language", ErrorBody),
    },
)
async def transcribe(request: web.Request, path: VideoPath, query: Language) -> web.Response:
    """Starts a transcript, unless there is one or one is under way; a failed one is tried again."""
    view = await request.app[TRANSCRIPTS].request(path.video_id, query.language)
    return _transcribed(path.video_id, view, 202)


@routes.get(
    "/videos/{video_id}/transcript",
    summary="Get a transcript",
    answers={
        200: Answer("Its state, and the text once it is known", Transcribed),
        404: Answer("No such video, not yours to see, or nobody asked for a transcript", ErrorBody),
    },
)
async def transcript(request: web.Request, path: VideoPath) -> web.Response:
    """What is said in the video, as text."""
    return _transcribed(path.video_id, await request.app[TRANSCRIPTS].get(path.video_id), 200)


@routes.get(
    "/videos/{video_id}/captions.vtt",
    summary="Get captions",
    request_headers=RANGE_REQUEST_HEADERS,
    answers={
        **range_answers([CAPTIONS_TYPE]),
        404: Answer("No such video, not yours to see, or its transcript is not known yet", ErrorBody),
    },
    head=True,
)
async def captions(request: web.Request, path: VideoPath) -> web.StreamResponse:
    """What is said in the video, as WebVTT for a `<track>`; without cues if nothing is said."""
    return await serve_captions(request, await request.app[TRANSCRIPTS].captions(path.video_id), path.video_id)
