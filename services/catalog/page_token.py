"""Opaque page tokens: a stable position, not an offset."""

from __future__ import annotations

from services.common.opaque_token import seal, unseal


def encode(after_number: int) -> str:
    """A token for the page that begins behind this number."""
    return seal(f"n1:{after_number}")


def decode(token: str) -> int:
    """The number behind which the page begins; INVALID_PAGE_TOKEN for a token that `encode` did not make."""
    return int(unseal(token, r"n1:(0|[1-9][0-9]{0,18})")[1])


def encode_place(kind: str, score: int, video_id: str) -> str:
    """A token for the page of a list of `kind` (a word) that begins behind this video."""
    return seal(f"{kind}:{score}:{video_id}")


def decode_place(kind: str, token: str) -> tuple[int, str]:
    """Score and id of the video behind which the page begins; INVALID_PAGE_TOKEN for one of no list of `kind`."""
    place = unseal(token, rf"{kind}:(0|[1-9][0-9]{{0,15}}):([0-9a-f-]{{36}})")
    return int(place[1]), place[2]
