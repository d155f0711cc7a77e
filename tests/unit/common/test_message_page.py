"""How much of a page one message holds."""

import pytest
from reelway.v1 import media_pb2

from services.common import message_page
from services.common.message_page import within_message

VIDEOS = [media_pb2.Video(title=title) for title in "abcd"]


@pytest.mark.parametrize(("room", "count"), [(0, 1), (5, 1), (6, 2), (11, 3), (12, 4)])
def test_as_many_as_have_room_and_one_in_any_case(monkeypatch: pytest.MonkeyPatch, room: int, count: int) -> None:
    """Who is answered with none, and told of more, asks for ever."""
    assert {video.ByteSize() for video in VIDEOS} == {3}
    monkeypatch.setattr(message_page, "PAGE_BYTES", room)
    assert within_message(VIDEOS) == VIDEOS[:count]
    assert within_message(VIDEOS, lambda video: 3 * video.ByteSize()) == VIDEOS[: max(1, count // 3)]
