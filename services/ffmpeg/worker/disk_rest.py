"""When a worker whose disk was full takes jobs again."""

from __future__ import annotations

import time
from collections.abc import Callable

_LEAST_SECONDS, _MOST_SECONDS = 5.0, 60.0


class DiskRest:
    """A pause in which others take the jobs, as long as the disk has been full: so it doubles.

    By time alone, because nobody knows how much room a job needs; the next jobs show.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._full_since: float | None = None
        self._ends = float("-inf")

    def met_full_disk(self) -> None:
        """An attempt ended for want of room."""
        now = self._monotonic()
        if self._full_since is None:
            self._full_since = now
        self._ends = now + min(max(now - self._full_since, _LEAST_SECONDS), _MOST_SECONDS)

    def had_room(self) -> None:
        """An attempt was completed; a rest that was begun goes on."""
        self._full_since = None

    @property
    def lasts(self) -> bool:
        """Take no jobs."""
        return self._monotonic() < self._ends
