"""The life of a journal."""

from services.upload.journal import TRANSITIONS, JournalState


def test_every_state_has_its_row_and_ends_are_final() -> None:
    assert set(TRANSITIONS) == set(JournalState)
    for ends in (JournalState.COMPACTED, JournalState.ABORTED):
        assert not TRANSITIONS[ends]
    assert TRANSITIONS[JournalState.OPEN] == {JournalState.SEALED, JournalState.ABORTED}
