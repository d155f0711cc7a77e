"""How the policy says no."""

from __future__ import annotations

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

_SHOWN = 80


def shown(text: str) -> str:
    """`text` cut and without control characters, fit to be quoted in an error."""
    clean = "".join(char if char.isprintable() else "?" for char in text)
    return clean if len(clean) <= _SHOWN else f"{clean[:_SHOWN]}…"


class CommandRefused(ReelwayError):
    """A command that will not run: names the option, filter or value, and why. HTTP 400."""

    def __init__(self, subject: str, why: str) -> None:
        self.subject = shown(subject)
        self.why = why
        super().__init__(
            ErrorReason.COMMAND_REFUSED,
            f"{self.subject}: {why}" if subject else why,
            metadata={"subject": self.subject, "why": why},
        )
