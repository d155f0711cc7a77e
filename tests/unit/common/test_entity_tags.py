"""What an entity tag tells of the bytes that it is of."""

from services.common.entity_tags import journal_of_joined, journal_size, of_file, of_joined, of_journal

FILE = of_file("0123456789abcdef" * 4)
JOURNAL = of_journal(of_journal("", '"chunk"', 7), '"another"', 31)


def test_the_size_of_a_journal_s_version_is_in_its_tag() -> None:
    tag = f'"{"0123456789abcdef" * 2}-1f"'
    assert journal_size(tag) == 31
    for size in ("xyz", "", "+1f", "1_f", "0x1f", "1F", "f" * 5000):
        assert journal_size(f'"{"0" * 32}-{size}"') == -1
    for foreign in ("", '""', '"abc"', '"abc-1f"', f'"{"0" * 32}"', tag.strip('"')):
        assert journal_size(foreign) == -1
    assert journal_size(JOURNAL) == 31


def test_a_joined_file_names_the_journal_that_it_was_made_of() -> None:
    joined = of_joined(JOURNAL, "mp4", '"made"')
    assert joined != of_joined(JOURNAL, "mp4", '"made again"')
    assert journal_of_joined(joined) == JOURNAL
    assert [journal_of_joined(foreign) for foreign in ("", FILE, JOURNAL, joined.strip('"'), '"a-b-mp4-c"')] == [""] * 5
    assert (journal_size(FILE), journal_size(joined)) == (-1, -1)
