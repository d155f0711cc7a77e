"""Dialect 003, video sharing: sign an upload, publish, explore, watch."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from aiohttp import web
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, ConfigDict, Field
from reelway.v1 import library_pb2, media_pb2

from gateway.invalid_request import MOST_NAMED, ErrorBody, shortened
from gateway.keys import LIBRARY, PLAYBACK
from gateway.range_response import content_disposition
from gateway.routing import COMMON_ANSWERS, RETRY_AFTER, Answer, Routes
from services.common.caller import current_caller
from services.common.containers import KINDS
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.request_limits import DESCRIPTION_LENGTH, TITLE_LENGTH
from services.common.uuids import UuidText

_WATCH_SECONDS = 7 * 86_400
_FAILURES = {
    media_pb2.PROCESSING_FAILURE_INTERNAL: "Internal error, please try again later",
    media_pb2.PROCESSING_FAILURE_TOO_LARGE: "Maximum file size exceeded",
    media_pb2.PROCESSING_FAILURE_CORRUPTED: "Corrupted/Invalid file",
    media_pb2.PROCESSING_FAILURE_UNSUPPORTED: "Unsupported video type",
}
_EPOCH = datetime(1970, 1, 1)
_EDITABLE = ("title", "description", "is_private")

routes = Routes("Video sharing", answers=COMMON_ANSWERS)


def _never_null(schema: dict[str, Any]) -> None:
    if required := [name for name in schema.pop("required", ()) if "anyOf" not in schema["properties"][name]]:
        schema["required"] = required
    for field in schema["properties"].values():
        if "anyOf" in field:
            del field["default"]
            field.update(field.pop("anyOf")[0])


class _NullsLeftOut(BaseModel):
    """Fields that are null are left out (`_json`), and the published schema says so."""

    model_config = ConfigDict(json_schema_extra=_never_null)


class Video(_NullsLeftOut):
    """A video; what is not known is left out."""

    model_config = ConfigDict(extra="allow")

    hash_id: str | None = None
    user_id: str | None = None
    file_name: str | None = None
    upload_time: str | None = None
    title: Annotated[str | None, Field(max_length=TITLE_LENGTH)] = None
    description: Annotated[str | None, Field(max_length=DESCRIPTION_LENGTH)] = None
    size_in_bytes: int | None = None
    duration_seconds: int | None = None
    video_type: str | None = None
    thumbnail_url: str | None = None
    is_private: bool | None = None
    listing_time: str | None = None


class UnprocessedVideo(_NullsLeftOut):
    """An upload that is not a video yet, or never will be."""

    hash_id: str | None = None
    user_id: str | None = None
    file_name: str | None = None
    upload_time: str | None = None
    failure_reason: Annotated[str | None, Field(description="Absent while it is being processed")] = None


class VideosPage(_NullsLeftOut):
    """A page of videos, newest first."""

    videos: list[Video]
    next: Annotated[str | None, Field(description="Of the next page; absent on the last")] = None


class UserVideosList(_NullsLeftOut):
    """What a user has."""

    unprocessed_videos: list[UnprocessedVideo]
    videos: list[Video]
    next: Annotated[
        str | None, Field(description="Of the next page, if there are too many for one (500); absent on the last")
    ] = None


class FileUploadSignedInstructions(BaseModel):
    """An S3 POST policy."""

    url: Annotated[str, Field(description="Where to POST the form")]
    signatures: Annotated[dict[str, str], Field(description="The form's fields, which come before the field `file`")]


class VideoUploadConfigRecord(BaseModel):
    """What may be uploaded."""

    max_size_in_bytes: int
    valid_file_types: list[str]


class WatchVideoRecord(BaseModel):
    """A video and where it plays."""

    watchable_url: Annotated[str, Field(description="Works for 7 days")]
    video: Video


class SignError(BaseModel):
    """Why nothing was signed."""

    error: str


class EditErrors(BaseModel):
    """Why nothing was changed."""

    errors: list[str]


class SignQuery(BaseModel):
    """The file to be uploaded."""

    file_content_type: Annotated[str, Field(description="One of `valid_file_types` of /video/upload/config")]
    file_name: Annotated[
        str, Field(description="1 to 255 of `a-z A-Z 0-9 ! @ _ . * ' ( ) -`, without a dot at the beginning")
    ]


NextPage = Annotated[str | None, Field(description="`next` of the previous page; without it, the first page")]


class ExploreQuery(BaseModel):
    """Which page."""

    next: NextPage = None
    include_my: Annotated[bool, Field(description="Include the caller's own")] = False


class PageQuery(BaseModel):
    """Which page."""

    next: NextPage = None


class WatchQuery(BaseModel):
    """Which video."""

    user_id: Annotated[str, Field(description="The video's owner")]
    hash_id: Annotated[UuidText, Field(description="The video")]


class VideoPath(BaseModel):
    """Which video."""

    hash_id: UuidText


class UserPath(BaseModel):
    """Which user."""

    user_id: str


def _time(moment: Timestamp) -> str:
    # Timestamp.ToDatetime takes more than twice as long, and a page has a thousand of them.
    passed = timedelta(seconds=moment.seconds, microseconds=moment.nanos // 1000)
    return (_EPOCH + passed).isoformat(timespec="microseconds") + "Z"


def _uploaded(video: media_pb2.Video) -> str:
    return _time(video.upload_time if video.HasField("upload_time") else video.create_time)


def _body(shown: library_pb2.LibraryVideo) -> Video:
    video = shown.video
    listed = video.HasField("listing_time")
    return Video(
        hash_id=video.video_id,
        user_id=video.owner or None,
        file_name=video.file_name or None,
        upload_time=_uploaded(video),
        title=video.title or None,
        # Publishing sets it, and may set it to nothing.
        description=video.description if listed else video.description or None,
        size_in_bytes=video.size_bytes,
        duration_seconds=round(video.duration_seconds) if video.HasField("duration_seconds") else None,
        video_type=KINDS[video.container].content_type if video.container in KINDS else None,
        thumbnail_url=shown.thumbnail_url or None,
        is_private=video.is_private,
        listing_time=_time(video.listing_time) if listed else None,
    )


def _unprocessed(video: media_pb2.Video) -> UnprocessedVideo:
    failed = video.state == media_pb2.VIDEO_STATE_FAILED
    return UnprocessedVideo(
        hash_id=video.video_id,
        user_id=video.owner,
        file_name=video.file_name,
        upload_time=_uploaded(video),
        failure_reason=_FAILURES.get(video.failure, _FAILURES[media_pb2.PROCESSING_FAILURE_INTERNAL])
        if failed
        else None,
    )


def _json(body: BaseModel, status: int = 200) -> web.Response:
    return web.json_response(text=body.model_dump_json(exclude_none=True), status=status)


def _page(page: library_pb2.ExploreResponse | library_pb2.ListUserResponse) -> VideosPage:
    return VideosPage(videos=[_body(video) for video in page.videos], next=page.next_page_token or None)


def _require_user() -> None:
    """Before anything is looked at: who may not ask learns nothing of what is wrong with the question."""
    if not current_caller().user:
        raise ReelwayError(ErrorReason.UNAUTHENTICATED)


@routes.get(
    "/video/explore",
    summary="Explore listed videos",
    open=True,
    answers={200: Answer("A page of them", VideosPage)},
)
async def explore(request: web.Request, query: ExploreQuery) -> web.Response:
    """Published videos that are not private, newest first; the caller's own only with `include_my`."""
    return _json(_page(await request.app[LIBRARY].explore(query.next or "", include_own=query.include_my)))


