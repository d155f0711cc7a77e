"""Signed uploads: the client sends its file to the store itself, with a form that lets it do just that."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from reelway.v1 import media_pb2

from services.common.caller import current_caller
from services.common.catalog_client import CatalogClient
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.object_keys import incoming_key
from services.common.s3_objects import S3Objects
from services.upload.signatures import Signatures

_FILE_NAME = re.compile(r"[a-zA-Z0-9!@_*'()-][a-zA-Z0-9!@_.*'()-]{0,254}")


@dataclass(frozen=True)
class SignedUpload:
    """An S3 POST policy."""

    video_id: str
    url: str
    fields: dict[str, str]


class Signing:
    """Signs forms, and records the videos that they promise."""

    def __init__(
        self,
        objects: S3Objects,
        catalog: CatalogClient,
        signatures: Signatures,
        *,
        max_bytes: int,
        content_types: Sequence[str],
        seconds: int,
    ) -> None:
        self._objects, self._catalog, self._signatures, self._seconds = objects, catalog, signatures, seconds
        self.max_bytes, self.content_types = max_bytes, tuple(content_types)

    async def sign(self, file_name: str, content_type: str) -> SignedUpload:
        """A form for one file of the calling user.

        Raises:
            ReelwayError: UNAUTHENTICATED, INVALID_FILE_NAME, UNSUPPORTED_TYPE, TOO_MANY_UPLOADS, STORE_UNAVAILABLE.
        """
        owner = current_caller().user
        if not owner:
            raise ReelwayError(ErrorReason.UNAUTHENTICATED)
        if not _FILE_NAME.fullmatch(file_name):
            raise ReelwayError(ErrorReason.INVALID_FILE_NAME)
        if content_type not in self.content_types:
            raise ReelwayError(ErrorReason.UNSUPPORTED_TYPE)
        video_id = str(uuid.uuid4())
        try:
            await self._signatures.enter(video_id, owner)
            # The record first: what arrives without one belongs to nobody, and is thrown away.
            await self._catalog.create(
                media_pb2.Video(video_id=video_id, state=media_pb2.VIDEO_STATE_SIGNED, file_name=file_name)
            )
        except ReelwayError:
            # A client that tries again while Redis or the catalog is away must not use up its places for a day. One
            # that leaves meanwhile does: its record may be there.
            await self._signatures.leave(video_id, owner)
            raise
        url, fields = await self._objects.presign_post(
            incoming_key(video_id), content_type, self.max_bytes, self._seconds
        )
        return SignedUpload(video_id, url, fields)
