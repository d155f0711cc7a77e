"""Dialect 002, RecordPlus: a recorder's three phases, and what was recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, Field
from reelway.v1 import media_pb2

from gateway.array_response import array_response
from gateway.captions_response import CAPTIONS_TYPE, serve_captions
from gateway.chunk_body import APPEND_HEADERS, APPEND_REFUSALS, APPENDED_HEADERS, read_fields
from gateway.http_errors import record_invalid
from gateway.invalid_request import ErrorBody, HTTPValidationError, InvalidRequestError, in_its_place
from gateway.keys import APPENDS, PLAYBACK, SETTINGS, TRANSCRIPTS
from gateway.operations.transcripts import TranscriptState, TranscriptView
from gateway.range_document import RANGE_REQUEST_HEADERS, range_answers
from gateway.request_host import origin_of
from gateway.routing import COMMON_ANSWERS, RETRY_AFTER, Answer, Routes, StreamedBody
from gateway.video_number import NumberPath, VideoId, parse_number
from gateway.video_response import serve_video, video_answers
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.request_limits import DESCRIPTION_LENGTH, TITLE_LENGTH


class Refused(BaseModel):
    """Which fields are wrong, and why."""

    message: str = "Invalid request"
    errors: dict[str, str]


routes = Routes("RecordPlus", answers=COMMON_ANSWERS, on_invalid=record_invalid)

_BASE, _ALIAS = "/api/record/videos", "/record/videos"
_CHUNK_FIELDS = ("video_chunck", "video_chunk")
_TARGET = "video_id"
_ACCEPTED = (media_pb2.CONTAINER_MP4, media_pb2.CONTAINER_WEBM, media_pb2.CONTAINER_AVI)
_INVALID = {400: Answer("A field is missing or wrong", Refused)}
_FOREIGN = {403: Answer("The video is somebody else's", ErrorBody), 404: Answer("No such video", ErrorBody)}


def _text(value: object) -> object:
    """JSON clients send the number as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class NewVideo(BaseModel):
    """The beginning of a recording."""

    title: Annotated[str, Field(min_length=1, max_length=TITLE_LENGTH)]
    description: Annotated[str, Field(max_length=DESCRIPTION_LENGTH)]


class WhichVideo(BaseModel):
    """The recording to finish."""

    video_id: Annotated[str, Field(min_length=1), BeforeValidator(_text)]


class RecordMessage(BaseModel):
    """What was done."""

    message: str


class Transcription(BaseModel):
    """What is said in the video."""

    id: int
    transcription_text: str


class Recorded(BaseModel):
    """A video."""

    id: int
    title: str
    description: str
    video_file: Annotated[str, Field(description="Absolute URL at which it plays")]
    created_at: Annotated[str, Field(description="UTC")]
    transcription: Annotated[
        Transcription | None, Field(description="null while it is not known; an empty text if nothing is said")
    ] = None
    transcription_status: Annotated[
        TranscriptState, Field(description="Also pending while nobody has asked for it")
    ] = "pending"
    transcription_error: Annotated[str | None, Field(description="Why it failed")] = None


class Page(BaseModel):
    """Which part of the list; by default all of it."""

    limit: Annotated[int | None, Field(ge=0, description="How many at most; default: all")] = None
    offset: Annotated[int, Field(ge=0, description="How many of the oldest to skip")] = 0


_NOTHING_THERE = {ErrorReason.VIDEO_NOT_FOUND, ErrorReason.NO_DATA, ErrorReason.NO_TRANSCRIPT}


@contextlib.contextmanager
def _not_found() -> Iterator[None]:
    """What is not there is told in this dialect's words."""
    try:
        yield
    except ReelwayError as error:
        if error.reason not in _NOTHING_THERE:
            raise
        raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND, "Not found.") from None


def _base(request: web.Request) -> str:
    """What the absolute addresses in an answer begin with."""
    return request.app[SETTINGS].public_url.rstrip("/") or origin_of(request)


def _rendered(base: str, video: media_pb2.Video) -> dict[str, object]:
    view = TranscriptView.of(video.transcript)
    return Recorded(
        id=video.number,
        title=video.title,
        description=video.description,
        video_file=f"{base}{_BASE}/{video.number}/stream_video/",
        created_at=video.create_time.ToDatetime().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        transcription=None if view.text is None else Transcription(id=video.number, transcription_text=view.text),
        transcription_status=view.state,
        transcription_error=view.error,
    ).model_dump()


@routes.post(
    _BASE,
    summary="Begin a recording",
    aliases=[_ALIAS],
    answers={
        201: Answer("Created; send its chunks now", VideoId),
        **_INVALID,
        429: Answer("Too many videos are open", ErrorBody, headers=RETRY_AFTER),
    },
)
async def begin(request: web.Request, body: NewVideo) -> web.Response:
    """Phase 1: creates an empty video for the chunks."""
    video = await request.app[APPENDS].create(body.title, body.description)
    return web.json_response(VideoId(video_id=video.number).model_dump(), status=201)


