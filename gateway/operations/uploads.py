"""Taking a whole file in, whatever dialect it came by."""

from __future__ import annotations

from collections.abc import AsyncIterator

from reelway.v1 import upload_pb2

from gateway.upload_backend import UploadBackend
from services.common.byte_messages import Buffer


class Uploads:
    """Whole files into videos."""

    def __init__(self, backend: UploadBackend) -> None:
        self._backend = backend

    async def upload(
        self, data: AsyncIterator[Buffer], file_name: str, most_bytes: int
    ) -> upload_pb2.UploadVideoResponse:
        """Send the file on as it comes; `most_bytes` is an upper bound of its size, 0 if unknown.

        Raises:
            ReelwayError: as UploadService.UploadVideo says.
        """
        return await self._backend.upload(upload_pb2.UploadHeader(file_name=file_name, max_size_bytes=most_bytes), data)
