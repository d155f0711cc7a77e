"""The parts of a large file that tell what it is: its two ends, where containers keep their indexes, and a third in.

What is between them is left out: the file that is written has the object's size, and holes. So a video of any size is
described at the cost of a small one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from services.common.s3_bytes import S3Bytes
from services.ffmpeg.worker.new_file import new_file

_PARTS = 3


def excerpt_ranges(size: int, most_bytes: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of each part, in order, at most `most_bytes` together; of a file that has more bytes."""
    part = most_bytes // _PARTS
    # Little of what is before a third, for the picture is the first whole one from there on.
    middle = size // 3 - part // 4
    yield 0, part
    start = max(part, middle)
    end = min(middle + part, size - part)
    if start < end:
        yield start, end - start
    yield size - part, part


async def fetch_excerpt(data: S3Bytes, key: str, size: int, path: Path, most_bytes: int) -> None:
    """Write the parts of an object into a new file of its size."""
    async with new_file(path) as file:
        await asyncio.to_thread(file.truncate, size)
        for offset, length in excerpt_ranges(size, most_bytes):
            await asyncio.to_thread(file.seek, offset)
            async for chunk in data.read(key, offset, length):
                await asyncio.to_thread(file.write, chunk)
