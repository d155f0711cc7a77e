"""Dialect 001, Video Management API: create a video, append chunks, get what was appended so far."""

from __future__ import annotations

from aiohttp import web
from pydantic import BaseModel

from gateway.chunk_body import APPEND_HEADERS, APPEND_REFUSALS, APPENDED_HEADERS, read_raw_or_file
from gateway.http_errors import error_response
from gateway.invalid_request import ErrorBody, HTTPValidationError
from gateway.keys import APPENDS, PLAYBACK
from gateway.range_document import RANGE_REQUEST_HEADERS
from gateway.routing import COMMON_ANSWERS, RETRY_AFTER, Answer, Routes, StreamedBody
from gateway.video_number import NumberPath, VideoId
from gateway.video_response import serve_video, video_answers
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

routes = Routes("Video Management API", answers=COMMON_ANSWERS)


class AppendMessage(BaseModel):
    """What was done."""

    message: str


class PlainError(BaseModel):
    """What is wrong."""

    error: str


@routes.post(
    "/create_video",
    summary="Create a video",
    answers={
        201: Answer("Created", VideoId),
        429: Answer("Too many videos are open", ErrorBody, headers=RETRY_AFTER),
    },
)
async def create(request: web.Request) -> web.Response:
    """Creates an empty video. A request body is ignored."""
    video = await request.app[APPENDS].create()
    return web.json_response(VideoId(video_id=video.number).model_dump(), status=201)


@routes.post(
    "/append_video/{video_id}",
    summary="Append a chunk",
    takes=StreamedBody(
        "The chunk: raw bytes, or a file in a form",
        media_types=["application/octet-stream", "multipart/form-data"],
        file_fields=["video"],
    ),
    request_headers=APPEND_HEADERS,
    answers={
        200: Answer("Stored, and part of the video", AppendMessage, headers=APPENDED_HEADERS),
        400: Answer("The chunk is missing or empty", PlainError),
        403: Answer("The video is somebody else's", ErrorBody),
        404: Answer("No such video", ErrorBody),
        **APPEND_REFUSALS,
        422: Answer("A header, the form or the checksum is wrong", HTTPValidationError),
    },
)
async def append(request: web.Request, path: NumberPath) -> web.Response:
    """Appends one chunk: a slice of a file, or a whole clip.

    A chunk that begins like a file (`ftyp` after four bytes, `1A 45 DF A3`, `RIFF….AVI `, the first page of an Ogg
    stream) starts a new clip, and clips are joined as clips. Any other chunk continues the one before, byte by byte.
    """
    try:
        chunk = await read_raw_or_file(request)
        appended = await request.app[APPENDS].append(path.video_id, chunk.claims, chunk.data)
    except ReelwayError as error:
        if error.reason is ErrorReason.EMPTY_CHUNK:
            return error_response(error.kind.http_status, error.message)
        raise
    first = appended.offset_bytes == 0
    message = "Video added successfully" if first else "Video appended and joined successfully"
    return web.json_response(
        AppendMessage(message=message).model_dump(),
        headers={"Upload-Offset": str(appended.size_bytes), "ETag": appended.etag},
    )


@routes.get(
    "/get_video/{video_id}",
    summary="Get the video",
    request_headers=RANGE_REQUEST_HEADERS,
    answers={**video_answers(), 400: Answer("Nothing has been appended yet", PlainError)},
    head=True,
)
async def get(request: web.Request, path: NumberPath) -> web.StreamResponse:
    """Everything that was appended so far, as one video."""
    video = await request.app[APPENDS].find(path.video_id)
    try:
        stat = await request.app[PLAYBACK].stat(video.video_id)
    except ReelwayError as error:
        if error.reason is ErrorReason.NO_DATA:
            return error_response(400, "No video data associated with this video ID")
        raise
    return await serve_video(request, stat, disposition="attachment", name=f"video_{path.video_id}")
