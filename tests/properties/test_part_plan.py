"""S3's multipart limits hold for every size of file."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.upload.part_plan import (
    IN_FLIGHT,
    LARGEST_FILE,
    LARGEST_PART,
    MIB,
    MOST_PARTS,
    SMALLEST_PART,
    part_size,
)
from services.upload.settings import UploadSettings

S3_LEAST_PART, S3_MOST_PART, S3_MOST_PARTS = 5 * MIB, 5 * 2**30, 10_000


@given(st.integers(0, LARGEST_FILE))
@example(0)
@example(1)
@example(SMALLEST_PART * MOST_PARTS)
@example(SMALLEST_PART * MOST_PARTS + 1)
@example(LARGEST_FILE)
def test_every_file_fits_into_s3_s_limits(size: int) -> None:
    part = part_size(size)
    assert S3_LEAST_PART <= SMALLEST_PART <= part <= LARGEST_PART <= S3_MOST_PART
    assert -(-size // part) <= MOST_PARTS <= S3_MOST_PARTS
    assert part % MIB == 0


@given(st.integers(0, LARGEST_FILE), st.integers(0, LARGEST_FILE))
def test_a_larger_file_has_no_smaller_parts(one: int, other: int) -> None:
    smaller, larger = sorted((one, other))
    assert part_size(smaller) <= part_size(larger)


@given(st.integers(SMALLEST_PART * MOST_PARTS + 1, LARGEST_FILE))
def test_parts_are_no_larger_than_they_must_be(size: int) -> None:
    assert -(-size // (part_size(size) - MIB)) > MOST_PARTS


@given(st.integers(LARGEST_FILE + 1, 2**63))
def test_a_file_that_fits_nowhere_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        part_size(size)


def test_the_parts_of_an_upload_stay_within_its_memory() -> None:
    assert IN_FLIGHT * LARGEST_PART <= 64 * MIB - 16 * MIB


def test_no_limit_can_be_configured_that_does_not_fit() -> None:
    limits = UploadSettings.model_fields["upload_max_bytes"].metadata
    assert max(getattr(limit, "le", 0) or 0 for limit in limits) == LARGEST_FILE
