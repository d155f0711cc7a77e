"""Who is let go where many clients do not take their answers: the slowest, and nobody before he must."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest

from gateway import unread_answers
from gateway.unread_answers import HOLDS, UnreadAnswers


def clients(count: int) -> list[Mock]:
    return [Mock(asyncio.Transport) for _ in range(count)]


def gone(those: list[Mock]) -> list[bool]:
    return [transport.abort.called for transport in those]


async def test_up_to_half_of_the_room_everybody_may_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unread_answers, "SLOW_SECONDS", 0)
    answers, those = UnreadAnswers(4 * HOLDS), clients(3)
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
