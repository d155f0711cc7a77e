"""UUIDs as we write them."""

from __future__ import annotations

import uuid
from typing import Annotated

from pydantic import AfterValidator


def is_uuid(text: str) -> bool:
    """Whether it is one in its usual form; anything else is no id of ours, and no part of a key."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _in_its_usual_form(text: str) -> str:
    return lowered if is_uuid(lowered := text.lower()) else text


UuidText = Annotated[str, AfterValidator(_in_its_usual_form)]
"""From a client, who may write its letters in capitals (RFC 9562, section 4); what is none stays as it is."""
