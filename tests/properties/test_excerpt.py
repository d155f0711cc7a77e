"""The parts of a large file: in order, none twice, never more than allowed, both ends and the place a third in."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.ffmpeg.worker.excerpt import excerpt_ranges


@given(st.integers(100, 2**30), st.integers(1, 2**36))
def test_the_parts_lie_in_the_file(most: int, more: int) -> None:
    size = most + more
    parts = list(excerpt_ranges(size, most))
    assert sum(length for _, length in parts) <= most
    assert parts[0][0] == 0 and sum(parts[-1]) == size
    assert all(length > 0 for _, length in parts)
    assert all(offset + length <= behind for (offset, length), (behind, _) in pairwise(parts))
    assert any(offset <= size // 3 < offset + length for offset, length in parts)
