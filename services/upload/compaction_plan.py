"""Pure arithmetic: which parts of a multipart upload make one object of a journal's extents.

S3 wants 1 to 10 000 parts of 5 MiB to 5 GiB, the last one of any size
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html). A part is either copied inside the store, from
one extent, or gathered: small extents are read and written together. A gathered run that is still too small when
a large extent comes borrows from the beginning of that.

The plan depends on the extents alone, so that whoever goes on with a compaction finds the parts that are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.common.extents import Extent
from services.common.s3_objects import Slice
from services.upload.part_plan import MIB, MOST_PARTS

S3_SMALLEST_PART = 5 * MIB
_GATHERED = 8 * MIB
_LARGEST_COPY = 1024 * MIB


@dataclass
class PartPlan:
    """One part: the slices that it consists of, in order."""

    slices: list[Slice] = field(default_factory=list)
    copied: bool = False
    """Inside the store, from the one slice that there is."""

    @property
    def length(self) -> int:
        """Bytes."""
        return sum(one.length for one in self.slices)


def plan(extents: Sequence[Extent]) -> list[PartPlan]:
    """The parts, in order; none for no extents."""
    total = extents[-1].end if extents else 0
    least = max(S3_SMALLEST_PART, -(-total // (MOST_PARTS - 1)))
    gathered = max(_GATHERED, least)
    parts: list[PartPlan] = []
    run, size = PartPlan(), 0

    def end_run() -> None:
        nonlocal run, size
        if size:
            parts.append(run)
        run, size = PartPlan(), 0

    def gather(piece: Slice) -> None:
        nonlocal size
        run.slices.append(piece)
        size += piece.length
        if size >= gathered:
            end_run()

    for extent in extents:
        rest = Slice(extent.key, 0, extent.length)
        if rest.length >= least and 0 < size < least:
            borrowed = least - size
            gather(Slice(rest.key, 0, borrowed))
            rest = Slice(rest.key, borrowed, rest.length - borrowed)
        if rest.length >= least:
            end_run()
            while rest.length > _LARGEST_COPY + least:
                parts.append(PartPlan([Slice(rest.key, rest.start, _LARGEST_COPY)], copied=True))
                rest = Slice(rest.key, rest.start + _LARGEST_COPY, rest.length - _LARGEST_COPY)
            parts.append(PartPlan([rest], copied=True))
        elif rest.length:
            gather(rest)
    end_run()
    return parts
