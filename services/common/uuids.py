"""UUIDs as we write them."""

from __future__ import annotations

import uuid


def is_uuid(text: str) -> bool:
    """Whether it is one in its usual form; anything else is no id of ours, and no part of a key."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
