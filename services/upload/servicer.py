"""UploadService: converts, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from reelway.v1 import upload_pb2

from services.common.byte_messages import (
    AppendMessage,
    UploadMessage,
    decode_append_request,
    decode_upload_request,
)
from services.common.caller import require_system
from services.common.method_handlers import generic_handler
from services.common.s3_objects import S3Objects
from services.upload.appends import Appends
from services.upload.journal import Journal, JournalState
from services.upload.journals import Journals
from services.upload.seal import Sealing
from services.upload.uploads import Uploads

SERVICE = upload_pb2.DESCRIPTOR.services_by_name["UploadService"]

_STATES: dict[JournalState, upload_pb2.UploadState.ValueType] = {
    JournalState.OPEN: upload_pb2.UPLOAD_STATE_OPEN,
    JournalState.SEALED: upload_pb2.UPLOAD_STATE_SEALED,
    JournalState.COMPACTED: upload_pb2.UPLOAD_STATE_COMPACTED,
    JournalState.ABORTED: upload_pb2.UPLOAD_STATE_ABORTED,
}


class UploadServicer:
    """Its byte streams are decoded by hand, so it registers itself rather than by the generated function."""

    def __init__(
        self, uploads: Uploads, journals: Journals, appends: Appends, sealing: Sealing, objects: S3Objects
    ) -> None:
        self._uploads, self._journals, self._appends, self._sealing = uploads, journals, appends, sealing
        self._objects = objects

    def register(self, server: grpc.aio.Server) -> None:
        """Add UploadService to a server."""
        decoders = {"UploadVideo": decode_upload_request, "Append": decode_append_request}
        server.add_generic_rpc_handlers((generic_handler(SERVICE, self, decoders=decoders),))

    async def UploadVideo(self, messages: AsyncIterator[UploadMessage], context: Any) -> upload_pb2.UploadVideoResponse:
        video = await self._uploads.upload(messages)
        return upload_pb2.UploadVideoResponse(video=video, object_url=self._objects.object_url(video.object_key))

    async def CreateUpload(
        self, request: upload_pb2.CreateUploadRequest, context: Any
    ) -> upload_pb2.CreateUploadResponse:
        video = await self._journals.create(request.title, request.description, request.file_name)
        return upload_pb2.CreateUploadResponse(video=video)

    async def Append(self, messages: AsyncIterator[AppendMessage], context: Any) -> upload_pb2.AppendResponse:
        committed = await self._appends.append(messages)
        return upload_pb2.AppendResponse(offset_bytes=committed.offset, size_bytes=committed.size, etag=committed.etag)

    async def GetUpload(self, request: upload_pb2.GetUploadRequest, context: Any) -> upload_pb2.GetUploadResponse:
        journal = await self._journals.get_visible(request.video_id)
        return upload_pb2.GetUploadResponse(upload=await self._upload(journal))

    async def Seal(self, request: upload_pb2.SealRequest, context: Any) -> upload_pb2.SealResponse:
        return upload_pb2.SealResponse(video=await self._sealing.seal(request.video_id, request.containers))

    async def Abort(self, request: upload_pb2.AbortRequest, context: Any) -> upload_pb2.AbortResponse:
        await self._journals.abort(request.video_id)
        return upload_pb2.AbortResponse()

    async def LocateExtents(
        self, request: upload_pb2.LocateExtentsRequest, context: Any
    ) -> upload_pb2.LocateExtentsResponse:
        require_system()
        located = await self._journals.locate(
            request.video_id, request.offset_bytes, request.length_bytes, request.etag
        )
        return upload_pb2.LocateExtentsResponse(
            upload=await self._upload(located.journal),
            size_bytes=located.size,
            object_key=located.journal.object_key,
            extents=[
                upload_pb2.Extent(
                    offset_bytes=extent.offset,
                    length_bytes=extent.length,
                    key=extent.key,
                    begins_clip=extent.begins_clip,
                )
                for extent in (() if located.journal.object_key else located.extents)
            ],
        )

    async def _upload(self, journal: Journal) -> upload_pb2.Upload:
        upload = upload_pb2.Upload(
            video_id=journal.video_id,
            state=_STATES[journal.state],
            size_bytes=journal.size,
            etag=journal.etag,
            chunk_count=journal.chunks,
            clip_count=journal.clips,
            container=await self._journals.container(journal),
        )
        upload.modify_time.FromMilliseconds(int(journal.modified * 1000))
        return upload
