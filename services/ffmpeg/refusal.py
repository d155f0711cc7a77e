"""How the policy says no."""

from __future__ import annotations

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

_SUBJECT_CHARS, _WHY_CHARS = 80, 240


def shown(text: str, limit: int) -> str:
    """`text` cut and without control characters, fit to be quoted in an error."""
    clean = "".join(char if char.isprintable() else "?" for char in text)
    return clean if len(clean) <= limit else f"{clean[:limit]}…"


class CommandRefused(ReelwayError):
    """A command that will not run: names the option, filter or value, and why. HTTP 400."""

    def __init__(self, subject: str, why: str) -> None:
        subject, why = shown(subject, _SUBJECT_CHARS), shown(why, _WHY_CHARS)
        super().__init__(
            ErrorReason.COMMAND_REFUSED,
            f"{subject}: {why}" if subject else why,
            metadata={"subject": subject, "why": why},
        )
