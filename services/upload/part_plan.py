"""How a file is cut into parts.

S3: 1 to 10 000 parts, each but the last of at least 5 MiB
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html). A part is kept until the store has acknowledged it,
so that it can be sent again, and three of them exist at a time: the one that grows, and two that the store is not done
with. With only one such the upload stood still for a quarter of its time (measured: an eighth more speed).
"""

MIB = 2**20
MOST_PARTS = 10_000
PART = 12 * MIB
"""Bytes of each part but the last; larger ones gain nothing more, of 8 MiB the store takes an eighth longer."""
SMALL_PIECE = 2**16
"""Bytes; smaller pieces are put together: each is kept until S3 has it, and costs some 300 bytes of its own."""
IN_FLIGHT = 3
MOST_HELD = IN_FLIGHT * PART
"""Bytes of one upload that are in memory at most, whatever its size."""
