"""Taking a whole file in, whatever dialect it came by."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from reelway.v1 import media_pb2, upload_pb2

from gateway.backends import UploadBackend
from services.common.byte_messages import Buffer


@dataclass(frozen=True)
class Uploaded:
    """A finished upload."""

    video: media_pb2.Video
    object_url: str
    """The object's own address on the public store."""


class Uploads:
    """Whole files into videos."""

    def __init__(self, backend: UploadBackend) -> None:
        self._backend = backend

    async def upload(self, data: AsyncIterator[Buffer], file_name: str, likely_bytes: int) -> Uploaded:
        """Send the file on as it comes; `likely_bytes` is an upper bound of its size, 0 if unknown.

        Raises:
            ReelwayError: as UploadService.UploadVideo says.
        """
        header = upload_pb2.UploadHeader(file_name=file_name, max_size_bytes=max(0, likely_bytes))
        response = await self._backend.upload(header, data)
        return Uploaded(response.video, response.object_url)
