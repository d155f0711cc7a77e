"""The library's use cases: lists, publishing, watching. Start reading here for dialect 003."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reelway.v1 import library_pb2, media_pb2

from services.catalog.access import is_own, require_sealed
from services.catalog.catalog import Catalog, check_texts, page_length
from services.catalog.library_store import LibraryStore, Position
from services.catalog.memberships import EXPLORE, library_key, memberships, private_key, public_key, unprocessed_key
from services.catalog.redis_video_store import RedisVideoStore
from services.common.clock import Clock
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.message_page import within_message
from services.common.page_token import decode_place, encode_place
from services.common.video_state import step

PAGE_SIZE = 30
OWN_PAGE_SIZE = 500
PRESIGNED_URL_BYTES = 2048
"""What the presigned URL of a thumbnail counts in a page: it has some 500 bytes, more with a session's token."""


@dataclass(frozen=True)
class Page:
    """Part of a list."""

    videos: Sequence[media_pb2.Video]
    token: str
    """Of the next page; empty: this is the last."""


def _require(user: str) -> None:
    if not user:
        raise ReelwayError(ErrorReason.UNAUTHENTICATED)


def _without_words(video: media_pb2.Video) -> media_pb2.Video:
    """Without the text of its transcript: those of long talks would leave no room for others on a page."""
    if video.transcript.result.text:
        video.transcript.result.ClearField("text")
    return video


def _shown_bytes(video: media_pb2.Video) -> int:
    return video.ByteSize() + (PRESIGNED_URL_BYTES if video.thumbnail_key else 0)


class Library:
    """Judges each call for a user (empty: anonymous)."""

    def __init__(self, catalog: Catalog, videos: RedisVideoStore, lists: LibraryStore, clock: Clock) -> None:
        self._catalog, self._videos, self._lists, self._clock = catalog, videos, lists, clock

    async def explore(self, user: str, page_size: int, token: str, include_own: bool) -> Page:
        """What everybody may see; `user`'s own among it, private ones too, only if asked for."""
        size = page_length(page_size, PAGE_SIZE)
        if include_own:
            return await self._page("e", [EXPLORE, private_key(user)], size, token)
        return await self._page("e", [EXPLORE], size, token, hidden=public_key(user) if user else "")

    async def of_user(self, user: str, owner: str, page_size: int, token: str) -> Page:
        """What `user` may see of `owner`; USER_NOT_FOUND."""
        size = page_length(page_size, PAGE_SIZE)
        # Raises INDEX_MISSING: that is not the same as a user that is not known.
        if not await self._videos.knows_owner(owner):
            raise ReelwayError(ErrorReason.USER_NOT_FOUND)
        lists = [public_key(owner), *([private_key(owner)] if user == owner else [])]
        return await self._page("u", lists, size, token)

    async def own(self, user: str, page_size: int, token: str) -> tuple[Page, Sequence[media_pb2.Video]]:
        """`user`'s finished videos, and, with the first page, the unfinished ones."""
        _require(user)
        size = page_length(page_size, OWN_PAGE_SIZE)
        # The unfinished ones first: what is finished between the two looks is then found by the second, not by none.
        waiting = [] if token else (await self._page("w", [unprocessed_key(user)], size, "")).videos
        page = await self._page("o", [library_key(user)], size, token)
        finished = {video.video_id for video in page.videos}
        return page, [video for video in waiting if video.video_id not in finished]

    async def _page(self, kind: str, lists: Sequence[str], size: int, token: str, *, hidden: str = "") -> Page:
        behind = Position(*decode_place(kind, token)) if token else None
        found = await self._lists.newest(lists, size, behind, hidden)
        ids = [row.video_id for row in found.rows]
        records = [_without_words(video) for video in await self._videos.records(ids)]
        videos, next_behind = within_message(records, _shown_bytes), found.behind
        if len(videos) < len(records):
            next_behind = next(row for row in found.rows if row.video_id == videos[-1].video_id)
        # What was made private or deleted since the lists were read is in none of them any more.
        videos = [video for video in videos if any(memberships(video).get(key) for key in lists)]
        return Page(videos, encode_place(kind, *next_behind) if next_behind else "")

    async def watch(self, user: str, owner: str, video_id: str) -> media_pb2.Video:
        """A finished video of `owner`; VIDEO_NOT_FOUND, PRIVATE_VIDEO."""
        video = await self._catalog.look_up(video_id)
        if video.owner != owner or video.state != media_pb2.VIDEO_STATE_READY:
            raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
        if video.is_private and video.owner != user:
            raise ReelwayError(ErrorReason.PRIVATE_VIDEO)
        return _without_words(video)

    async def edit(self, user: str, request: library_pb2.EditRequest) -> media_pb2.Video:
        """Change an own video, and publish it if it is not.

        Raises:
            ReelwayError: VIDEO_NOT_FOUND, FIELDS_MISSING, INVALID_REQUEST.
        """
        _require(user)
        check_texts(request.title, request.description)

        def apply(video: media_pb2.Video) -> None:
            finished = video.state in (media_pb2.VIDEO_STATE_DRAFT, media_pb2.VIDEO_STATE_READY)
            if not is_own(video, user) or not finished:
                raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
            publishes = not video.HasField("listing_time")
            missing = [name for name in ("title", "description") if publishes and not request.HasField(name)]
            # A blank title counts as missing.
            if request.HasField("title") and not request.title.strip():
                missing.insert(0, "title")
            if missing:
                raise ReelwayError(ErrorReason.FIELDS_MISSING, metadata={"fields": ",".join(missing)})
            if publishes:
                video.listing_time.FromDatetime(self._clock.now())
                if video.state == media_pb2.VIDEO_STATE_DRAFT:
                    step(video, media_pb2.VIDEO_STATE_READY)
            for name in ("title", "description", "is_private"):
                if request.HasField(name):
                    setattr(video, name, getattr(request, name))

        return await self._catalog.change(request.video_id, apply)

    async def remove(self, user: str, video_id: str) -> None:
        """Delete an own video; VIDEO_NOT_FOUND, STILL_PROCESSING, NOT_SEALED."""
        _require(user)

        def end(video: media_pb2.Video) -> None:
            if video.state == media_pb2.VIDEO_STATE_DELETING and video.owner == user:
                # A removal that broke off: repeated, it succeeds.
                return
            if not is_own(video, user):
                raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
            if video.state == media_pb2.VIDEO_STATE_PROCESSING:
                raise ReelwayError(ErrorReason.STILL_PROCESSING)
            require_sealed(video)
            step(video, media_pb2.VIDEO_STATE_DELETING)

        await self._catalog.bury(video_id, end)
