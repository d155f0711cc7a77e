"""A PieceStore in a folder, for transcriptions without a store."""

from __future__ import annotations

import contextlib
from pathlib import Path

from services.ffmpeg.transcription.words import Piece


class FolderPieces:
    """One file a piece."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def load(self) -> list[Piece]:
        """All that were saved."""
        pieces = []
        for path in self._folder.glob("*.json"):
            with contextlib.suppress(ValueError):
                pieces.append(Piece.from_json(path.read_bytes()))
        return pieces

    async def save(self, piece: Piece) -> None:
        """Written whole, by a rename."""
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f"{piece.name}.tmp"
        temporary.write_text(piece.to_json())
        temporary.rename(self._folder / f"{piece.name}.json")
