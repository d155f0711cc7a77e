"""Which clips match, and what those that do not are brought to."""

from pathlib import Path
from typing import Any

import pytest

from services.ffmpeg.clips import Clip, Shape, _clip, encode_arguments, match
from services.ffmpeg.limits import Limits

LIMITS = Limits(max_side=1000, max_pixels=250_000)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (500, 500, (500, 500)),
        (501, 333, (500, 332)),
        (4000, 100, (1000, 24)),
        (100, 4000, (24, 1000)),
        (1000, 1000, (500, 500)),
        (9000, 1, (1000, 2)),
        (0, 0, (2, 2)),
    ],
)
def test_a_shape_is_even_and_within_the_limits(width: int, height: int, expected: tuple[int, int]) -> None:
    clip = Clip(
        Path("clip"),
        video=("video",),
        video_index=0,
        audio=None,
        audio_index=-1,
        is_turned=False,
        width=width,
        height=height,
        matrix="bt709",
        is_matrix_guessed=True,
        is_iso=True,
        duration_seconds=1.0,
        silent_seconds=0.0,
    )
    shape = Shape.of([clip], LIMITS)
    assert (shape.width, shape.height, shape.sound) == (*expected, False)


VIDEO: dict[str, Any] = {
    **{"index": 0, "codec_type": "video", "codec_name": "h264", "profile": "High", "time_base": "1/12800"},
    **{"extradata_hash": "SHA256:1", "width": 64, "height": 48, "pix_fmt": "yuv420p", "sample_aspect_ratio": "1:1"},
    **{"field_order": "progressive", "color_space": "bt709", "color_range": "tv", "duration": "1.0"},
}
AUDIO: dict[str, Any] = {
    **{"index": 1, "codec_type": "audio", "codec_name": "aac", "profile": "LC", "time_base": "1/48000"},
    **{"extradata_hash": "SHA256:2", "sample_fmt": "fltp", "sample_rate": "48000", "channels": 2},
    **{"channel_layout": "stereo", "duration": "1.0"},
}


def clip(*streams: dict[str, Any]) -> Clip:
    """As ffprobe tells it."""
    return _clip(Path("clip"), {"format": {"format_name": "mov,mp4", "duration": "1.0"}, "streams": streams})


@pytest.mark.parametrize(
    ("of", "other"),
    [
        *((0, one) for one in ({"index": 2}, {"codec_name": "hevc"}, {"profile": "Main"}, {"time_base": "1/600"})),
        *((0, one) for one in ({"extradata_hash": "SHA256:3"}, {"width": 66}, {"height": 50}, {"pix_fmt": "yuv422p"})),
        *((0, one) for one in ({"sample_aspect_ratio": "4:3"}, {"field_order": "tt"}, {"color_space": "bt2020nc"})),
        *((0, one) for one in ({"color_range": "pc"}, {"side_data_list": [{"displaymatrix": "m", "rotation": 90}]})),
        *((1, one) for one in ({"codec_name": "mp3"}, {"profile": "HE-AAC"}, {"sample_fmt": "s16"}, {"channels": 1})),
        *((1, one) for one in ({"sample_rate": "44100"}, {"channel_layout": "mono"}, {"time_base": "1/44100"})),
    ],
    ids=str,
)
def test_all_that_a_decoder_is_told_once_must_match(of: int, other: dict[str, Any]) -> None:
    streams = [VIDEO, AUDIO]
    assert match([clip(*streams), clip(*streams)], "mp4")
    streams[of] = streams[of] | other
    assert not match([clip(VIDEO, AUDIO), clip(*streams)], "mp4")


def test_clips_of_other_lengths_match_and_of_other_streams_do_not() -> None:
    assert match([clip(VIDEO, AUDIO), clip(VIDEO | {"duration": "2.0"}, AUDIO)], "mp4")
    assert not match([clip(VIDEO, AUDIO), clip(VIDEO)], "mp4")


@pytest.mark.parametrize(
    ("size", "told", "matrix"),
    [
        ((64, 48), "bt2020nc", "bt2020nc"),
        ((64, 48), None, "smpte170m"),
        ((1278, 576), None, "smpte170m"),
        ((1280, 10), None, "bt709"),
        ((10, 1280), None, "bt709"),
        ((578, 577), "unknown", "bt709"),
    ],
)
def test_colours_that_are_not_told_are_those_of_a_picture_of_its_size(
    size: tuple[int, int], told: str | None, matrix: str
) -> None:
    found = clip(VIDEO | {"width": size[0], "height": size[1], "color_space": told})
    assert (found.matrix, found.is_matrix_guessed) == (matrix, told != matrix)


def test_no_frame_of_a_part_waits_for_a_later_one() -> None:
    """Where frames last longer than in the part before, its first packet would come before the last one of that."""
    shape = Shape.of([clip(VIDEO, AUDIO)], LIMITS)
    whole, part = (
        encode_arguments([clip(VIDEO, AUDIO)], shape, Path("out.mov"), LIMITS, is_part=is_part)
        for is_part in (False, True)
    )
    assert ("-bf" in whole, part[part.index("-bf") + 1]) == (False, "0")
