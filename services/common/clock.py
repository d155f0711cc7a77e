"""Time as an argument, so that tests turn it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the rest of the code knows of time."""

    def now(self) -> datetime:
        """Aware, UTC."""
        ...

    def seconds(self) -> float:
        """Unix time in seconds."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Aware, UTC."""
        return datetime.now(UTC)

    def seconds(self) -> float:
        """Unix time in seconds."""
        return time.time()
