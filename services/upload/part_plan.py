"""How a file is cut into parts.

S3: 1 to 10 000 parts, each but the last of at least 5 MiB
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html). A part is kept until the store has acknowledged it,
so that it can be sent again, and two of them exist at a time: the one that grows, and the one before.
"""

MIB = 2**20
MOST_PARTS = 10_000
PART = 16 * MIB
"""Bytes of each part but the last; parts of 8 MiB took an eighth longer."""
IN_FLIGHT = 2
LARGEST_FILE = MOST_PARTS * PART
