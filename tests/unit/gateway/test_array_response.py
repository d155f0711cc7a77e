"""A list of any length, over a real connection: one array, or a connection that breaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

import pytest
from aiohttp import ClientPayloadError, ClientSession, web

from gateway.array_response import array_response
from tests.support.http_server import serving, wire

Row = dict[str, object]


def listing(pages: Sequence[Sequence[Row] | Exception]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Answers with these pages; an exception in their place is raised there."""

    async def produced() -> AsyncGenerator[list[Row], None]:
        for page in pages:
            if isinstance(page, Exception):
                raise page
            yield list(page)

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await array_response(request, produced())
        except LookupError:
            return web.Response(status=404)

    return answer


async def listed(pages: Sequence[Sequence[Row] | Exception]) -> tuple[int, bytes]:
    """Status and body of the answer with these pages."""
    async with (
        serving(listing(pages)) as port,
        ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}/") as response,
    ):
        return response.status, await response.read()


ROWS: list[Row] = [{"id": number, "title": f'"{number}", [x]'} for number in range(5)]


@pytest.mark.parametrize(
    "pages",
    [
        [[]],
        [ROWS],
        [ROWS[:2], ROWS[2:]],
        [ROWS[:1], [], ROWS[1:3], ROWS[3:]],
        [[], ROWS],
        [ROWS, []],
        [[], [], []],
    ],
)
async def test_pages_are_one_array(pages: list[list[Row]]) -> None:
    status, body = await listed(pages)
    assert (status, json.loads(body)) == (200, [row for page in pages for row in page])


@pytest.mark.parametrize("pages", [[ROWS], [ROWS, ROWS, ROWS]])
async def test_head_has_no_body(pages: list[list[Row]]) -> None:
    """On one connection a body would be taken for the next answer."""
    async with serving(listing(pages)) as port, wire(port) as connection:
        for _ in range(2):
            assert (await connection.ask("HEAD")).status == 200


@pytest.mark.parametrize("pages", [[LookupError()], [ROWS, LookupError()]])
async def test_what_fails_at_the_beginning_is_an_ordinary_refusal(pages: list[list[Row] | Exception]) -> None:
    assert await listed(pages) == (404, b"")


async def test_what_fails_behind_it_is_no_shorter_list() -> None:
    """The status is out: a client must not take what came so far for all that there is."""
    async with asyncio.timeout(10):
        with pytest.raises(ClientPayloadError):
            await listed([ROWS, ROWS, LookupError()])
