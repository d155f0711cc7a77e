"""TranscriptService as the gateway calls it: deadlines set, errors as ReelwayError."""

from __future__ import annotations

import grpc
from reelway.v1 import media_pb2, transcript_pb2, transcript_pb2_grpc

from services.common.caller import current_caller
from services.common.channel import CALL_SECONDS
from services.common.error_translator import from_rpc_error


class TranscriptBackend:
    """For the caller of the request that the current task serves."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: transcript_pb2_grpc.TranscriptServiceAsyncStub = transcript_pb2_grpc.TranscriptServiceStub(channel)

    async def request(self, request: transcript_pb2.RequestTranscriptRequest) -> media_pb2.Transcript:
        """See TranscriptService.RequestTranscript."""
        try:
            answer = await self._stub.RequestTranscript(
                request, timeout=CALL_SECONDS, metadata=current_caller().metadata()
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return answer.transcript

    async def get(self, video_id: str) -> transcript_pb2.GetTranscriptResponse:
        """See TranscriptService.GetTranscript."""
        request = transcript_pb2.GetTranscriptRequest(video_id=video_id)
        try:
            return await self._stub.GetTranscript(request, timeout=CALL_SECONDS, metadata=current_caller().metadata())
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
