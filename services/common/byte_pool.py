"""A number of bytes that many may hold together."""

from __future__ import annotations

from prometheus_client import Gauge


class BytePool:
    """`most_bytes`, and a gauge that tells how many of them are taken."""

    def __init__(self, most_bytes: int, taken: Gauge) -> None:
        self._free, self._taken = most_bytes, taken

    def take(self, size: int, *, leaving: int = 0) -> bool:
        """Take so many bytes if as many as `leaving` are left then; False: nothing was taken."""
        if size > self._free - leaving:
            return False
        self._free -= size
        self._taken.inc(size)
        return True

    def give_back(self, size: int) -> None:
        """So many that were taken are free again."""
        self._free += size
        self._taken.dec(size)
