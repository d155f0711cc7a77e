"""Opaque page tokens of the task list: a stable position, not an offset."""

from __future__ import annotations

from services.common.opaque_token import seal, unseal


def encode(created_ms: int, job_id: str) -> str:
    """A token for the page that begins behind this job."""
    return seal(f"t1:{created_ms}:{job_id}")


def decode(token: str) -> tuple[int, str]:
    """(created_ms, id) behind which the page begins; INVALID_PAGE_TOKEN for what `encode` did not make."""
    position = unseal(token, r"t1:(0|[1-9][0-9]{0,14}):([0-9a-f-]{36})")
    return int(position[1]), position[2]
