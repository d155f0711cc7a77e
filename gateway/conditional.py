"""Preconditions of a request: RFC 9110 section 13, as pure functions.

aiohttp's own handling is not used: it ignores an entity tag in If-Range, which would splice the bytes of two
versions of a video together in a resumed download.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from enum import Enum

from multidict import MultiMapping

_ENTITY_TAG = re.compile(r'[ \t]*(W/)?("[\x21\x23-\x7e\x80-\U0010ffff]*")[ \t]*')
_DATE_FORMATS = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")
_SAFE_METHODS = frozenset({"GET", "HEAD"})


class Outcome(Enum):
    """What the preconditions make of a request."""

    PROCEED = "proceed"
    NOT_MODIFIED = "not modified"
    PRECONDITION_FAILED = "precondition failed"


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome, and what becomes of Range.

    Attributes:
        outcome: what to do.
        range_applies: whether a Range header, if there is one, is to be honoured; False when If-Range names
            another version, and for every method but GET (section 14.2).
    """

    outcome: Outcome
    range_applies: bool


def evaluate(method: str, headers: MultiMapping[str], etag: str, modify_time: datetime) -> Decision:
    """Judge a request against the current representation, in the order of section 13.2.2.

    Args:
        method: request method, upper case.
        headers: request headers; several lines of one field count as one list.
        etag: current entity tag, a strong one, with its quotes.
        modify_time: time of the last change, timezone-aware; fractions of a second are dropped, as
            Last-Modified cannot carry them.
    """
    modified = modify_time.astimezone(UTC).replace(microsecond=0)
    safe = method in _SAFE_METHODS

    if_match = _field(headers, "If-Match")
    if if_match is not None:
        changed = not _matches(if_match, etag, weak=False)
    else:
        unmodified_since = parse_http_date(_field(headers, "If-Unmodified-Since"))
        changed = unmodified_since is not None and modified > unmodified_since
    if changed:
        return Decision(Outcome.PRECONDITION_FAILED, False)

    if_none_match = _field(headers, "If-None-Match")
    if if_none_match is not None:
        known = _matches(if_none_match, etag, weak=True)
    else:
        modified_since = parse_http_date(_field(headers, "If-Modified-Since")) if safe else None
        known = modified_since is not None and modified <= modified_since
    if known:
        return Decision(Outcome.NOT_MODIFIED if safe else Outcome.PRECONDITION_FAILED, False)

    return Decision(Outcome.PROCEED, method == "GET" and _range_is_current(headers, etag, modified))


@functools.lru_cache(4096)
def http_date(moment: datetime) -> str:
    """`moment`, timezone-aware, as an IMF-fixdate; fractions of a second are dropped."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def parse_http_date(value: str | None) -> datetime | None:
    """Read an HTTP-date in any of the three forms of section 5.6.7; None for anything else."""
    if value is None:
        return None
    for date_format in _DATE_FORMATS:
        try:
            # Two digits mean 1969 to 2068: none of them is more than 50 years ahead, as the section forbids.
            return datetime.strptime(value, date_format).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def _range_is_current(headers: MultiMapping[str], etag: str, modified: datetime) -> bool:
    if_range = _field(headers, "If-Range")
    if if_range is None:
        return True
    if _ENTITY_TAG.fullmatch(if_range):
        return _matches(if_range, etag, weak=False)
    return parse_http_date(if_range) == modified


def _field(headers: MultiMapping[str], name: str) -> str | None:
    values = headers.getall(name, None)
    return None if values is None else ", ".join(values)


def _matches(condition: str, etag: str, *, weak: bool) -> bool:
    """Whether a list of entity tags, or `*`, names `etag`; `weak` picks the comparison of section 8.8.3.2."""
    if condition == "*":
        return True
    return any(tag == etag and (weak or not is_weak) for is_weak, tag in _entity_tags(condition))


def _entity_tags(condition: str) -> Iterator[tuple[bool, str]]:
    """The well-formed tags of a list, up to the first thing that is none; a comma inside a tag is part of it."""
    position = 0
    while position < len(condition):
        if condition[position] in ", \t":
            position += 1
            continue
        match = _ENTITY_TAG.match(condition, position)
        if match is None:
            return
        yield match.group(1) is not None, match.group(2)
        position = match.end()
        if position < len(condition) and condition[position] != ",":
            return
