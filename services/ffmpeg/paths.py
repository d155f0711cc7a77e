"""Which folders the files of jobs may lie in."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

# A job folder's path stands inside filter graphs, where anything else would need two levels of escapes.
PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./-]+")


def may_be_planted(path: Path) -> bool:
    """Whether another user put it there, in a folder such as /tmp: its owner can change what is in it."""
    return bool(path.parent.stat().st_mode & stat.S_IWOTH) and path.lstat().st_uid not in (0, os.geteuid())
