"""Blocks of sealed videos that are read again and again, in memory.

A block is kept from its second reading on: one pass over a long video must not push out what many viewers
watch. Who may read is decided before, on every request; a block's key has the entity tag in it, so that it can
never be stale.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from services.common.bounded_cache import BoundedCache
from services.common.tasks import SingleFlight

BLOCK = 2**20
"""Bytes a block, but for a video's last one."""
_REMEMBERED = 16
"""How many times the cache's own number of blocks are remembered as read once."""


class BlockKey(NamedTuple):
    """Which block of which bytes."""

    video_id: str
    etag: str
    number: int


class BlockCache:
    """Least recently used blocks within a limit of bytes; concurrent loads of one block are one."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._blocks: OrderedDict[BlockKey, bytes] = OrderedDict()
        self._size = 0
        self._once = BoundedCache[BlockKey, None](_REMEMBERED * (limit_bytes // BLOCK))
        self._loading = SingleFlight[BlockKey, bytes]()

    def get(self, key: BlockKey) -> bytes | None:
        """The block, if it is here."""
        block = self._blocks.get(key)
        if block is not None:
            self._blocks.move_to_end(key)
        return block

    def first_within(self, video_id: str, etag: str, numbers: range) -> int | None:
        """The least of these numbers whose block is here; looks at the numbers or at the cache, whichever are fewer."""
        if len(numbers) < len(self._blocks):
            return next((number for number in numbers if BlockKey(video_id, etag, number) in self._blocks), None)
        here = (key.number for key in self._blocks if (key.video_id, key.etag) == (video_id, etag))
        return min((number for number in here if number in numbers), default=None)

    def is_wanted(self, key: BlockKey) -> bool:
        """Whether the block was read before, and there is room for one at all; notes this reading."""
        if key in self._once:
            return True
        self._once[key] = None
        return False

    def put(self, key: BlockKey, block: bytes) -> None:
        """Keep a block, dropping others as needed."""
        old = self._blocks.pop(key, None)
        self._size += len(block) - (len(old) if old is not None else 0)
        self._blocks[key] = block
        while self._size > self._limit:
            _, dropped = self._blocks.popitem(last=False)
            self._size -= len(dropped)

    async def load(self, key: BlockKey, fetch: Callable[[], Awaitable[bytes]]) -> bytes:
        """Fetch a block that is not here, and keep it; one fetch serves everybody who waits for it."""
        return await self._loading.run(key, lambda: self._fetch(key, fetch))

    async def _fetch(self, key: BlockKey, fetch: Callable[[], Awaitable[bytes]]) -> bytes:
        block = await fetch()
        self.put(key, block)
        return block
