"""Places at which a process can be told to die, so that tests see what a crash there leaves.

Inert unless a process is started with FAULT_POINT=name, or name@n for the n-th time it gets there.
"""

from __future__ import annotations

import os
import signal


class _Armed:
    """The one point of this process at which it dies."""

    name = ""
    times = 1


def arm(point: str) -> None:
    """Die at this point, `name` or `name@n`; empty: nowhere."""
    _Armed.name, _, times = point.partition("@")
    _Armed.times = int(times or 1)


def reach(name: str) -> None:
    """Mark a point; the process ends here by SIGKILL if it is the armed one."""
    if name == _Armed.name:
        _Armed.times -= 1
        if _Armed.times == 0:
            os.kill(os.getpid(), signal.SIGKILL)
