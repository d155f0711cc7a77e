"""LibraryService and SigningService as the gateway calls them: deadlines set, errors as ReelwayError."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import grpc
from reelway.v1 import library_pb2, library_pb2_grpc, signing_pb2, signing_pb2_grpc

from services.common.caller import current_caller
from services.common.channel import CALL_SECONDS
from services.common.error_translator import from_rpc_error

_Answer = TypeVar("_Answer")


async def _answer(call: Awaitable[_Answer]) -> _Answer:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None


class LibraryBackend:
    """For the caller of the request that the current task serves."""

    def __init__(self, catalog: grpc.aio.Channel, upload: grpc.aio.Channel) -> None:
        self._library: library_pb2_grpc.LibraryServiceAsyncStub = library_pb2_grpc.LibraryServiceStub(catalog)
        self._signing: signing_pb2_grpc.SigningServiceAsyncStub = signing_pb2_grpc.SigningServiceStub(upload)

    async def sign(self, request: signing_pb2.SignUploadRequest) -> signing_pb2.SignUploadResponse:
        """See SigningService.SignUpload."""
        metadata = current_caller().metadata()
        return await _answer(self._signing.SignUpload(request, timeout=CALL_SECONDS, metadata=metadata))

    async def rules(self) -> signing_pb2.GetUploadRulesResponse:
        """See SigningService.GetUploadRules."""
        request, metadata = signing_pb2.GetUploadRulesRequest(), current_caller().metadata()
        return await _answer(self._signing.GetUploadRules(request, timeout=CALL_SECONDS, metadata=metadata))

    async def explore(self, request: library_pb2.ExploreRequest) -> library_pb2.ExploreResponse:
        """See LibraryService.Explore."""
        metadata = current_caller().metadata()
        return await _answer(self._library.Explore(request, timeout=CALL_SECONDS, metadata=metadata))

    async def own(self, request: library_pb2.ListOwnRequest) -> library_pb2.ListOwnResponse:
        """See LibraryService.ListOwn."""
        metadata = current_caller().metadata()
        return await _answer(self._library.ListOwn(request, timeout=CALL_SECONDS, metadata=metadata))

    async def of_user(self, request: library_pb2.ListUserRequest) -> library_pb2.ListUserResponse:
        """See LibraryService.ListUser."""
        metadata = current_caller().metadata()
        return await _answer(self._library.ListUser(request, timeout=CALL_SECONDS, metadata=metadata))

    async def watch(self, request: library_pb2.WatchRequest) -> library_pb2.WatchResponse:
        """See LibraryService.Watch."""
        metadata = current_caller().metadata()
        return await _answer(self._library.Watch(request, timeout=CALL_SECONDS, metadata=metadata))

    async def edit(self, request: library_pb2.EditRequest) -> None:
        """See LibraryService.Edit."""
        metadata = current_caller().metadata()
        await _answer(self._library.Edit(request, timeout=CALL_SECONDS, metadata=metadata))

    async def remove(self, video_id: str) -> None:
        """See LibraryService.Remove."""
        request, metadata = library_pb2.RemoveRequest(video_id=video_id), current_caller().metadata()
        await _answer(self._library.Remove(request, timeout=CALL_SECONDS, metadata=metadata))
