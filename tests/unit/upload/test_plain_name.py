"""A client's name for its file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.upload.file_name import plain_name


@pytest.mark.parametrize(
    ("claimed", "kept"),
    [
        ("clip.mp4", "clip.mp4"),
        ("/etc/passwd", "passwd"),
        ("C:\\films\\clip.mp4", "clip.mp4"),
        ("../../clip.mp4", "clip.mp4"),
        ("a\nb\0c.mp4", "abc.mp4"),
        ("ünï cødé.mp4", "ünï cødé.mp4"),
        ("dir/", ""),
        ("", ""),
        ("x" * 300, "x" * 255),
    ],
)
def test_it_is_kept_without_any_path(claimed: str, kept: str) -> None:
    assert plain_name(claimed) == kept


@given(st.text(max_size=600))
def test_whatever_is_claimed_is_harmless(claimed: str) -> None:
    name = plain_name(claimed)
    assert len(name) <= 255
    assert not set(name) & set("/\\\0\r\n\x7f")
    assert plain_name(name) == name
