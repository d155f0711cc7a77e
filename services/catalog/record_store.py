"""The records of truth in S3: one small JSON object a video, `catalog/{uuid}.json`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

from google.protobuf import json_format
from reelway.v1 import media_pb2

from services.common import logs
from services.common.errors import ReelwayError
from services.common.object_keys import RECORDS, record_key
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import ObjectInfo, S3Objects

log = logs.get_logger(__name__)

_UNREADABLE = (json_format.ParseError, UnicodeDecodeError)


class RecordStore:
    """Saves and reads records; raises STORE_UNAVAILABLE."""

    def __init__(self, objects: S3Objects, data: S3Bytes) -> None:
        self._objects, self._data = objects, data

    async def save(self, video: media_pb2.Video) -> None:
        """Write the record over the one before it."""
        body = json_format.MessageToJson(video, preserving_proto_field_name=True, indent=1)
        await self._objects.put(record_key(video.video_id), body.encode(), "application/json")

    async def load(self, key: str) -> media_pb2.Video | None:
        """The record under a key; None for one that is gone or is no record (logged)."""
        # Read while it is written, JuiceFS' gateway cuts the new record at the length of the old one.
        for again in (True, False):
            body = await self._objects.get(key)
            if body is None:
                return None
            try:
                return _parse(body)
            except _UNREADABLE as error:
                if not again:
                    log.error("unreadable record", key=key, error=str(error))
        return None

    async def load_listed(self, info: ObjectInfo) -> media_pb2.Video | None:
        """As `load`, of one that was `listed`, for a third of the CPU: a rebuild is little else, and nobody is served.

        One that has another length since it was listed is read as any other.
        """
        try:
            return _parse(b"".join([piece async for piece in self._data.read(quote(info.key), 0, info.size)]))
        except (*_UNREADABLE, ReelwayError):
            return await self.load(info.key)

    async def listed(self) -> AsyncIterator[list[ObjectInfo]]:
        """Every record there is, in the order of their keys, in short pages."""
        async for page in self._objects.pages(RECORDS):
            yield [info for info in page if info.key.endswith(".json")]


def _parse(body: bytes) -> media_pb2.Video:
    # A newer release may have added fields; an older one must still be able to rebuild.
    return json_format.Parse(body, media_pb2.Video(), ignore_unknown_fields=True)
