"""The room that is left where DATA_DIR lies."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

LOOK_SECONDS = 5.0  # between two looks
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

    async def watch(self, say: Callable[[str], None]) -> None:
        """Says when there is little room left, and when there is enough again; never returns."""
        was_short = False
        while True:
            shortage = self.shortage()
            if shortage and not was_short:
                say(f"{shortage}; make room before uploads and tasks fail")
            elif was_short and not shortage:
                say(f"DATA_DIR {self._folder}: there is room again")
            was_short = bool(shortage)
            await asyncio.sleep(LOOK_SECONDS)