@routes.get(
    "/video/upload",
    summary="Sign an upload",
    head=False,
    guard=_require_user,
    answers={
        200: Answer("The form for the upload", FileUploadSignedInstructions),
        400: Answer("The file's name or type is not accepted", SignError),
        429: Answer("Too many of your signed uploads have not arrived", ErrorBody, headers=RETRY_AFTER),
    },
)
async def sign(request: web.Request, query: SignQuery) -> web.Response:
    """Signs a form for one file: POST its fields, then the file, to `url`.

    The upload must begin before the `expiration` in its policy: within a minute, unless the deployment says otherwise.
    """
    try:
        signed = await request.app[LIBRARY].sign(query.file_name, query.file_content_type)
    except ReelwayError as error:
        if error.reason in (ErrorReason.INVALID_FILE_NAME, ErrorReason.UNSUPPORTED_TYPE):
            return _json(SignError(error=error.message), 400)
        raise
    return _json(FileUploadSignedInstructions(url=signed.url, signatures=dict(signed.fields)))


@routes.get(
    "/video/upload/config",
    summary="What may be uploaded",
    guard=_require_user,
    answers={200: Answer("Largest size and types", VideoUploadConfigRecord)},
)
async def config(request: web.Request) -> web.Response:
    """The limits of signed uploads."""
    rules = await request.app[LIBRARY].rules()
    return _json(VideoUploadConfigRecord(max_size_in_bytes=rules.max_bytes, valid_file_types=list(rules.content_types)))


