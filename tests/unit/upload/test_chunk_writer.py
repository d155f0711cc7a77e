"""A chunk is in memory once while it is stored: what an append may hold is counted so."""

import tracemalloc
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from services.common.byte_messages import Buffer
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.upload.buffers import Buffers
from services.upload.chunk_writer import Checksums, ChunkWriter, Largest
from services.upload.part_plan import MIB, PART


class Store:
    """Says how much memory there is in use when it is given an object."""

    def __init__(self) -> None:
        self.traced = 0
        self.stored = b""

    async def put(
        self, key: str, content_type: str, length: int, body: Callable[[], AsyncIterator[Buffer]] | Buffer
    ) -> str:
        self.traced, _ = tracemalloc.get_traced_memory()
        self.stored = b"".join([piece async for piece in body()]) if callable(body) else bytes(body)
        assert len(self.stored) == length
        return '"etag"'


async def arriving(sizes: Sequence[int]) -> AsyncIterator[memoryview]:
    for number, size in enumerate(sizes):
        yield memoryview(bytes([number]) * size)


@pytest.mark.parametrize("sizes", [[4 * MIB], [MIB] * 6, [4 * MIB, 3 * MIB]])
@pytest.mark.parametrize("known", [True, False])
async def test_a_chunk_is_kept_once(sizes: list[int], known: bool) -> None:
    data, size = Store(), sum(sizes)
    objects: Any = None
    store: Any = data
    largest = Largest(size, ReelwayError(ErrorReason.CHUNK_TOO_LARGE))
    tracemalloc.start()
    try:
        written = await ChunkWriter(objects, store).write(
            "key", arriving(sizes), size if known else 0, largest, Checksums(), room=Buffers(PART).reserve(size)
        )
    finally:
        tracemalloc.stop()
    assert (written.length, written.etag) == (size, '"etag"')
    assert data.stored == b"".join([bytes([number]) * each for number, each in enumerate(sizes)])
    assert data.traced < size + MIB
