"""The life of a journal, and the form of its entity tags."""

from services.upload.journal import TRANSITIONS, JournalState, parse_member, size_of_version


def test_every_state_has_its_row_and_ends_are_final() -> None:
    assert set(TRANSITIONS) == set(JournalState)
    for ends in (JournalState.COMPACTED, JournalState.ABORTED):
        assert not TRANSITIONS[ends]
    assert TRANSITIONS[JournalState.OPEN] == {JournalState.SEALED, JournalState.ABORTED}


def test_the_size_of_a_version_is_in_its_tag() -> None:
    tag = f'"{"0123456789abcdef" * 2}-1f"'
    assert size_of_version(tag) == 31
    for size in ("xyz", "", "+1f", "1_f", "0x1f", "1F", "f" * 5000):
        assert size_of_version(f'"{"0" * 32}-{size}"') == -1
    for foreign in ("", '""', '"abc"', '"abc-1f"', f'"{"0" * 32}"', tag.strip('"')):
        assert size_of_version(foreign) == -1
    extent, etag = parse_member("v", f"0000000000000007-ab-clip 12 {tag}")
    assert (extent.offset, extent.length, extent.key, extent.begins_clip, etag) == (
        7,
        12,
        "journal/v/0000000000000007-ab-clip",
        True,
        tag,
    )
