"""Which video, by its number, in dialects 001 and 002."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator


def parse_number(text: str) -> int:
    """The number that a client wrote; 0, which no video has, for anything else."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


class NumberPath(BaseModel):
    """Which video."""

    # What is no number is no video's: 404, as for every other unknown one.
    video_id: Annotated[int, BeforeValidator(parse_number)]


class VideoId(BaseModel):
    """A new video."""

    video_id: int
