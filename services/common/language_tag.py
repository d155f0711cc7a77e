"""Language tags as clients write them."""

from __future__ import annotations

import re


def primary_language(tag: str) -> str:
    """ISO 639-1 (or a three-letter code) in lower case from `en`, `EN` or `en-US`; empty stays empty.

    Raises:
        ValueError: not a language tag.
    """
    plain = tag.strip().lower()
    found = re.fullmatch("([a-z]{2,3})([-_][a-z0-9]{1,8})*", plain)
    if plain and found is None:
        raise ValueError("not a language code")
    return found[1] if found else ""
