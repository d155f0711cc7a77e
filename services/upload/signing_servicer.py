"""SigningService: converts, nothing else."""

from __future__ import annotations

from typing import Any

from reelway.v1 import signing_pb2, signing_pb2_grpc

from services.upload.event_hook import named_keys
from services.upload.ingest import Ingest
from services.upload.signing import Signing


class SigningServicer(signing_pb2_grpc.SigningServiceServicer):
    """Judges each call for the user of its metadata."""

    def __init__(self, signing: Signing, ingest: Ingest) -> None:
        self._signing, self._ingest = signing, ingest

    async def SignUpload(self, request: signing_pb2.SignUploadRequest, context: Any) -> signing_pb2.SignUploadResponse:
        signed = await self._signing.sign(request.file_name, request.content_type)
        return signing_pb2.SignUploadResponse(video_id=signed.video_id, url=signed.url, fields=signed.fields)

    async def GetUploadRules(
        self, request: signing_pb2.GetUploadRulesRequest, context: Any
    ) -> signing_pb2.GetUploadRulesResponse:
        return signing_pb2.GetUploadRulesResponse(
            max_bytes=self._signing.max_bytes, content_types=self._signing.content_types
        )

    async def NotifyArrivals(
        self, request: signing_pb2.NotifyArrivalsRequest, context: Any
    ) -> signing_pb2.NotifyArrivalsResponse:
        return signing_pb2.NotifyArrivalsResponse(objects=await self._ingest.notice(named_keys(request.event_json)))
