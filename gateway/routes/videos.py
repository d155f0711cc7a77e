"""Dialect 000, Video-Stream-API: upload, stream, download."""

from __future__ import annotations

from aiohttp import web
from pydantic import BaseModel

from gateway.keys import PLAYBACK, SETTINGS, UPLOADS
from gateway.multipart_form import FormFile
from gateway.range_document import RANGE_REQUEST_HEADERS, range_answers
from gateway.routing import Answer, Routes, StreamedBody
from gateway.validation import ErrorBody, InvalidBody
from gateway.video_response import VIDEO_TYPES, serve_video

routes = Routes(
    "000 Video-Stream-API",
    answers={
        401: Answer("The token is not valid, or one is needed", ErrorBody),
        503: Answer("Try again after Retry-After seconds", ErrorBody),
    },
)


class VideoPath(BaseModel):
    """Which video."""

    video_id: str


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
        201: Answer("It is stored", Created),
        413: Answer("The file is too large", ErrorBody),
        422: Answer("No video field, an empty file, or not a video", InvalidBody),
    },
)
async def upload(request: web.Request) -> web.Response:
    """Stores one video file and answers when it is durable. Its format is told from its bytes."""
    file = await FormFile.open(request, "video", max_size=request.app[SETTINGS].upload_max_bytes)
    uploaded = await request.app[UPLOADS].upload(file.chunks(), file.file_name, file.likely_size or 0)
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


_NOT_FOUND = {
    307: Answer("To a signed URL of the store, where the deployment redirects", headers={"Location": "The URL"}),
    404: Answer("No such video, or not yours to see", ErrorBody),
}


@routes.get(
    "/videos/{video_id}/stream",
    summary="Stream a video",
    request_headers=RANGE_REQUEST_HEADERS,
    answers={**range_answers(VIDEO_TYPES), **_NOT_FOUND},
    head=True,
)
async def stream(request: web.Request, path: VideoPath) -> web.StreamResponse:
    """The video's bytes, for a player: ranges, conditionals, HEAD."""
    return await _serve(request, path.video_id, "inline")


@routes.get(
    "/videos/{video_id}/download",
    summary="Download a video",
    request_headers=RANGE_REQUEST_HEADERS,
    answers={**range_answers(["application/octet-stream"]), **_NOT_FOUND},
    head=True,
)
async def download(request: web.Request, path: VideoPath) -> web.StreamResponse:
    """The video as an attachment; ranges work, so that a download can be resumed."""
    return await _serve(request, path.video_id, "attachment", "application/octet-stream")
