"""How much of a page one message holds."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message

PAGE_BYTES = 2 * 2**20
"""A message holds no more of a page, unless its first member is longer."""

T = TypeVar("T", bound=Message)


def within_message(messages: list[T]) -> list[T]:
    """As many of them, from the first, as a message should hold, at least one: texts may be long."""
    size = 0
    for count, message in enumerate(messages):
        size += message.ByteSize()
        if count and size > PAGE_BYTES:
            return messages[:count]
    return messages
