"""One bound for all uploads under way: nobody gets over it, and what was taken comes back."""

from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.upload.buffers import Buffers
from services.upload.part_plan import MIB, MOST_HELD


def room_in(buffers: Buffers, size: int) -> bool:
    """Whether an upload of so many bytes would be taken now."""
    try:
        with buffers.reserve(size):
            return True
    except ReelwayError as error:
        assert error.reason is ErrorReason.TOO_MANY_REQUESTS
        return False


@pytest.mark.parametrize(
    ("size", "held"),
    [(0, 0), (1, 1), (MIB, MIB), (MOST_HELD, MOST_HELD), (MOST_HELD + 1, MOST_HELD), (2**62, MOST_HELD)],
)
def test_an_upload_takes_its_size_up_to_what_one_holds(size: int, held: int) -> None:
    buffers = Buffers(MOST_HELD)
    with buffers.reserve(size):
        assert room_in(buffers, MOST_HELD - held)
        assert not held or not room_in(buffers, MOST_HELD - held + 1)
    assert room_in(buffers, MOST_HELD)


def test_what_is_reserved_is_told_to_an_operator() -> None:
    def told() -> float:
        return REGISTRY.get_sample_value("reelway_upload_buffer_bytes") or 0

    before, buffers = told(), Buffers(MOST_HELD)
    with buffers.reserve(5), buffers.reserve(10):
        with pytest.raises(ReelwayError):
            buffers.reserve(MOST_HELD)
        assert told() == before + 15
    assert told() == before


def test_an_upload_of_unknown_size_takes_what_one_holds() -> None:
    buffers = Buffers(MOST_HELD + 5)
    with buffers.reserve(None):
        assert room_in(buffers, 5)
        assert not room_in(buffers, 6)


def test_a_negative_size_makes_no_room() -> None:
    buffers = Buffers(MOST_HELD)
    with buffers.reserve(-5), buffers.reserve(MOST_HELD):
        assert not room_in(buffers, 1)


def test_a_refusal_takes_nothing() -> None:
    buffers = Buffers(MOST_HELD)
    with buffers.reserve(MOST_HELD - 10):
        for _ in range(3):
            assert not room_in(buffers, 11)
        assert room_in(buffers, 10)


def test_an_exception_gives_back_and_comes_out() -> None:
    buffers = Buffers(MOST_HELD)
    with pytest.raises(ZeroDivisionError), buffers.reserve(None):
        raise ZeroDivisionError
    assert room_in(buffers, MOST_HELD)


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(MIB)


async def test_what_comes_beyond_a_client_s_word_takes_more() -> None:
    buffers = Buffers(2 * MOST_HELD)
    with buffers.reserve(MIB) as reserved, buffers.reserve(MOST_HELD - MIB):
        count = 0
        async for _ in reserved.counted(pieces(50)):
            count += 1
            left = max(MIB, MOST_HELD + MIB - count * MIB)
            assert room_in(buffers, left)
            assert not room_in(buffers, left + 1) or left >= MOST_HELD
        assert count == 50
    assert room_in(buffers, MOST_HELD)


async def test_what_comes_beyond_a_client_s_word_is_refused_where_there_is_no_room() -> None:
    buffers = Buffers(MOST_HELD)
    with buffers.reserve(MOST_HELD - 2 * MIB):
        passed = 0
        with pytest.raises(ReelwayError) as refused, buffers.reserve(MIB) as reserved:
            async for piece in reserved.counted(pieces(50)):
                passed += len(piece)
        assert refused.value.reason is ErrorReason.TOO_MANY_REQUESTS
        assert passed == 2 * MIB
        assert room_in(buffers, 2 * MIB), "it has given back what it had"
