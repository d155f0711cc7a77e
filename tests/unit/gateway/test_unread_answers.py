"""Who is let go where many clients do not take their answers: the slowest, and nobody before he must."""

from __future__ import annotations

import asyncio
import socket
from unittest.mock import Mock

import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from gateway import unread_answers
from gateway.unread_answers import HOLDS, UnreadAnswers
from tests.support.http_server import serving, wire
from tests.support.waiting import until


def clients(count: int) -> list[Mock]:
    return [Mock(asyncio.Transport) for _ in range(count)]


def gone(those: list[Mock]) -> list[bool]:
    return [transport.abort.called for transport in those]


async def test_up_to_half_of_the_room_everybody_may_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unread_answers, "SLOW_SECONDS", 0)
    answers, those = UnreadAnswers(5 * HOLDS), clients(3)
    answers.begin(those[0])
    answers.begin(those[1])
    assert gone(those) == [False] * 3
    answers.begin(those[2])
    assert gone(those) == [True, False, False]


async def test_beyond_half_of_it_nobody_is_let_go_who_has_only_begun_to_be_slow() -> None:
    answers, those = UnreadAnswers(4 * HOLDS), clients(5)
    for transport in those[:4]:
        answers.begin(transport)
    assert gone(those) == [False] * 5
    answers.begin(those[4])
    assert gone(those) == [True, False, False, False, False]


async def test_whoever_takes_what_was_written_is_behind_all_others() -> None:
    answers, those = UnreadAnswers(2 * HOLDS), clients(3)
    answers.begin(those[0])
    answers.begin(those[1])
    answers.end(those[0])
    answers.begin(those[0])
    answers.begin(those[2])
    assert gone(those) == [False, True, False]


async def test_whoever_goes_makes_room() -> None:
    answers, those = UnreadAnswers(2 * HOLDS), clients(3)
    for transport in those:
        answers.begin(transport)
        answers.end(transport)
        answers.end(transport)
    assert gone(those) == [False] * 3


def told() -> float:
    return (REGISTRY.get_sample_value("reelway_unread_answer_bytes") or 0) / HOLDS


async def test_whoever_takes_all_of_an_answer_holds_nothing_while_he_stays() -> None:
    async def large(request: web.Request) -> web.Response:
        return web.Response(body=bytes(2**23))

    before = told()
    async with asyncio.timeout(30), serving(large) as port, wire(port) as viewer:
        for _ in range(2):
            await viewer.send("GET")
            await until(lambda: told() - before == 1)
            await viewer.head()
            await viewer.reader.readexactly(2**23)
            await until(lambda: told() == before)


async def test_where_answers_that_nobody_takes_have_no_room_the_one_that_waits_longest_is_let_go() -> None:
    ended = []

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        assert request.transport is not None
        peer = request.transport.get_extra_info("peername")
        try:
            while True:
                await answer.write(bytes(2**19))
        finally:
            ended.append(peer)

    before = told()

    def held() -> float:
        return told() - before

    def client() -> socket.socket:
        """One who has asked, and takes nothing."""
        made = socket.create_connection(("127.0.0.1", port), timeout=5)
        made.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        return made

    async with asyncio.timeout(30), serving(endless, unread_bytes=2 * HOLDS) as port:
        first = client()
        await until(lambda: held() == 1)
        others = [client(), client()]
        await until(lambda: ended == [first.getsockname()])
        assert held() == 2
        with pytest.raises(ConnectionResetError):
            while first.recv(2**20):
                pass  # what the kernel had sent already
        for each in (first, *others):
            each.close()
        await until(lambda: held() == 0)
