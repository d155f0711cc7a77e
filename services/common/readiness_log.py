"""What a process that is not ready says of it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from services.common import logs

log = logs.get_logger(__name__)

_AGAIN_SECONDS = 60.0


class ReadinessLog:
    """One line whenever what is missing changes, and one a minute as long as something is.

    The reason may be another one by then: Redis that was away has come back, and knows another password.
    """

    def __init__(self) -> None:
        self._missing: set[str] | None = None
        self._told_at = 0.0

    def tell(self, failures: Mapping[str, str]) -> None:
        """Log what is missing now, and why, by name; nothing: the process is ready."""
        missing, now = set(failures), time.monotonic()
        if missing == self._missing and (not missing or now < self._told_at + _AGAIN_SECONDS):
            return
        self._missing, self._told_at = missing, now
        if failures:
            log.warning("not ready", why="; ".join(f"{name}: {why}" for name, why in failures.items()))
        else:
            log.info("ready")
