"""The life of a journal, and its rows in Redis."""

from services.upload.journal import TRANSITIONS, JournalState, parse_member


def test_every_state_has_its_row_and_ends_are_final() -> None:
    assert set(TRANSITIONS) == set(JournalState)
    for ends in (JournalState.COMPACTED, JournalState.ABORTED):
        assert not TRANSITIONS[ends]
    assert TRANSITIONS[JournalState.OPEN] == {JournalState.SEALED, JournalState.ABORTED}


def test_a_row_of_redis_names_a_chunk_and_the_tag_of_the_upload_up_to_its_end() -> None:
    tag = f'"{"0123456789abcdef" * 2}-1f"'
    extent, etag = parse_member("v", f"0000000000000007-ab-clip 12 {tag}")
    assert (extent.offset, extent.length, extent.key, extent.begins_clip, etag) == (
        7,
        12,
        "journal/v/0000000000000007-ab-clip",
        True,
        tag,
    )
