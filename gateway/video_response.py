"""Answers GET and HEAD of a video's bytes, in every dialect: from the services, or by a redirect to the store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from aiohttp import web
from reelway.v1 import stream_pb2

from gateway.invalid_request import ErrorBody
from gateway.keys import PLAYBACK, SETTINGS
from gateway.operations.playback import JOIN_SECONDS
from gateway.range_document import range_answers
from gateway.range_response import Representation, content_disposition, respond
from gateway.routing import RETRY_AFTER, Answer
from services.common.containers import KINDS, ContainerKind
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

# A video that still grows, and whose first bytes are no container that we know.
_UNKNOWN = ContainerKind("bin", "application/octet-stream")
#: Every type that a video can be served with.
VIDEO_TYPES = tuple(kind.content_type for kind in (*KINDS.values(), _UNKNOWN))


def video_answers(media_types: Sequence[str] = VIDEO_TYPES) -> dict[int, Answer]:
    """The statuses of a route that answers with `serve_video`; for `answers` of the route."""
    return {
        **range_answers(media_types),
        307: Answer(
            "To a presigned URL of the store, if the deployment redirects",
            headers={"Location": "The URL."},
            to_head=False,
        ),
        404: Answer("No such video, or not yours to see", ErrorBody),
        409: Answer("The video's clips cannot be joined", ErrorBody),
        503: Answer(
            "Try again after Retry-After seconds. Several clips are joined when they are first asked for; the request "
            f"waits for that, for at most {JOIN_SECONDS:g} s",
            ErrorBody,
            headers=RETRY_AFTER,
        ),
    }


async def serve_video(
    request: web.Request, stat: stream_pb2.StatResponse, *, disposition: str, name: str, content_type: str = ""
) -> web.StreamResponse:
    """The video's bytes: ranges, conditionals, HEAD.

    Args:
        request: a GET or HEAD.
        stat: what is served, from Playback.stat.
        disposition: inline or attachment.
        name: of the file, without its extension.
        content_type: instead of the container's own.
    """
    playback, settings = request.app[PLAYBACK], request.app[SETTINGS]
    kind = KINDS.get(stat.container, _UNKNOWN)
    content_type = content_type or kind.content_type
    disposition = content_disposition(disposition, f"{name}.{kind.extension}")
    # A presigned URL is signed for one method: HEAD costs no bytes, and is answered here.
    if settings.playback_mode == "redirect" and stat.sealed and request.method == "GET":
        try:
            url = await playback.presigned_url(stat.video_id, settings.redirect_seconds, content_type, disposition)
            return web.Response(status=307, headers={"Location": url})
        except ReelwayError as error:
            # Its chunks are becoming one object just now.
            if error.reason is not ErrorReason.NOT_SEALED:
                raise
    representation = Representation(
        size=stat.size_bytes,
        etag=stat.etag,
        modify_time=stat.modify_time.ToDatetime(tzinfo=UTC),
        content_type=content_type,
        disposition=disposition,
    )
    return await respond(request, representation, lambda offset, length: playback.read(stat, offset, length))
