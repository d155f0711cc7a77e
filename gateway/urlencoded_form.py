"""Reads an application/x-www-form-urlencoded body (WHATWG URL, section 5.1).

The standard library takes half a second for a MiB of escapes, in which nobody else has a turn, and no values that are
not text.
"""

from __future__ import annotations

import asyncio
from urllib.parse import unquote_to_bytes

from gateway.invalid_request import InvalidRequestError

URLENCODED_TYPE = "application/x-www-form-urlencoded"
# While it decodes, the standard library takes some eighty bytes of memory for each escape.
_SLICE = 2**16
_MOST_FIELDS = 1000


async def urlencoded_fields(whole: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values, in their order.

    Raises:
        InvalidRequestError: there are more than 1000, as in bytes that are no form: curl, too, gives those this type.
    """
    if whole.count(b"&") >= _MOST_FIELDS:
        raise InvalidRequestError.at("body", msg="The form has too many fields", kind="form_invalid")
    pairs = [pair.partition(b"=") for pair in whole.split(b"&") if pair]
    return [(await _decoded(name), await _decoded(value)) for name, _, value in pairs]


async def _decoded(quoted: bytes) -> bytes:
    """In slices, so that what they cost in between is bounded, and others get their turn."""
    decoded: list[bytes] = []
    start = 0
    while start < len(quoted):
        await asyncio.sleep(0)
        end = start + _SLICE
        # No escape is cut in two.
        if (escape := quoted.find(b"%", end - 2, end)) >= 0:
            end = escape
        decoded.append(unquote_to_bytes(quoted[start:end].replace(b"+", b" ")))
        start = end
    return b"".join(decoded)
