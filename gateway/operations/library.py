"""A video-sharing site's library, whatever dialect it came by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reelway.v1 import library_pb2, media_pb2, signing_pb2

from gateway.library_backend import LibraryBackend


@dataclass(frozen=True)
class Page:
    """Part of a list."""

    videos: Sequence[library_pb2.LibraryVideo]
    token: str
    """Of the next page; empty: this is the last."""


@dataclass(frozen=True)
class OwnVideos:
    """What a user has."""

    page: Page
    unprocessed: Sequence[media_pb2.Video]


@dataclass(frozen=True)
class Edit:
    """What changes; None stays as it is."""

    title: str | None
    description: str | None
    is_private: bool | None


class Library:
    """ReelwayError as LibraryService and SigningService say, from every method."""

    def __init__(self, backend: LibraryBackend) -> None:
        self._backend = backend

    async def sign(self, file_name: str, content_type: str) -> signing_pb2.SignUploadResponse:
        """A form for one file."""
        return await self._backend.sign(signing_pb2.SignUploadRequest(file_name=file_name, content_type=content_type))

    async def rules(self) -> signing_pb2.GetUploadRulesResponse:
        """What may be signed."""
        return await self._backend.rules()

    async def explore(self, token: str, *, include_own: bool) -> Page:
        """Published videos, newest first."""
        answer = await self._backend.explore(library_pb2.ExploreRequest(page_token=token, include_own=include_own))
        return Page(answer.videos, answer.next_page_token)

    async def own(self, token: str) -> OwnVideos:
        """The caller's, newest first."""
        answer = await self._backend.own(library_pb2.ListOwnRequest(page_token=token))
        return OwnVideos(Page(answer.videos, answer.next_page_token), answer.unprocessed)

    async def of_user(self, user_id: str, token: str) -> Page:
        """One user's published videos, newest first."""
        answer = await self._backend.of_user(library_pb2.ListUserRequest(user_id=user_id, page_token=token))
        return Page(answer.videos, answer.next_page_token)

    async def watch(self, user_id: str, video_id: str) -> library_pb2.LibraryVideo:
        """One video to watch."""
        answer = await self._backend.watch(library_pb2.WatchRequest(user_id=user_id, video_id=video_id))
        return answer.video

    async def edit(self, video_id: str, edit: Edit) -> None:
        """Change, and publish where it is not published."""
        await self._backend.edit(
            library_pb2.EditRequest(
                video_id=video_id, title=edit.title, description=edit.description, is_private=edit.is_private
            )
        )

    async def remove(self, video_id: str) -> None:
        """Delete one of the caller's."""
        await self._backend.remove(video_id)
