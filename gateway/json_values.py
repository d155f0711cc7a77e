"""How many values a body in JSON may have: each costs a parser up to a hundred times its bytes."""

from __future__ import annotations

from gateway.invalid_request import InvalidRequestError

# Each value but the first follows one of these, in any encoding; those inside texts are counted, too.
_MARKS = (b"[", b"{", b",")


def check_number_of_values(body: bytes, most: int) -> None:
    """Refuse a body with more values, before it is parsed.

    Raises:
        InvalidRequestError: it has more.
    """
    if sum(map(body.count, _MARKS)) > most:
        raise InvalidRequestError.at("body", msg="Too many values", kind="json_invalid")
