"""The catalogue's use cases: start reading here.

A change is committed in Redis, which orders all changes of a record, together with an *unsaved* mark; then the
record is written to S3; then the mark goes; then the caller is answered. A process that dies in between leaves the
mark, and the sweeper writes the record. A slow writer whose PUT may have landed over a newer record learns so when it
takes its mark off, and writes the newer one again. No store feature beyond PUT is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import uuid
from collections.abc import Callable

from reelway.v1 import catalog_pb2, media_pb2

from services.catalog.access import may_see, require_change, require_sealed
from services.catalog.memberships import listed_for
from services.catalog.record_store import RecordStore
from services.catalog.redis_video_store import RedisVideoStore
from services.common import page_token, tasks
from services.common.backoff import Backoff
from services.common.caller import SYSTEM_USER, may_change
from services.common.clock import Clock
from services.common.containers import KINDS
from services.common.error_catalog import ErrorReason
from services.common.errors import FieldViolation, ReelwayError, invalid_field
from services.common.message_page import within_message
from services.common.object_keys import (
    incoming_key,
    joined_prefix,
    journal_prefix,
    object_keys,
    record_key,
    thumbnail_key,
    transcript_prefix,
)
from services.common.request_limits import DESCRIPTION_LENGTH, FILE_NAME_LENGTH, TITLE_LENGTH
from services.common.s3_objects import S3Objects
from services.common.uuids import is_uuid
from services.common.video_state import GONE, INITIAL, step

PAGE_SIZE, PAGE_SIZE_MAX = 100, 1000
# Strong (RFC 9110, 8.8.3).
_ETAG = re.compile(r'"[!#-~]{1,64}"')
_SHA256 = re.compile("([0-9a-f]{64})?")
_NO_FILE_NAME = re.compile(r"[/\\\x00-\x1f\x7f]")
_DELETE_SECONDS = 5.0
"""For how long the caller of a deletion waits for the objects to go: half of what a call may take."""
# Videos whose objects are removed side by side. Each costs a dozen requests: those of a thousand would hold up the
# writing of tombstones, and of everybody else's records.
_DELETED_AT_ONCE = 4
_CHANGE = Backoff(attempts=10, first_seconds=0.01, longest_seconds=0.2)


def check_texts(title: str, description: str, file_name: str = "") -> None:
    """INVALID_REQUEST, naming each text that is too long, or a path where a file's name should be."""
    faults = [
        FieldViolation(name, f"String should have at most {limit} characters", "string_too_long")
        for name, text, limit in (
            ("title", title, TITLE_LENGTH),
            ("description", description, DESCRIPTION_LENGTH),
            ("file_name", file_name, FILE_NAME_LENGTH),
        )
        if len(text) > limit
    ]
    if _NO_FILE_NAME.search(file_name):
        faults.append(FieldViolation("file_name", "must have no path and no control characters"))
    if faults:
        raise ReelwayError(ErrorReason.INVALID_REQUEST, violations=faults)


def _check_bytes(video: media_pb2.Video) -> None:
    """INVALID_REQUEST, naming each field: a finished video names its own object, any other one none.

    Whoever could name any object could read it.
    """
    if video.state == media_pb2.VIDEO_STATE_READY:
        fits = {
            "container": video.container in KINDS,
            "size_bytes": video.size_bytes > 0,
            "sha256": _SHA256.fullmatch(video.sha256) is not None,
            "etag": _ETAG.fullmatch(video.etag) is not None,
            "object_key": video.object_key in object_keys(video.video_id),
        }
    else:
        fits = {name: not getattr(video, name) for name in ("container", "size_bytes", "sha256", "etag", "object_key")}
    faults = [FieldViolation(name, "not that of a video in this state") for name, right in fits.items() if not right]
    if faults:
        raise ReelwayError(ErrorReason.INVALID_REQUEST, violations=faults)


def page_length(asked: int, usual: int) -> int:
    """How many videos a page may have; INVALID_REQUEST for a page_size out of range, `usual` for 0."""
    if not 0 <= asked <= PAGE_SIZE_MAX:
        raise invalid_field("page_size", f"must be between 0 and {PAGE_SIZE_MAX}", "out_of_range")
    return asked or usual


