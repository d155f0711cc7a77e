"""Files in a job's folder, written in threads: a slow disk holds up the job, not the worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from services.common.byte_messages import Buffer


@contextlib.asynccontextmanager
async def new_file(path: Path) -> AsyncIterator[BinaryIO]:
    """A file that was not there before, open for writing; what is done with it is for threads, too."""
    file = await asyncio.to_thread(path.open, "xb")
    try:
        yield file
    finally:
        await asyncio.to_thread(file.close)


async def write_new(path: Path, pieces: AsyncIterator[Buffer]) -> None:
    """A new file of these bytes; what `pieces` raises comes out."""
    async with new_file(path) as file:
        async for piece in pieces:
            await asyncio.to_thread(file.write, piece)
