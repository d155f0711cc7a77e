"""The file that is uploaded and read."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

FILE_TYPE = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41"


@dataclass(frozen=True)
class Source:
    """A file and the SHA-256 of all of it."""

    path: Path
    sha256: str

    def sha256_of(self, start: int, length: int) -> str:
        """The SHA-256 of some of its bytes."""
        with self.path.open("rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(length)).hexdigest()


def make_source(path: Path, size: int) -> Source:
    """Write a file of `size` bytes (below 4 GiB) that begins as an MP4 does and goes on with noise."""
    head = FILE_TYPE + (size - len(FILE_TYPE)).to_bytes(4, "big") + b"mdat"
    digest = hashlib.sha256(head)
    with path.open("wb") as file:
        file.write(head)
        left = size - len(head)
        while left:
            block = os.urandom(min(left, 2**20))
            file.write(block)
            digest.update(block)
            left -= len(block)
    return Source(path, digest.hexdigest())