class Catalog:
    """Creates, finds, changes and deletes videos for a user (empty: anonymous)."""

    def __init__(self, store: RedisVideoStore, records: RecordStore, objects: S3Objects, clock: Clock) -> None:
        self._store, self._records, self._objects, self._clock = store, records, objects, clock
        self._giving_up, self._deleting = tasks.Background(), asyncio.Semaphore(_DELETED_AT_ONCE)

    async def create(self, video: media_pb2.Video, user: str) -> media_pb2.Video:
        """Add a video owned by `user`; repeated by the same user, the record that the first call made.

        Raises:
            ReelwayError: INVALID_REQUEST, VIDEO_EXISTS, STORE_UNAVAILABLE, INDEX_MISSING.
        """
        check_texts(video.title, video.description, video.file_name)
        if not is_uuid(video.video_id):
            raise invalid_field("video_id", "must be a UUID")
        if video.state not in INITIAL or (video.state == media_pb2.VIDEO_STATE_SIGNED and not user):
            raise invalid_field("state", "none for a new video")
        _check_bytes(video)
        # Nothing else is taken over: a listing time, or somebody's transcript, would be believed.
        new = media_pb2.Video(
            video_id=video.video_id,
            number=await self._store.next_number(),
            owner=user,
            state=video.state,
            version=1,
            title=video.title,
            description=video.description,
            file_name=video.file_name,
            container=video.container,
            size_bytes=video.size_bytes,
            sha256=video.sha256,
            etag=video.etag,
            object_key=video.object_key,
        )
        new.create_time.FromDatetime(self._clock.now())
        new.modify_time.CopyFrom(new.create_time)
        mark = uuid.uuid4().hex
        existing = await self._store.create(new, mark)
        if existing is not None:
            if existing.owner != user or existing.state in GONE:
                raise ReelwayError(ErrorReason.VIDEO_EXISTS)
            return await self.change(existing.video_id, lambda _: None)
        await self.save(new, mark)
        return new

    async def change(self, video_id: str, apply: Callable[[media_pb2.Video], None]) -> media_pb2.Video:
        """The record with `apply` done to it, and durable.

        `apply` is given tombstones, too, judges who may do what, and is called again where another change came first.

        Raises:
            ReelwayError: VIDEO_NOT_FOUND where there never was one; SERVICE_UNAVAILABLE where others always come first.
        """
        for attempt in range(1, _CHANGE.attempts + 1):
            video, before = await self.look_up(video_id), media_pb2.Video()
            before.CopyFrom(video)
            apply(video)
            # Where nothing changes, a record that is not known to be in S3 is saved all the same: the call that changed
            # it may have died before that, and this answer promises it. With a mark: this PUT, too, may land late.
            changed = video != before
            if not changed and await self._store.is_saved(video):
                return video
            # The index takes no version but the one after its own.
            video.version = before.version + changed
            mark = uuid.uuid4().hex
            if await (self._store.replace(video, mark) if changed else self._store.mark(video, mark)):
                await self.save(video, mark)
                return video
            await asyncio.sleep(_CHANGE.pause(attempt))
        raise ReelwayError(ErrorReason.SERVICE_UNAVAILABLE)

    async def save(self, video: media_pb2.Video, mark: str) -> None:
        """Write a committed record to S3 and take its mark off, following changes that overtake it.

        INDEX_MISSING where the index was made again without this change.
        """
        while True:
            try:
                await self._records.save(video)
                if await self._store.saved(video, mark):
                    return
            except BaseException as error:
                if isinstance(error, ReelwayError) and error.reason is ErrorReason.INDEX_MISSING:
                    await self._put_back(video.video_id)
                else:
                    # S3 has it, or may write it yet: over a newer one, if we slept until the sweeper took the mark.
                    self._giving_up.start(self._mark_again(video.video_id, mark))
                raise
            # Where the index has lost it meanwhile, `saved` raises.
            video = await self._store.get(video.video_id) or video

    async def _mark_again(self, video_id: str, mark: str) -> None:
        """Have the sweeper write what the index has; nothing happens where the mark is there still."""
        with contextlib.suppress(ReelwayError):
            while (video := await self._store.get(video_id)) is not None:
                if await self._store.mark(video, mark):
                    return

    async def _put_back(self, video_id: str) -> None:
        """Write what the index has over a record that it knows nothing of; whoever made a newer one writes it."""
        video, mark = await self._store.get(video_id), uuid.uuid4().hex
        if video is not None and await self._store.mark(video, mark):
            await self.save(video, mark)

    async def catch_up(self, video_id: str) -> bool:
        """Take what S3 records of a video over what the index has, where that is older; whether it was.

        Redis is ahead of S3, unless it came back as it was at an earlier time.
        """
        stored = await self._records.load(record_key(video_id))
        if stored is None or stored.version <= (await self.look_up(video_id)).version:
            return False

        def take(video: media_pb2.Video) -> None:
            if stored.version > video.version:
                video.CopyFrom(stored)

        await self.change(video_id, take)
        return True

    async def look_up(self, video_id: str) -> media_pb2.Video:
        """The video, regardless of who may see it and even if it is gone; VIDEO_NOT_FOUND if there never was one."""
        video = await self._store.get(video_id)
        if video is None:
            raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
        return video

    async def get(self, user: str, *, video_id: str = "", number: int = 0) -> media_pb2.Video:
        """The video, by either name, if `user` may see it; VIDEO_NOT_FOUND if not or there is none."""
        video = await (self.look_up(video_id) if video_id else self._store.get_by_number(number))
        if video is None or not may_see(video, user):
            raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
        return video

    async def page(self, user: str, page_size: int, token: str, skip: int = 0) -> tuple[list[media_pb2.Video], str]:
        """A page of what `user` may see in a list, oldest first, and the token of the next page (empty: none).

        `skip` of them are left out first.
        """
        count = page_length(page_size, PAGE_SIZE)
        if skip < 0:
            raise invalid_field("skip", "must not be negative", "out_of_range")
        after = await self._store.behind(user, page_token.decode_number(token) if token else 0, skip)
        videos = await self._store.page(listed_for(user), after, count + 1)
        page = within_message(videos[:count])
        next_token = page_token.encode_number(page[-1].number) if len(videos) > len(page) else ""
        # Without what was deleted or made private since the lists were read.
        return [video for video in page if user == SYSTEM_USER or may_see(video, user)], next_token

    async def update(self, user: str, request: catalog_pb2.UpdateVideoRequest) -> media_pb2.Video:
        """Change the fields that are set.

        Raises:
            ReelwayError: VIDEO_NOT_FOUND, NOT_THE_OWNER, VERSION_CONFLICT, INVALID_REQUEST.
        """
        check_texts(request.title, request.description)

        def apply(video: media_pb2.Video) -> None:
            require_change(video, user)
            if request.expected_version and request.expected_version != video.version:
                raise ReelwayError(ErrorReason.VERSION_CONFLICT)
            if request.HasField("title"):
                video.title = request.title
            if request.HasField("description"):
                video.description = request.description
            if request.HasField("is_private"):
                if not video.owner:
                    raise invalid_field("is_private", "a video that nobody owns cannot be private")
                video.is_private = request.is_private

        return await self.change(request.video_id, apply)

    async def delete(self, user: str, video_id: str) -> None:
        """As `bury`, for whoever may change it; VIDEO_NOT_FOUND, NOT_THE_OWNER, NOT_SEALED.

        One that grows is deleted by the system alone, once its upload has ended.
        """

        def end(video: media_pb2.Video) -> None:
            if video.state == media_pb2.VIDEO_STATE_DELETING and (may_change(video.owner, user) or user == SYSTEM_USER):
                # A deletion that broke off, perhaps before S3 had its tombstone.
                return
            if not (user == SYSTEM_USER and video.state == media_pb2.VIDEO_STATE_UPLOADING):
                require_change(video, user)
                require_sealed(video)
            step(video, media_pb2.VIDEO_STATE_DELETING)

        await self.bury(video_id, end)

    async def bury(self, video_id: str, apply: Callable[[media_pb2.Video], None]) -> None:
        """Hide a video at once by `apply`, which makes it a tombstone, then remove its objects.

        The sweeper goes on where that takes longer than a caller waits: thousands of chunks, or of deletions.
        """
        answered = asyncio.get_running_loop().time() + _DELETE_SECONDS
        await self.change(video_id, apply)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(answered), self._deleting:
                await self.finish_delete(video_id)

    async def finish_delete(self, video_id: str) -> None:
        """Remove a tombstone's objects and what it said, keeping its number for good. Safe to repeat."""
        video = await self._store.get(video_id)
        if video is None or video.state != media_pb2.VIDEO_STATE_DELETING:
            return
        # Known keys are deleted without a listing: that may be late, and nobody comes back to a tombstone. And some
        # stores go through all videos to list those whose keys begin with half a name.
        keys = (*object_keys(video_id), thumbnail_key(video_id), incoming_key(video_id))
        await self._objects.delete_each(keys)
        for prefix in (journal_prefix(video_id), joined_prefix(video_id), transcript_prefix(video_id)):
            await self._objects.delete_all(prefix)

        def empty(video: media_pb2.Video) -> None:
            if video.state != media_pb2.VIDEO_STATE_DELETING:
                return
            rest = media_pb2.Video(
                video_id=video.video_id,
                number=video.number,
                owner=video.owner,
                state=video.state,
                version=video.version,
                create_time=video.create_time,
            )
            step(rest, media_pb2.VIDEO_STATE_DELETED)
            rest.modify_time.FromDatetime(self._clock.now())
            video.CopyFrom(rest)

        await self.change(video_id, empty)
