"""The records of truth in S3: one small JSON object a video, `catalog/{uuid}.json`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf import json_format
from reelway.v1 import media_pb2

from services.common import logs
from services.common.object_keys import RECORDS, record_key
from services.common.s3_objects import S3Objects

log = logs.get_logger(__name__)


class RecordStore:
    """Saves and reads records; raises STORE_UNAVAILABLE."""

    def __init__(self, objects: S3Objects) -> None:
        self._objects = objects

    async def save(self, video: media_pb2.Video) -> None:
        """Write the record over the one before it."""
        body = json_format.MessageToJson(video, preserving_proto_field_name=True, indent=1)
        await self._objects.put(record_key(video.video_id), body.encode(), "application/json")

    async def load(self, key: str) -> media_pb2.Video | None:
        """The record under a key of `keys`; None for one that is gone or is no record (logged)."""
        # JuiceFS' gateway cuts the new record at the length of the old one for who reads while it is written.
        for again in (True, False):
            body = await self._objects.get(key)
            if body is None:
                return None
            try:
                # A newer release may have added fields; an older one must still be able to rebuild.
                return json_format.Parse(body, media_pb2.Video(), ignore_unknown_fields=True)
            except (json_format.ParseError, UnicodeDecodeError) as error:
                if not again:
                    log.error("unreadable record", key=key, error=str(error))
        return None

    async def keys(self) -> AsyncIterator[str]:
        """The key of every record there is."""
        async for info in self._objects.list(RECORDS):
            if info.key.endswith(".json"):
                yield info.key
