"""How long jobs live, how often they are tried, and how many there may be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JobPolicy:
    """The numbers of a job's life; the settings of the same names explain them."""

    lease_seconds: float = 60.0
    tries_max: int = 3
    backoff_seconds: float = 5.0
    outage_seconds: float = 6 * 3600.0
    lost_workers_max: int = 4
    keep_completed_seconds: float = 7 * 86400.0
    keep_failed_seconds: float = 30 * 86400.0
    kept_max: int = 10_000
    queued_max: int = 10_000
    running_max: int = 0
