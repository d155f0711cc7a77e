"""Which bytes a Range header asks for: RFC 9110 section 14, as pure functions.

Below this module there are only an offset and a length. A header that cannot or should not be served is
ignored (the whole representation is the answer), as section 14.2 allows; only a valid set of which nothing
exists is unsatisfiable.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: More ranges than this are answered with the whole video (RFC 9110 section 17.15: many small ranges are an
#: attack more often than a request).
MAX_RANGES = 16

#: Positions with more digits than this lie beyond any video; they are not converted (a header may hold thousands).
_MAX_DIGITS = 19
_BEYOND_ANY_SIZE = 10**_MAX_DIGITS

_RANGE_SPEC = re.compile(r"([0-9]*)-([0-9]*)")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A run of bytes inside a representation.

    Attributes:
        offset: first byte, from 0.
        length: number of bytes, at least 1.
    """

    offset: int
    length: int

    @property
    def last(self) -> int:
        """Position of the last byte, inclusive, as Content-Range wants it."""
        return self.offset + self.length - 1

    def content_range(self, size: int) -> str:
        """Value of Content-Range for a representation of `size` bytes."""
        return f"bytes {self.offset}-{self.last}/{size}"


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """A valid request of which nothing exists: 416.

    Attributes:
        size: size of the representation, in bytes.
    """

    size: int

    @property
    def content_range(self) -> str:
        """Value of Content-Range for the 416 answer."""
        return f"bytes */{self.size}"


def parse_range(header: str | None, size: int) -> list[ByteRange] | Unsatisfiable | None:
    """Find the ranges that `header` asks of a representation of `size` bytes.

    Args:
        header: value of Range, or None where there is none.
        size: size of the representation in bytes, 0 or more.

    Returns:
        None where the whole representation is the answer: no header, another unit than bytes, a syntax error,
        more than `MAX_RANGES` ranges, several overlaps, or more bytes in all than the representation has.
        Otherwise the satisfiable ranges in the order asked for, at least one; or `Unsatisfiable`.
    """
    if header is None:
        return None
    unit, _, range_set = header.partition("=")
    if unit.strip().lower() != "bytes":
        return None
    # Empty list members are legal and mean nothing (RFC 9110 section 5.6.1.2).
    specs = [spec for member in range_set.split(",") if (spec := member.strip(" \t"))]
    if not specs or len(specs) > MAX_RANGES:
        return None
    try:
        ranges = [found for spec in specs if (found := _resolved(spec, size)) is not None]
    except ValueError:
        return None
    if not ranges:
        return Unsatisfiable(size)
    if sum(r.length for r in ranges) > size or _overlaps(ranges) > 1:
        return None
    return ranges


def _resolved(spec: str, size: int) -> ByteRange | None:
    """What of the representation one range names; None: nothing of it. ValueError for what Range is ignored for."""
    match = _RANGE_SPEC.fullmatch(spec)
    if match is None or spec == "-":
        raise ValueError(spec)
    first_digits, last_digits = match.groups()
    if not first_digits:
        suffix = _position(last_digits)
        if suffix and not size:
            # The last n bytes of nothing: satisfiable by section 14.1.2, but no Content-Range can say so.
            raise ValueError(spec)
        length = min(suffix, size)
        return ByteRange(size - length, length) if length else None
    first = _position(first_digits)
    last = _position(last_digits) if last_digits else _BEYOND_ANY_SIZE
    if last < first:
        raise ValueError(spec)
    return ByteRange(first, min(last, size - 1) - first + 1) if first < size else None


def _position(digits: str) -> int:
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= _MAX_DIGITS else _BEYOND_ANY_SIZE


def _overlaps(ranges: list[ByteRange]) -> int:
    """How many ranges begin inside an earlier one (in order of offset); section 14.2 tolerates one."""
    overlaps = 0
    end = -1
    for r in sorted(ranges, key=lambda r: r.offset):
        overlaps += r.offset <= end
        end = max(end, r.last)
    return overlaps
