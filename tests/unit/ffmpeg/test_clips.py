"""What clips are brought to."""

from pathlib import Path

import pytest

from services.ffmpeg.clips import Clip, Shape
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
