"""The client's name for its file, as it is stored."""

from __future__ import annotations

import re

from services.common.request_limits import FILE_NAME_LENGTH


def plain_name(file_name: str) -> str:
    """The name without any path or control character, cut to FILE_NAME_LENGTH characters."""
    return re.sub(r"[\x00-\x1f\x7f]", "", re.split(r"[/\\]", file_name)[-1])[:FILE_NAME_LENGTH]