@routes.get(
    "/video/my",
    summary="Your videos",
    guard=_require_user,
    answers={200: Answer("Drafts, published videos, and uploads that are not ready", UserVideosList)},
)
async def my(request: web.Request, query: PageQuery) -> web.Response:
    """All of the caller's videos that have arrived, newest first."""
    found = await request.app[LIBRARY].own(query.next or "")
    return _json(
        UserVideosList(
            unprocessed_videos=[_unprocessed(video) for video in found.unprocessed],
            videos=[_body(video) for video in found.videos],
            next=found.next_page_token or None,
        )
    )


@routes.put(
    "/video/my/{hash_id}",
    summary="Publish or change a video",
    guard=_require_user,
    answers={
        204: Answer("Done"),
        400: Answer("A field is missing, or may not be changed", EditErrors),
        404: Answer("No such video of yours"),
    },
)
async def edit(request: web.Request, path: VideoPath, json: Video) -> web.Response:
    """The first call publishes, and needs `title` and `description`; later ones change these and `is_private`."""
    given = {name for name in Video.model_fields if getattr(json, name) is not None}
    given |= set(json.model_extra or {})
    if unsupported := sorted(given - set(_EDITABLE)):
        named = [f"unsupported field: {shortened(name)}" for name in unsupported[:MOST_NAMED]]
        return _json(EditErrors(errors=named), 400)
    try:
        await request.app[LIBRARY].edit(path.hash_id, json.title, json.description, json.is_private)
    except ReelwayError as error:
        if error.reason is ErrorReason.FIELDS_MISSING:
            missing = error.metadata.get("fields", "").split(",")
            return _json(EditErrors(errors=[f"missing required field: {name}" for name in missing]), 400)
        return _empty_or_raise(error)
    return web.Response(status=204)


@routes.delete(
    "/video/my/{hash_id}",
    summary="Delete a video",
    guard=_require_user,
    answers={
        204: Answer("Deleted, with all its files"),
        404: Answer("No such video of yours"),
        425: Answer("The video is still being processed"),
    },
)
async def delete(request: web.Request, path: VideoPath) -> web.Response:
    """Deletes a draft, published, growing or failed video."""
    try:
        await request.app[LIBRARY].remove(path.hash_id)
    except ReelwayError as error:
        return _empty_or_raise(error)
    return web.Response(status=204)


def _empty_or_raise(error: ReelwayError) -> web.Response:
    if error.reason in (ErrorReason.VIDEO_NOT_FOUND, ErrorReason.STILL_PROCESSING):
        return web.Response(status=error.kind.http_status)
    raise error


@routes.get(
    "/video/user/{user_id}",
    summary="A user's videos",
    open=True,
    answers={200: Answer("A page of them", VideosPage), 404: Answer("The user never had a video", ErrorBody)},
)
async def of_user(request: web.Request, path: UserPath, query: PageQuery) -> web.Response:
    """A user's published videos, newest first; private ones only for that user."""
    return _json(_page(await request.app[LIBRARY].of_user(path.user_id, query.next or "")))


@routes.get(
    "/video/watch",
    summary="Watch a video",
    open=True,
    answers={
        200: Answer("The video and where it plays", WatchVideoRecord),
        403: Answer("The video is private", ErrorBody),
        404: Answer("No such video", ErrorBody),
        409: Answer("The video's clips cannot be joined", ErrorBody),
    },
)
async def watch(request: web.Request, query: WatchQuery) -> web.Response:
    """A published video, with a presigned URL for a player."""
    shown = await request.app[LIBRARY].watch(query.user_id, query.hash_id)
    video = shown.video
    kind = KINDS[video.container]
    disposition = content_disposition("inline", f"{video.video_id}.{kind.extension}")
    try:
        url = await request.app[PLAYBACK].presigned_url(video.video_id, _WATCH_SECONDS, kind.content_type, disposition)
    except ReelwayError as error:
        if error.reason is not ErrorReason.NOT_SEALED:
            raise
        # A recording that has just ended: its chunks are becoming the one object that an address can name, unless they
        # are clips that cannot be joined.
        await request.app[PLAYBACK].stat(video.video_id)
        raise ReelwayError(ErrorReason.JOINING, "The video is not one object yet") from None
    return _json(WatchVideoRecord(watchable_url=url, video=_body(shown)))
