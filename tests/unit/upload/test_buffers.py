"""One bound for all uploads under way: nobody gets over it, what was taken comes back, and who is in gets ahead."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator
from unittest.mock import Mock

import pytest
from prometheus_client import REGISTRY

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.upload.buffers import Buffers
from services.upload.part_plan import IN_FLIGHT, MIB, MOST_HELD, PART
from tests.support.journal_client import refusal


def room_in(buffers: Buffers, size: int) -> bool:
    """Whether an upload of so many bytes would be taken now."""
    try:
        with buffers.reserve(size):
            return True
    except ReelwayError as error:
        assert error.reason is ErrorReason.TOO_MANY_REQUESTS
        return False


def parts_left(buffers: Buffers) -> int:
    """How many more uploads would be taken now."""
    with contextlib.ExitStack() as taken:
        for count in itertools.count():
            try:
                taken.enter_context(buffers.reserve(None))
            except ReelwayError:
                return count
    raise AssertionError


@pytest.mark.parametrize(
    ("size", "held"),
    [(0, 0), (1, 1), (MIB, MIB), (PART, PART), (PART + 1, PART), (2**62, PART)],
)
def test_an_upload_takes_its_size_up_to_a_part_s(size: int, held: int) -> None:
    buffers = Buffers(PART)
    with buffers.reserve(size):
        assert room_in(buffers, PART - held)
        assert not held or not room_in(buffers, PART - held + 1)
    assert room_in(buffers, PART)


def test_what_is_reserved_is_told_to_an_operator() -> None:
    def told() -> float:
        return REGISTRY.get_sample_value("reelway_upload_buffer_bytes") or 0

    before, buffers = told(), Buffers(MOST_HELD)
    with buffers.reserve(5), buffers.reserve(10), buffers.reserve(PART), buffers.reserve(PART):
        with pytest.raises(ReelwayError):
            buffers.reserve(PART)
        assert told() == before + 2 * PART + 15
    assert told() == before


def test_an_upload_of_unknown_size_takes_a_part() -> None:
    buffers = Buffers(PART + 5)
    with buffers.reserve(None):
        assert room_in(buffers, 5)
        assert not room_in(buffers, 6)


def test_a_negative_size_makes_no_room() -> None:
    buffers = Buffers(PART)
    with buffers.reserve(-5), buffers.reserve(PART):
        assert not room_in(buffers, 1)


def test_a_refusal_takes_nothing() -> None:
    buffers = Buffers(PART)
    with buffers.reserve(PART - 10):
        for _ in range(3):
            assert not room_in(buffers, 11)
        assert room_in(buffers, 10)


def test_an_exception_gives_back_and_comes_out() -> None:
    buffers = Buffers(PART)
    with pytest.raises(ZeroDivisionError), buffers.reserve(None):
        raise ZeroDivisionError
    assert room_in(buffers, PART)


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(MIB)


async def test_what_comes_beyond_a_client_s_word_takes_more() -> None:
    buffers = Buffers(2 * PART)
    with buffers.reserve(MIB) as reserved, buffers.reserve(PART - MIB):
        count = 0
        async for _ in reserved.counted(pieces(20)):
            count += 1
            left = max(MIB, PART + MIB - count * MIB)
            assert room_in(buffers, left)
            assert not room_in(buffers, left + 1) or left >= PART
        assert count == 20
    assert room_in(buffers, PART)


async def test_what_comes_beyond_a_client_s_word_is_refused_where_there_is_no_room() -> None:
    buffers = Buffers(PART)
    with buffers.reserve(PART - 2 * MIB):
        passed = 0
        with pytest.raises(ReelwayError) as refused, buffers.reserve(MIB) as reserved:
            async for piece in reserved.counted(pieces(50)):
                passed += len(piece)
        assert refused.value.reason is ErrorReason.TOO_MANY_REQUESTS
        assert passed == 2 * MIB
        assert room_in(buffers, 2 * MIB), "it has given back what it had"


async def waits(begun: asyncio.Task[None]) -> bool:
    """Whether it does, after everything else had its turn."""
    for _ in range(5):
        await asyncio.sleep(0)
    return not begun.done()


async def test_parts_beside_the_first_take_room_while_they_are_kept() -> None:
    buffers = Buffers(6 * PART)
    with buffers.reserve(None) as room:
        for held in range(1, IN_FLIGHT + 1):
            await room.begin_part()
            assert parts_left(buffers) == 6 - held
        for held in reversed(range(1, IN_FLIGHT)):
            room.end_part()
            assert parts_left(buffers) == 6 - held
    assert parts_left(buffers) == 6


async def test_a_part_that_ends_behind_its_upload_makes_no_room_twice() -> None:
    buffers = Buffers(6 * PART)
    with buffers.reserve(None) as room:
        for _ in range(IN_FLIGHT):
            await room.begin_part()
    for _ in range(IN_FLIGHT):
        room.end_part()
    assert parts_left(buffers) == 6
    assert not buffers._reservations


async def test_no_upload_keeps_more_parts_than_three() -> None:
    buffers = Buffers(9 * PART)
    with buffers.reserve(None) as room:
        for _ in range(IN_FLIGHT):
            await room.begin_part()
        fourth = asyncio.create_task(room.begin_part())
        assert await waits(fourth)
        room.end_part()
        await fourth
        assert parts_left(buffers) == 9 - IN_FLIGHT


async def test_a_second_part_waits_for_what_another_upload_gives_back() -> None:
    buffers = Buffers(5 * PART)
    with buffers.reserve(None) as room:
        await room.begin_part()
        with buffers.reserve(None):
            second = asyncio.create_task(room.begin_part())
            assert await waits(second)
            assert parts_left(buffers) == 3, "half of it is for those who come"
        await second
        assert parts_left(buffers) == 3
    assert parts_left(buffers) == 5


async def test_an_upload_gets_ahead_part_by_part_where_nobody_gives_anything_back() -> None:
    buffers = Buffers(2 * PART)
    with buffers.reserve(None) as room, buffers.reserve(None):
        for _ in range(5):
            await room.begin_part()
            following = asyncio.create_task(room.begin_part())
            assert await waits(following)
            room.end_part()
            await following
            room.end_part()
    assert parts_left(buffers) == 2


async def test_what_waited_for_a_part_and_is_cancelled_takes_nothing() -> None:
    buffers = Buffers(PART)
    with buffers.reserve(None) as room:
        await room.begin_part()
        second = asyncio.create_task(room.begin_part())
        assert await waits(second)
        second.cancel()
        assert await asyncio.gather(second, return_exceptions=True)
        room.end_part()
    assert parts_left(buffers) == 1


@contextlib.asynccontextmanager
async def stalled(buffers: Buffers, pieces: Iterable[bytes]) -> AsyncIterator[asyncio.Task[None]]:
    """An upload that has brought these, and waits for its client."""
    waits = asyncio.Event()

    async def brought() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        waits.set()
        await asyncio.Event().wait()

    async def work() -> None:
        with buffers.reserve(PART) as room:
            async for _ in room.counted(brought()):
                pass

    task = asyncio.create_task(work())
    await waits.wait()
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_the_slowest_upload_makes_room_for_the_next_but_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.upload.buffers._SLOW_SECONDS", 0)
    monkeypatch.setattr("services.upload.buffers._SLOW_RATE", float("inf"))
    buffers = Buffers(2 * PART)
    async with stalled(buffers, [bytes(1)]) as slowest, stalled(buffers, [bytes(MIB)]) as faster:
        assert not room_in(buffers, PART)
        with pytest.raises(ReelwayError) as refused:
            await slowest
        assert refused.value.reason is ErrorReason.TOO_MANY_REQUESTS
        assert room_in(buffers, PART)
        assert not faster.done()


async def test_each_who_finds_no_room_ends_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.upload.buffers._SLOW_SECONDS", 0)
    monkeypatch.setattr("services.upload.buffers._SLOW_RATE", float("inf"))
    buffers = Buffers(3 * PART)
    async with (
        stalled(buffers, [bytes(1)]) as slowest,
        stalled(buffers, [bytes(2)]) as next_one,
        stalled(buffers, [bytes(MIB)]) as faster,
    ):
        assert not room_in(buffers, PART)
        # Its end has begun, and is not done.
        await asyncio.sleep(0)
        assert not slowest.done()
        assert not room_in(buffers, PART)
        for ended in (slowest, next_one):
            with pytest.raises(ReelwayError) as refused:
                await ended
            assert refused.value.reason is ErrorReason.TOO_MANY_REQUESTS
        assert not faster.done()


async def test_nobody_makes_room_who_is_not_slow_yet_or_whose_store_is(monkeypatch: pytest.MonkeyPatch) -> None:
    buffers = Buffers(PART)
    async with stalled(buffers, [bytes(1)]) as new:
        assert not room_in(buffers, PART)
        await asyncio.wait([new], timeout=0.01)
        assert not new.done()
    monkeypatch.setattr("services.upload.buffers._SLOW_SECONDS", 0)
    async with stalled(buffers, [bytes(2 * MIB)]) as quick:
        assert not room_in(buffers, PART)
        await asyncio.wait([quick], timeout=0.01)
        assert not quick.done()
    monkeypatch.setattr("services.upload.buffers._SLOW_RATE", float("inf"))
    with buffers.reserve(PART) as room:
        # Who has this piece has not come back for the next one.
        async for _ in room.counted(pieces(2)):
            assert not room_in(buffers, PART)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """What the clock of the buffers, and of nothing else, returns."""
    clock = Mock(return_value=0.0)
    monkeypatch.setattr("services.upload.buffers.time", Mock(monotonic=clock))
    return clock


async def test_nobody_makes_room_who_sends_as_fast_as_a_phone(now: Mock) -> None:
    """Else those who are too many end each other, again and again, and nobody is done."""
    buffers = Buffers(PART)
    async with stalled(buffers, [bytes(3 * MIB)]) as phone:
        now.return_value = 100.0  # 31 KB/s
        assert not room_in(buffers, PART)
        assert await waits(phone)
        now.return_value = 200.0
        assert not room_in(buffers, PART)
        with pytest.raises(ReelwayError):
            await phone


async def test_whoever_is_waited_for_half_a_minute_in_all_is_slow(now: Mock) -> None:
    """However little he was waited for at a time."""
    buffers = Buffers(PART)

    def dripped() -> Iterator[bytes]:
        for _ in range(2):
            now.return_value += 10
            yield b"x"

    async with stalled(buffers, dripped()) as task:
        for now.return_value, is_slow in ((29.9, False), (30.0, True)):
            assert not room_in(buffers, PART)
            assert await waits(task) is not is_slow
        assert await refusal(task) is ErrorReason.TOO_MANY_REQUESTS
