"""Which of the library's words a file that is no video of its gets."""

import pytest
from reelway.v1 import media_pb2

from services.ffmpeg.worker.video_check import Unusable, container_of
from tests.support.clips import MP4, WEBM

TYPES = ("video/mp4", "video/webm")


@pytest.mark.parametrize(
    ("head", "failure"),
    [
        (b"OggS\x00\x02", media_pb2.PROCESSING_FAILURE_UNSUPPORTED),
        (b"\x00\x00\x00\x1cftypheic", media_pb2.PROCESSING_FAILURE_UNSUPPORTED),
        (b"\x00\x00\x00\x1cftypM4A ", media_pb2.PROCESSING_FAILURE_UNSUPPORTED),
        (b"RIFF\x00\x00\x00\x00WAVE", media_pb2.PROCESSING_FAILURE_UNSUPPORTED),
        (b"%PDF-1.7", media_pb2.PROCESSING_FAILURE_UNSUPPORTED),
        (bytes(100), media_pb2.PROCESSING_FAILURE_CORRUPTED),
        (b"ftypisom", media_pb2.PROCESSING_FAILURE_CORRUPTED),
        (b"no video at all", media_pb2.PROCESSING_FAILURE_CORRUPTED),
    ],
)
def test_another_type_is_not_supported_and_what_has_none_is_damaged(head: bytes, failure: int) -> None:
    with pytest.raises(Unusable) as told:
        container_of(head, TYPES)
    assert told.value.failure == failure


def test_a_type_that_is_taken_is_told() -> None:
    assert [container_of(head, TYPES) for head in (MP4, WEBM)] == [media_pb2.CONTAINER_MP4, media_pb2.CONTAINER_WEBM]
