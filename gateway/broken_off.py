"""Answers that are broken off: their status is out, and a closed connection alone tells that bytes are missing.

A viewer that stops reading keeps memory and a connection, so it is let go after `WRITE_TIMEOUT_S`. A paused player
stops reading, too: browsers and players then ask for the rest with a new Range request, which is why nginx gets along
with 60 s between two writes. We allow twice that.
"""

from __future__ import annotations

from aiohttp import web

#: Seconds that a client may take for what is written at once.
WRITE_TIMEOUT_S = 120.0
#: The request's item that says, as a status, how an answer ended whose own status was out before.
BROKEN_OFF = web.RequestKey("broken_off", int)
VIEWER_LEFT, FAILED = 499, 500


def break_off(request: web.Request, outcome: int) -> None:
    """End an answer whose status is out; `outcome` is the status that the log gets."""
    request[BROKEN_OFF] = outcome
    if request.transport is not None:
        request.transport.abort()
