"""How chunks become parts, and how a listing becomes a journal again."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.extents import Extent, slices
from services.common.s3_objects import ObjectInfo, Slice
from services.upload.compaction_plan import S3_SMALLEST_PART, plan
from services.upload.restore import chain, parse_key

MIB = 2**20
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)

lengths = st.lists(
    st.one_of(
        st.integers(1, 4096),
        st.integers(1, 6 * MIB),
        st.sampled_from([S3_SMALLEST_PART - 1, S3_SMALLEST_PART, S3_SMALLEST_PART + 1, 8 * MIB, 5 * 2**30]),
    ),
    max_size=60,
)


def journal(sizes: list[int]) -> list[Extent]:
    found, offset = [], 0
    for index, size in enumerate(sizes):
        found.append(Extent(offset, size, f"journal/v/{offset:016d}-{index:x}"))
        offset += size
    return found


@given(lengths)
def test_parts_hold_every_byte_once_in_order_and_keep_to_the_limits_of_s3(sizes: list[int]) -> None:
    extents = journal(sizes)
    parts = plan(extents)
    at = {extent.key: extent for extent in extents}
    offset = 0
    for part in parts:
        for piece in part.slices:
            extent = at[piece.key]
            assert extent.offset + piece.start == offset
            assert 0 < piece.length <= extent.length - piece.start
            offset += piece.length
        assert part.length <= 5 * 2**30
        assert len(part.slices) == 1 or not part.copied
    assert offset == sum(sizes)
    assert all(part.length >= S3_SMALLEST_PART for part in parts[:-1])
    assert len(parts) <= 10_000
    # What is large is not carried through us.
    carried = sum(part.length for part in parts if not part.copied)
    assert carried <= sum(size for size in sizes if size < S3_SMALLEST_PART) + S3_SMALLEST_PART * len(sizes)


@settings(max_examples=20)
@given(st.integers(5 * MIB, 16 * MIB), st.integers(10_000, 12_000))
def test_more_large_chunks_than_parts_still_fit(size: int, count: int) -> None:
    parts = plan(journal([size] * count))
    assert len(parts) <= 10_000
    assert sum(part.length for part in parts) == size * count
    assert all(part.length >= S3_SMALLEST_PART for part in parts[:-1])


@given(lengths, st.data())
def test_a_range_is_found_in_its_extents(sizes: list[int], data: st.DataObject) -> None:
    total = sum(sizes)
    extents = journal(sizes)
    offset = data.draw(st.integers(0, total))
    length = data.draw(st.integers(0, total - offset))
    found = slices(extents, offset, length)
    assert sum(one.length for one in found) == length
    at = {extent.key: extent.offset for extent in extents}
    for one in found:
        assert at[one.key] + one.start == offset
        offset += one.length


def info(offset: int, size: int, tag: str, age: int = 0) -> ObjectInfo:
    return ObjectInfo(f"journal/v/{offset:016d}-{tag}", size, LONG_AGO - timedelta(seconds=age), f'"{tag}"')


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.data())
def test_a_journal_is_found_again_among_orphans(sizes: list[int], data: st.DataObject) -> None:
    extents = journal(sizes)
    committed = [info(extent.offset, extent.length, f"c{index}") for index, extent in enumerate(extents)]
    total = sum(sizes)
    orphans = []
    for index in range(data.draw(st.integers(0, 10))):
        # An orphan was meant for an offset that was the end at some time, and may end anywhere.
        extent = data.draw(st.sampled_from(extents))
        length = data.draw(st.integers(1, total + 99))
        # Where no chunk that follows tells the two apart, the age does.
        told = extent is not extents[-1] and length != extent.length
        orphans.append(info(extent.offset, length, f"o{index}", age=data.draw(st.integers(-9 if told else 1, 9))))
    for index in data.draw(st.sets(st.integers(0, len(extents) - 1), max_size=5)):
        # Overtaken by others, it moved, and what it left at an earlier end was not removed.
        earlier = data.draw(st.sampled_from(extents[: index + 1]))
        if earlier is not extents[index]:
            age = data.draw(st.integers(-9, 9))
            orphans.append(info(earlier.offset, extents[index].length, f"c{index}", age))
    shuffled = data.draw(st.permutations([*committed, *orphans]))
    for final_size in (total, None):
        assert [extent.key for extent, _ in chain(shuffled, final_size)] == [one.key for one in committed]


def test_of_two_last_chunks_the_newer_is_taken_and_the_one_that_goes_on_before_both() -> None:
    first, old, new = info(0, 10, "a"), info(10, 50, "old", age=9), info(10, 5, "new")
    assert [extent.key for extent, _ in chain([first, old, new], None)] == [first.key, new.key]
    follower = info(14, 3, "f")
    shorter = info(10, 4, "short", age=99)
    assert [e.key for e, _ in chain([first, old, new, shorter, follower], None)][1:] == [shorter.key, follower.key]
    # A sealed upload ends where its record says.
    assert [e.key for e, _ in chain([first, new, shorter, follower], 14)] == [first.key, shorter.key]
    assert chain([info(3, 4, "gap")], None) == []


def test_a_chunk_that_moved_counts_where_it_went() -> None:
    """Its object at the offset that it was meant for may still be there, and newer than the chunk that came first."""
    first, left, moved, last = info(0, 10, "a", age=9), info(0, 10, "b"), info(10, 10, "b"), info(20, 10, "c")
    assert [extent.key for extent, _ in chain([first, left, moved, last], None)] == [first.key, moved.key, last.key]


def test_what_is_no_chunk_is_passed_over() -> None:
    assert parse_key("journal/v/0000000000000007-ab-clip", 3) == Extent(
        7, 3, "journal/v/0000000000000007-ab-clip", True
    )
    for key in ("journal/v/x", "journal/v/0000000000000007", "journal/v/0000000000000007-", "journal/v/7-ab"):
        assert parse_key(key, 1) is None
    first, empty, foreign = info(0, 10, "a"), info(10, 0, "empty"), ObjectInfo("journal/v/x", 5, LONG_AGO, '"x"')
    # One without a byte goes on where it begins: whoever followed it would never come to an end.
    assert [extent.key for extent, _ in chain([first, empty, foreign], None)] == [first.key]
    assert slices([], 0, 5) == []
    assert slices([Extent(0, 5, "k")], 2, 9) == [Slice("k", 2, 3)]