@routes.patch(
    f"{_BASE}/update_video_chunck",
    summary="Send a chunk",
    aliases=[f"{_ALIAS}/update_video_chunck", f"{_BASE}/update_video_chunk", f"{_ALIAS}/update_video_chunk"],
    takes=StreamedBody(
        "The video's number and the chunk. Or JSON, where the chunk is Base64 or a data URL of it, or a urlencoded "
        "form with its bytes or such a URL",
        media_types=["multipart/form-data"],
        file_fields=_CHUNK_FIELDS,
        text_fields={_TARGET: "From phase 1; in a form, before the chunk"},
    ),
    request_headers=APPEND_HEADERS,
    answers={
        200: Answer("Stored, and part of the video", RecordMessage, headers=APPENDED_HEADERS),
        **_INVALID,
        **_FOREIGN,
        **APPEND_REFUSALS,
        422: Answer("The checksum does not match", HTTPValidationError),
    },
)
async def update(request: web.Request) -> web.Response:
    """Phase 2: appends one chunk.

    A chunk that begins like a file (`ftyp` after four bytes, `1A 45 DF A3`, `RIFF….AVI `, the first page of an Ogg
    stream) starts a new clip, as when a recorder starts anew, and clips are joined as clips. Any other chunk continues
    the one before, byte by byte.
    """
    chunk = await read_fields(request, _CHUNK_FIELDS, _TARGET)
    number = chunk.target or request.query.get(_TARGET)
    if number is None:
        raise InvalidRequestError.missing("body", _TARGET)
    try:
        with _not_found():
            appended = await request.app[APPENDS].append(parse_number(number), chunk.claims, chunk.data)
    except ReelwayError as error:
        if error.reason is ErrorReason.EMPTY_CHUNK:
            raise InvalidRequestError.at("body", _CHUNK_FIELDS[0], msg="The chunk is empty", kind="missing") from None
        raise in_its_place(error) from None
    return web.json_response(
        RecordMessage(message="Chunk uploaded successfully").model_dump(),
        headers={"Upload-Offset": str(appended.size_bytes), "ETag": appended.etag},
    )


@routes.post(
    f"{_BASE}/finalize_video_upload",
    summary="Finish a recording",
    aliases=[f"{_ALIAS}/finalize_video_upload"],
    answers={
        200: Answer("The video is finished", RecordMessage),
        **_INVALID,
        **_FOREIGN,
        422: Answer("What was sent is not mp4, webm or avi; the recording stays open", HTTPValidationError),
    },
)
async def finalize(request: web.Request, body: WhichVideo) -> web.Response:
    """Phase 3: no more chunks; the video is probed and transcribed. Repeating it is harmless."""
    with _not_found():
        number = parse_number(body.video_id)
        # First, for it waits for the end: a client or gateway that goes in between would leave a video untranscribed.
        await request.app[TRANSCRIPTS].request_first(await request.app[APPENDS].video_id(number))
        await request.app[APPENDS].finish(number, _ACCEPTED)
    return web.json_response(RecordMessage(message="Transcription task initiated").model_dump())


@routes.get(
    _BASE,
    summary="List videos",
    aliases=[_ALIAS],
    answers={200: Answer("The videos that the caller may see, newest last", list[Recorded]), **_INVALID},
)
async def list_videos(request: web.Request, query: Page) -> web.StreamResponse:
    """The caller's own videos, those without an owner, and those that others have published."""
    base, pages = _base(request), request.app[APPENDS].list(query.offset, query.limit)
    return await array_response(request, ((_rendered(base, video) for video in page) async for page in pages))


@routes.get(
    f"{_BASE}/{{video_id}}",
    summary="Get a video",
    aliases=[f"{_ALIAS}/{{video_id}}"],
    answers={
        200: Answer("The video as it is now", Recorded),
        404: Answer("No such video, or not yours to see", ErrorBody),
    },
)
async def get(request: web.Request, path: NumberPath) -> web.Response:
    """A video's title, address and transcript."""
    with _not_found():
        video = await request.app[APPENDS].find(path.video_id)
    return web.json_response(_rendered(_base(request), video))


@routes.get(
    f"{_BASE}/{{video_id}}/stream_video",
    summary="Play a video",
    aliases=[f"{_ALIAS}/{{video_id}}/stream_video"],
    request_headers=RANGE_REQUEST_HEADERS,
    answers={**video_answers(), 404: Answer("No such video, or it has no bytes yet", ErrorBody)},
    head=True,
)
async def stream(request: web.Request, path: NumberPath) -> web.StreamResponse:
    """The video's bytes for a player; during the recording, those that have arrived so far."""
    with _not_found():
        video = await request.app[APPENDS].find(path.video_id)
        stat = await request.app[PLAYBACK].stat(video.video_id)
    return await serve_video(request, stat, disposition="inline", name=f"video_{path.video_id}")


@routes.get(
    f"{_BASE}/{{video_id}}/captions.vtt",
    summary="Get captions",
    aliases=[f"{_ALIAS}/{{video_id}}/captions.vtt"],
    request_headers=RANGE_REQUEST_HEADERS,
    answers={
        **range_answers([CAPTIONS_TYPE]),
        404: Answer("No such video, or its transcript is not known yet", ErrorBody),
    },
    head=True,
)
async def captions(request: web.Request, path: NumberPath) -> web.StreamResponse:
    """What is said in the video, as WebVTT for a `<track>`; without cues if nothing is said."""
    with _not_found():
        video = await request.app[APPENDS].find(path.video_id)
        found = await request.app[TRANSCRIPTS].captions(video.video_id)
    return await serve_captions(request, found, f"video_{path.video_id}")
