"""A disk that is full or fails."""

from __future__ import annotations

import errno

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def of_the_disk(error: BaseException) -> bool:
    """Whether a disk is full or fails, which may pass: STORAGE_UNAVAILABLE."""
    return isinstance(error, OSError) and error.errno in _OF_THE_DISK
