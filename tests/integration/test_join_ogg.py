"""Slices of an Ogg file, several of which begin as a file does: with the first page of a stream."""

from pathlib import Path
from typing import Any

import pytest

from services.ffmpeg.job import JobFault
from services.ffmpeg.limits import JoinLimits
from services.ffmpeg.outputs import Outputs
from tests.support.clips import make_clip
from tests.support.joins import join

LIMITS = JoinLimits(threads=1)


@pytest.fixture
def pages(tmp_path: Path) -> list[bytes]:
    """Of picture and sound: the first two pages begin one stream each, the third goes on."""
    sound = ("-f", "lavfi", "-i", "sine=d=0.4", "-c:v", "libtheora", "-c:a", "libopus")
    clip = make_clip(tmp_path / "clip.ogv", sound).read_bytes()
    found = [b"OggS" + page for page in clip.split(b"OggS")[1:]]
    assert [page[5] & 2 for page in found[:3]] == [2, 2, 0]
    return found


async def test_a_file_that_is_cut_between_its_streams_beginnings_is_one_file(
    join_outputs: Outputs, join_job: Any, pages: list[bytes]
) -> None:
    made = await join(join_outputs, join_job, [pages[0], b"".join(pages[1:])], LIMITS)
    assert (made["clips"], made["encoded"]) == (1, False)
    assert await join_outputs.objects.get(made["key"]) == b"".join(pages)


async def test_it_is_one_clip_among_others(join_outputs: Outputs, join_job: Any, pages: list[bytes]) -> None:
    whole = b"".join(pages)
    made = await join(join_outputs, join_job, [whole, pages[0], b"".join(pages[1:]), whole], LIMITS)
    assert (made["clips"], made["encoded"]) == (3, False)


async def test_a_recorder_that_died_at_its_first_page_spoils_no_other_clip(
    join_outputs: Outputs, join_job: Any, pages: list[bytes]
) -> None:
    whole = b"".join(pages)
    with pytest.raises(JobFault, match="A clip is no video"):
        await join(join_outputs, join_job, [whole, pages[0], whole], LIMITS)
