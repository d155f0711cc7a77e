"""A look at a signed upload whose outcome is told before the upload can be removed."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock, patch

import grpc
from reelway.v1 import library_pb2, media_pb2

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.object_keys import incoming_key
from services.common.s3_objects import ObjectInfo
from services.ffmpeg.worker.probe_handler import ProbeHandler

VIDEO_ID = "00000000-0000-4000-8000-000000000000"


async def test_a_look_whose_outcome_is_told_is_not_done_again_for_an_upload_that_cannot_be_removed() -> None:
    """Each attempt would fetch and probe it once more; whoever looks for arrivals removes it."""
    key, told = incoming_key(VIDEO_ID), list[Any]()
    too_large = ObjectInfo(key, 11, datetime.now(UTC), '"e"')
    objects = Mock(
        head=AsyncMock(return_value=too_large),
        delete=AsyncMock(side_effect=ReelwayError(ErrorReason.STORE_UNAVAILABLE)),
    )
    context = Mock(still_held=AsyncMock())
    context.job = SimpleNamespace(spec={"video_id": VIDEO_ID, "parameters": {"source": key}})
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        handler = ProbeHandler(
            Mock(), objects=objects, data=Mock(), catalog=channel, upload_bytes=10, upload_types=(), whole_bytes=10
        )

        async def tell(outcome: library_pb2.FinishProcessingRequest) -> media_pb2.Video:
            told.append(outcome.failure)
            return media_pb2.Video()

        with patch.object(handler, "_finish", tell):
            assert await handler(context) == {"outcome": "failure"}
    assert told == [media_pb2.PROCESSING_FAILURE_TOO_LARGE]
    objects.delete.assert_awaited_once_with(key)
