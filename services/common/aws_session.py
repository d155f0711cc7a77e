"""Sessions of the AWS SDK."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession, get_session
from botocore.loaders import create_loader

LOADER = create_loader()
"""Reads the SDK's descriptions of S3 and of AWS's endpoints, once a process: measured, a client with a loader of its
own costs 80 ms of CPU, seven times as much."""


class HttpSession(AIOHTTPSession):  # type: ignore[misc]
    """Follows no redirect, as from http to https, where ranges could not follow: the store would pass for ready."""

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        return SimpleNamespace(request=partial(session.request, allow_redirects=False))


def new_session() -> AioSession:
    """A session with settings and credentials of its own."""
    session = get_session()
    session.register_component("data_loader", LOADER)
    return session
