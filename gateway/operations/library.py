"""A video-sharing site's library, whatever dialect it came by."""

from __future__ import annotations

import grpc
from reelway.v1 import library_pb2, library_pb2_grpc, signing_pb2, signing_pb2_grpc, upload_pb2, upload_pb2_grpc

from services.common.call import call
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError


class Library:
    """ReelwayError as LibraryService and SigningService say, from every method."""

    def __init__(self, catalog: grpc.aio.Channel, upload: grpc.aio.Channel) -> None:
        self._stub: library_pb2_grpc.LibraryServiceAsyncStub = library_pb2_grpc.LibraryServiceStub(catalog)
        self._upload: upload_pb2_grpc.UploadServiceAsyncStub = upload_pb2_grpc.UploadServiceStub(upload)
        self._signing: signing_pb2_grpc.SigningServiceAsyncStub = signing_pb2_grpc.SigningServiceStub(upload)

    async def sign(self, file_name: str, content_type: str) -> signing_pb2.SignUploadResponse:
        """A form for one file."""
        request = signing_pb2.SignUploadRequest(file_name=file_name, content_type=content_type)
        return await call(self._signing.SignUpload, request)

    async def rules(self) -> signing_pb2.GetUploadRulesResponse:
        """What may be signed."""
        return await call(self._signing.GetUploadRules, signing_pb2.GetUploadRulesRequest())

    async def explore(self, token: str, *, include_own: bool) -> library_pb2.ExploreResponse:
        """Published videos, newest first."""
        return await call(self._stub.Explore, library_pb2.ExploreRequest(page_token=token, include_own=include_own))

    async def own(self, token: str) -> library_pb2.ListOwnResponse:
        """The caller's, newest first."""
        return await call(self._stub.ListOwn, library_pb2.ListOwnRequest(page_token=token))

    async def of_user(self, user_id: str, token: str) -> library_pb2.ListUserResponse:
        """One user's published videos, newest first."""
        return await call(self._stub.ListUser, library_pb2.ListUserRequest(user_id=user_id, page_token=token))

    async def watch(self, user_id: str, video_id: str) -> library_pb2.LibraryVideo:
        """One video to watch."""
        return (await call(self._stub.Watch, library_pb2.WatchRequest(user_id=user_id, video_id=video_id))).video

    async def edit(self, video_id: str, title: str | None, description: str | None, is_private: bool | None) -> None:
        """Change, and publish where it is not published; None stays as it is."""
        request = library_pb2.EditRequest(
            video_id=video_id, title=title, description=description, is_private=is_private
        )
        await call(self._stub.Edit, request)

    async def remove(self, video_id: str) -> None:
        """Delete one of the caller's; one that grows by giving its upload up."""
        request = library_pb2.RemoveRequest(video_id=video_id)
        try:
            await call(self._stub.Remove, request)
        except ReelwayError as error:
            if error.reason is not ErrorReason.NOT_SEALED:
                raise
            try:
                await call(self._upload.Abort, upload_pb2.AbortRequest(video_id=video_id))
            except ReelwayError as late:
                if late.reason is not ErrorReason.UPLOAD_SEALED:
                    raise
                # The record may not say so yet: the sealing is under way, or its process died. Now it does.
                await call(self._upload.Seal, upload_pb2.SealRequest(video_id=video_id))
                await call(self._stub.Remove, request)
