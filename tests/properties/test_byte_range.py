"""Ranges against an independent, slow model that walks over every position."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.byte_range import MAX_RANGES, ByteRange, Unsatisfiable, parse_range

_SPECS = st.tuples(st.integers(0, 40) | st.none(), st.integers(0, 40) | st.none())


def _positions(first: int | None, last: int | None, size: int) -> list[int]:
    """What section 14.1.2 says a spec selects, position by position."""
    if first is None:
        assert last is not None
        return [p for p in range(size) if p >= size - last]
    return [p for p in range(size) if p >= first and (last is None or p <= last)]


@given(spec=_SPECS, size=st.integers(1, 30), padding=st.sampled_from(["", " ", "\t", ",", " , ,"]))
def test_one_range_selects_what_the_rfc_says(spec: tuple[int | None, int | None], size: int, padding: str) -> None:
    first, last = spec
    text = f"bytes={padding}{'' if first is None else first}-{'' if last is None else last}{padding}"
    found = parse_range(text, size)
    if (first is None and last is None) or (first is not None and last is not None and last < first):
        assert found is None
        return
    expected = _positions(first, last, size)
    if not expected:
        assert found == Unsatisfiable(size)
        return
    assert isinstance(found, list)
    assert [list(range(r.offset, r.offset + r.length)) for r in found] == [expected]
    assert found[0].content_range(size) == f"bytes {expected[0]}-{expected[-1]}/{size}"


@given(specs=st.lists(_SPECS, min_size=2, max_size=MAX_RANGES), size=st.integers(1, 30))
def test_several_ranges_are_those_of_each_or_the_whole(specs: list[tuple[int | None, int | None]], size: int) -> None:
    texts = [f"{'' if a is None else a}-{'' if b is None else b}" for a, b in specs]
    found = parse_range("bytes=" + ", ".join(texts), size)
    each = [parse_range(f"bytes={text}", size) for text in texts]
    if any(one is None for one in each):
        assert found is None
        return
    satisfiable = [one[0] for one in each if isinstance(one, list)]
    if not satisfiable:
        assert found == Unsatisfiable(size)
    elif found is not None:
        assert found == satisfiable, "in the order asked for"
    else:
        selected = [p for r in satisfiable for p in range(r.offset, r.offset + r.length)]
        assert len(selected) > len(set(selected)), "only overlapping ranges may be answered with the whole"


@given(header=st.text(max_size=40) | st.text(alphabet="bytes=0123456789-, ", max_size=40), size=st.integers(0, 99))
@example(header="bytes=" + "9" * 8000 + "-", size=10)
@example(header="bytes=0-" + "9" * 8000, size=10)
@example(header="bytes=-" + "9" * 8000, size=10)
@example(header="bytes=١-٢", size=10)
def test_whatever_is_sent_stays_inside_the_video(header: str, size: int) -> None:
    found = parse_range(header, size)
    if isinstance(found, list):
        assert 0 < len(found) <= MAX_RANGES
        assert all(r.length > 0 and r.offset >= 0 and r.last < size for r in found)
        assert sum(r.length for r in found) <= size


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        (None, 10, None),
        ("bytes=0-1", 10, [ByteRange(0, 2)]),
        ("Bytes=0-1", 10, [ByteRange(0, 2)]),
        ("bytes =0-1", 10, [ByteRange(0, 2)]),
        ("bytes=0-", 10, [ByteRange(0, 10)]),
        ("bytes=9-9", 10, [ByteRange(9, 1)]),
        ("bytes=5-99", 10, [ByteRange(5, 5)]),
        ("bytes=-99", 10, [ByteRange(0, 10)]),
        ("bytes=10-", 10, Unsatisfiable(10)),
        ("bytes=-0", 10, Unsatisfiable(10)),
        ("bytes=99-, 0-0", 10, [ByteRange(0, 1)]),
        ("bytes=0-4,5-9", 10, [ByteRange(0, 5), ByteRange(5, 5)]),
        ("bytes=-1,0-0", 10, [ByteRange(9, 1), ByteRange(0, 1)]),
        # Not bytes, or not a range: as if it were not there.
        ("frames=0-1", 10, None),
        ("bytes", 10, None),
        ("bytes=", 10, None),
        ("bytes=,,", 10, None),
        ("bytes=-", 10, None),
        ("bytes=5", 10, None),
        ("bytes=5-4", 10, None),
        ("bytes=0-1-2", 10, None),
        ("bytes=+0-1", 10, None),
        ("bytes=0 - 1", 10, None),
        ("bytes=0-1,x", 10, None),
        ("bytes=0-1;0-2", 10, None),
        # Nothing to select from.
        ("bytes=0-", 0, Unsatisfiable(0)),
        ("bytes=-0", 0, Unsatisfiable(0)),
        ("bytes=-5", 0, None),
        # Attacks rather than requests.
        ("bytes=" + ",".join(f"{i}-{i}" for i in range(MAX_RANGES)), 100, [ByteRange(i, 1) for i in range(16)]),
        ("bytes=" + ",".join(f"{i}-{i}" for i in range(MAX_RANGES + 1)), 100, None),
        ("bytes=0-50,10-60", 200, [ByteRange(0, 51), ByteRange(10, 51)]),
        ("bytes=0-50,10-60,20-70", 200, None),
        # By one byte each; and twice into one long range.
        ("bytes=0-10,10-20,20-30", 200, None),
        ("bytes=0-90,10-19,30-39", 200, None),
        (f"bytes={'0' * 30}7-{'0' * 30}9", 100, [ByteRange(7, 3)]),
        ("bytes=0-,0-", 10, None),
    ],
)
def test_table(header: str | None, size: int, expected: list[ByteRange] | Unsatisfiable | None) -> None:
    assert parse_range(header, size) == expected


def test_content_range_of_nothing() -> None:
    assert Unsatisfiable(47022).content_range == "bytes */47022"
