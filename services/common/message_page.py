"""How much of a page one message holds."""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from typing import TypeVar

from google.protobuf.message import Message

PAGE_BYTES = 2 * 2**20
"""A message holds no more of a page, unless its first member is longer; it has room for two pages."""

T = TypeVar("T", bound=Message)


def within_message(messages: list[T], size_of: Callable[[T], int] = methodcaller("ByteSize")) -> list[T]:
    """The first of them, as many as fit and at least one: texts may be long.

    `size_of` also counts what is added to a message before it is sent.
    """
    size = 0
    for count, message in enumerate(messages):
        size += size_of(message)
        if count and size > PAGE_BYTES:
            return messages[:count]
    return messages
