"""Sockets for clients whose HTTP library counts no time while a body is written."""

from __future__ import annotations

import socket

import aiohttp


def impatient_socket(address: aiohttp.AddrInfoType, seconds: float) -> socket.socket:
    """One whose connection the kernel ends where the store takes nothing for so long.

    Without it, whoever writes to a frozen store would wait for ever.
    """
    made = socket.socket(*address[:3])
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
    return made
