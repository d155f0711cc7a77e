"""S3's multipart limits hold for every size of file, and an upload's memory with them."""

from services.upload.part_plan import MIB, MOST_HELD, MOST_PARTS, PART
from services.upload.settings import UploadSettings

S3_LEAST_PART, S3_MOST_PART, S3_MOST_PARTS = 5 * MIB, 5 * 2**30, 10_000


def test_every_file_fits_into_s3_s_limits() -> None:
    assert S3_LEAST_PART <= PART <= S3_MOST_PART
    assert MOST_PARTS <= S3_MOST_PARTS


def test_the_parts_of_an_upload_stay_within_its_memory() -> None:
    """As the settings and the documentation tell whoever plans a machine."""
    assert MOST_HELD == 36 * MIB


def test_no_limit_can_be_configured_that_does_not_fit() -> None:
    limits = UploadSettings.model_fields["upload_max_bytes"].metadata
    assert max(getattr(limit, "le", 0) or 0 for limit in limits) == PART * MOST_PARTS
