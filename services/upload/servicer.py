"""UploadService: converts, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from reelway.v1 import upload_pb2

from services.common.byte_messages import UploadMessage, decode_upload_request
from services.common.s3_objects import S3Objects
from services.upload.uploads import Uploads

SERVICE = "reelway.v1.UploadService"


class UploadServicer:
    """Its byte stream is decoded by hand, so it registers itself rather than by the generated function."""

    def __init__(self, uploads: Uploads, objects: S3Objects) -> None:
        self._uploads, self._objects = uploads, objects

    def register(self, server: grpc.aio.Server) -> None:
        """Add UploadService to a server."""
        handler = grpc.stream_unary_rpc_method_handler(
            self.UploadVideo,
            request_deserializer=decode_upload_request,
            response_serializer=upload_pb2.UploadVideoResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"UploadVideo": handler}),))

    async def UploadVideo(self, messages: AsyncIterator[UploadMessage], context: Any) -> upload_pb2.UploadVideoResponse:
        video = await self._uploads.upload(messages)
        return upload_pb2.UploadVideoResponse(video=video, object_url=self._objects.object_url(video.object_key))
