"""The memory of all answers whose clients do not take them, under one bound.

Each connection is bounded, and let go after two minutes (see `broken_off`); a thousand of them within that time would
take all memory of a process, and with it the connections of everybody. So the slowest are let go sooner where there
are many. A player asks for the rest with a new Range request; whoever reads is not among them.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import OrderedDict

from prometheus_client import Gauge

from services.common import logs
from services.common.byte_pool import BytePool

log = logs.get_logger(__name__)

HOLDS = 3 * 2**20
"""Bytes of such a connection: its windows at first, what is written at once, and up to 1 MiB in the kernel.

Measured where 400 and 800 come at once, for a video that is in no cache: 2.5 and 2.3 MiB each. The rest is for uploads
and held bodies.
"""
SLOW_SECONDS = 60.0
"""Who has not taken within so long what was written at once reads less than 17 KiB/s."""

_NOT_AT_ALL = struct.pack("ii", 1, 0)
_UNREAD = Gauge("reelway_unread_answer_bytes", "Bytes that answers may hold whose clients do not take them")


class UnreadAnswers:
    """The connections of a process on which more was written than their clients have taken."""

    def __init__(self, most_bytes: int) -> None:
        self._room = BytePool(most_bytes, _UNREAD)
        self._for_slow = most_bytes // 2
        self._since = OrderedDict[asyncio.Transport, float]()

    def begin(self, transport: asyncio.Transport) -> None:
        """What was written is not all taken.

        Where all of this takes more than half of the bound, the slowest one is let go, if it is slow; where it takes
        the whole, in any case.
        """
        now = asyncio.get_running_loop().time()
        while not self._room.take(HOLDS, leaving=self._for_slow):
            slowest, since = next(iter(self._since.items()))
            if now - since < SLOW_SECONDS and self._room.take(HOLDS):
                break
            log.info("client too slow, where many are", seconds=round(now - since, 1))
            # Drop its last bytes, too, which the kernel would keep for two minutes.
            slowest.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOT_AT_ALL)
            slowest.abort()
            self.end(slowest)
        self._since[transport] = now

    def end(self, transport: asyncio.Transport) -> None:
        """It is taken, or the connection has gone."""
        if self._since.pop(transport, None) is not None:
            self._room.give_back(HOLDS)
