"""A DNS server on loopback that answers as a headless Service does: with the address of each ready pod."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import cast

_A, _IN = 1, 1


class HeadlessNames(asyncio.DatagramProtocol):
    """Answers A queries for any name with `addresses`, which a test may change at any time."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self.addresses = list(addresses)
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio once the socket is there."""
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """One query (RFC 1035, 4.1): its header and question come back, with the answers behind."""
        assert self._transport is not None
        question = 12
        while data[question]:
            question += data[question] + 1
        question += 5  # the root label, type, class
        (kind,) = struct.unpack_from("!H", data, question - 4)
        addresses = self.addresses if kind == _A else []  # no AAAA: an empty answer
        header = struct.pack("!HHHHHH", struct.unpack_from("!H", data)[0], 0x8580, 1, len(addresses), 0, 0)
        answers = b"".join(
            # The name by a pointer to the question, no time to live.
            struct.pack("!HHHIH", 0xC00C, _A, _IN, 0, 4) + socket.inet_aton(address)
            for address in addresses
        )
        self._transport.sendto(header + data[12:question] + answers, addr)


@asynccontextmanager
async def headless_names(*addresses: str) -> AsyncIterator[HeadlessNames]:
    """A running server on a free port of 127.0.0.1."""
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(
        lambda: HeadlessNames(addresses), local_addr=("127.0.0.1", 0)
    )
    try:
        yield names
    finally:
        transport.close()
