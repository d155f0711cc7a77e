"""Where a request says that it came to: checked before an answer repeats it."""

from __future__ import annotations

import ipaddress
import re

from aiohttp import hdrs, web

# Stricter than URLs (RFC 3986, 3.2.2): names as in DNS and among containers, so that no browser reads another host in
# what a caller sent; and no user, which yarl would accept.
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{0,5}))?")
_LARGEST_PORT = 65_535


def check_host(request: web.Request) -> None:
    """Refuse a Host that is none (RFC 9112, section 3.2); that there is one in HTTP/1.1 aiohttp sees to.

    Raises:
        web.HTTPBadRequest: there is no such host.
    """
    if (host := request.headers.get(hdrs.HOST)) is not None:
        _check(host)


def origin_of(request: web.Request) -> str:
    """Scheme, host and port that the client asked for, which its target may name, too (RFC 9112, section 3.2.2).

    Raises:
        web.HTTPBadRequest: there is no such host.
    """
    origin = request.url.origin()
    _check(origin.raw_authority)
    return str(origin)


def _check(authority: str) -> None:
    found = _AUTHORITY.fullmatch(authority)
    try:
        if found is None or int(found[2] or 0) > _LARGEST_PORT:
            raise ValueError
        if found[1]:
            ipaddress.IPv6Address(found[1])
    except ValueError:
        raise web.HTTPBadRequest(reason="The Host is not valid") from None
