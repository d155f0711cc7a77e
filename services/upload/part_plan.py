"""Pure arithmetic of S3's multipart limits.

S3: 1 to 10 000 parts, each but the last of at least 5 MiB
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html). Ours are 8 to 16 MiB: at most three are
under way, each kept until the store has acknowledged it so that it can be sent again, 48 MiB in all.
"""

from __future__ import annotations

MIB = 2**20
MOST_PARTS = 10_000
SMALLEST_PART = 8 * MIB
LARGEST_PART = 16 * MIB
IN_FLIGHT = 3
LARGEST_FILE = MOST_PARTS * LARGEST_PART


def part_size(largest: int) -> int:
    """Bytes of each part but the last, so that a file of up to `largest` bytes fits into 10 000 parts.

    Raises:
        ValueError: `largest` is over LARGEST_FILE.
    """
    if largest > LARGEST_FILE:
        raise ValueError(f"{largest} bytes do not fit into {MOST_PARTS} parts of {LARGEST_PART}")
    whole_mib = -(-largest // (MOST_PARTS * MIB)) * MIB
    return max(SMALLEST_PART, whole_mib)
