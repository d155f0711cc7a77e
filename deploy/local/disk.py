"""The room that is left where DATA_DIR lies."""

import shutil
from pathlib import Path

LEAST_BYTES = 100_000_000  # the embedded Redis and S3 fail at their next write, or soon


class Disk:
    """The file system that DATA_DIR is on.

    Args:
        folder: DATA_DIR.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def shortage(self) -> str:
        """What is left, where that is little; else empty."""
        try:
            left = shutil.disk_usage(self._folder).free
        except OSError:
            return ""
        return f"DATA_DIR {self._folder}: {left // 1_000_000} MB left" if left < LEAST_BYTES else ""
