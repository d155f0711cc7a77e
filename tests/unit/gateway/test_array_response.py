"""A list of any length, over a real connection: one array, or a connection that breaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence

import pytest
from aiohttp import ClientPayloadError, ClientSession, web
from structlog.testing import capture_logs

from gateway import array_response as module
from gateway.array_response import array_response
from gateway.broken_off import BROKEN_OFF
from tests.support.http_server import serving, wire
from tests.support.waiting import until

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
        assert response.status != 200 or response.content_type == "application/json"
        return response.status, await response.read()


ROWS: list[Row] = [{"id": number, "title": f'"{number}", [x], \U0001f600'} for number in range(5)]
LONG: list[Row] = [{"title": "x" * 2**16}]  # a piece of its own


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
        [LONG, ROWS, [*LONG, *LONG], [], ROWS],
        [ROWS, LONG],
    ],
)
async def test_pages_are_one_array(pages: list[list[Row]]) -> None:
    status, body = await listed(pages)
    assert (status, json.loads(body)) == (200, [row for page in pages for row in page])


@pytest.mark.parametrize("pages", [[ROWS], [LONG, LONG, LONG]])
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
            await listed([LONG, LONG, LookupError()])


async def outcome_of(pages: Callable[[web.Request], AsyncGenerator[Iterable[Row], None]], *, reads: bool = True) -> int:
    """How the answer ended, as it is logged; 0: whole."""
    ended: list[int] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await array_response(request, pages(request))
        finally:
            ended.append(request.get(BROKEN_OFF, 0))

    async with serving(answer) as port, wire(port) as connection:
        if not reads:
            connection.stop_reading()
        await connection.send("GET")
        await until(lambda: bool(ended))
    return ended[0]


async def test_a_client_is_not_given_up_for_the_time_that_a_page_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_TIMEOUT_S", 0.1)

    async def slow(_: web.Request) -> AsyncGenerator[list[Row], None]:
        yield LONG
        yield LONG
        yield LONG
        await asyncio.sleep(0.3)
        yield LONG

    assert await outcome_of(slow) == 0


async def test_a_client_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_TIMEOUT_S", 0.1)

    async def endless(_: web.Request) -> AsyncGenerator[list[Row], None]:
        while True:
            yield [{"title": "x" * 2**20}]

    assert await outcome_of(endless, reads=False) == 499


async def test_of_a_page_no_more_is_made_than_the_client_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page in JSON is several times what the catalogue sends: some fifty clients would fill a gateway."""
    monkeypatch.setattr(module, "WRITE_TIMEOUT_S", 0.1)
    made = 0

    def rows() -> Iterator[Row]:
        nonlocal made
        while made < 1000:
            made += 1
            yield {"title": "x" * 2**16}

    async def page(_: web.Request) -> AsyncGenerator[Iterable[Row], None]:
        yield rows()

    assert await outcome_of(page, reads=False) == 499
    assert made < 500  # the sockets' buffers take some


async def test_a_client_who_leaves_between_two_pages_is_no_failure() -> None:
    async def pages(request: web.Request) -> AsyncGenerator[list[Row], None]:
        for _ in range(3):
            yield LONG
        assert request.transport is not None
        request.transport.abort()  # as it does itself when it meets a peer that is gone
        yield LONG

    with capture_logs() as logs:
        assert await outcome_of(pages) == 499
    assert "error" not in [entry["log_level"] for entry in logs]
