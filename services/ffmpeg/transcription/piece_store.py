"""Pieces that were heard, kept until the transcript is whole, so that a retry goes on where an attempt died."""

from __future__ import annotations

import contextlib
from typing import Protocol

from services.common.object_keys import transcript_prefix
from services.common.s3_objects import S3Objects
from services.ffmpeg.transcription.words import Piece


class PieceStore(Protocol):
    """The pieces of one transcript. Saving the same piece again replaces it."""

    async def load(self) -> list[Piece]:
        """All that were saved, in any order; what can't be read is left out and heard again."""
        ...

    async def save(self, piece: Piece) -> None:
        """Durable once this returns."""
        ...


class S3Pieces:
    """One object a piece: `transcripts/{video_id}/pieces/{key}/{start}-{end}.json`."""

    def __init__(self, objects: S3Objects, video_id: str, key: str) -> None:
        self._objects = objects
        self._prefix = f"{transcript_prefix(video_id)}pieces/{key}/"

    async def load(self) -> list[Piece]:
        """All that were saved."""
        pieces = []
        async for info in self._objects.list(self._prefix):
            body = await self._objects.get(info.key)
            with contextlib.suppress(ValueError):
                pieces.append(Piece.from_json(body or b""))
        return pieces

    async def save(self, piece: Piece) -> None:
        """One PUT."""
        await self._objects.put(f"{self._prefix}{piece.name}.json", piece.to_json().encode(), "application/json")

    async def clear(self) -> None:
        """Delete the objects."""
        await self._objects.delete_all(self._prefix)
