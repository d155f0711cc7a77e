"""An HTTP relay in front of a server that loses, refuses or ignores requests, as told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Literal

import aiohttp
from aiohttp import web

from tests.support.http_server import serving

Fault = Literal["cut", "lost", "hang", "pass"] | int
"""Cut off unseen; taken, but the answer is lost; never answered; passed on after all; or answered with this status."""
_OF_THE_CONNECTION = {"host", "connection", "content-length", "transfer-encoding", "date", "server"}


class Relay:
    """Passes requests on to one server, unless it was told otherwise.

    Attributes:
        url: where it listens.
        seen: when which request came, as `PATCH /path`, preflights left out.
        retry_after: what answers that are a status say about it.
    """

    def __init__(self, target: str, client: aiohttp.ClientSession) -> None:
        self._target, self._client = target, client
        self._faults: dict[str, Iterator[Fault]] = {}
        self.url = ""
        self.seen: list[tuple[float, str]] = []
        self.retry_after = ""

    def fail(self, what: str, faults: Iterable[Fault]) -> None:
        """What becomes of the next requests whose `PATCH /path` has `what` in it, one after the other."""
        self._faults[what] = iter(faults)

    def times(self, what: str) -> list[float]:
        """When such requests came."""
        return [moment for moment, request in self.seen if what in request]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        fault: Fault = "pass"
        if request.method != "OPTIONS":
            name = f"{request.method} {request.path}"
            self.seen.append((time.monotonic(), name))
            fault = next((next(faults, "pass") for what, faults in self._faults.items() if what in name), "pass")
        if fault == "hang":
            await asyncio.Event().wait()
        body = await request.read()
        if isinstance(fault, int):
            return web.Response(status=fault, text="told to", headers=self._headers_of_a_refusal())
        answer = web.Response()
        if fault != "cut":
            headers = {name: value for name, value in request.headers.items() if name.lower() not in _OF_THE_CONNECTION}
            async with self._client.request(
                request.method, self._target + request.raw_path, data=body or None, headers=headers
            ) as passed:
                answer = web.Response(status=passed.status, body=await passed.read())
                answer.headers.update({k: v for k, v in passed.headers.items() if k.lower() not in _OF_THE_CONNECTION})
        if fault in ("cut", "lost"):
            assert request.transport is not None
            request.transport.abort()
        # A browser sends again by itself what fails on a connection that was used before.
        answer.force_close()
        return answer

    def _headers_of_a_refusal(self) -> dict[str, str]:
        headers = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Retry-After"}
        return headers | ({"Retry-After": self.retry_after} if self.retry_after else {})


@contextlib.asynccontextmanager
async def relay_to(target: str) -> AsyncIterator[Relay]:
    """A relay in front of the server at `target`."""
    async with aiohttp.ClientSession(auto_decompress=False) as client:
        relay = Relay(target, client)
        async with serving(relay.handle) as port:
            relay.url = f"http://127.0.0.1:{port}"
            yield relay
