"""Language tags as clients write them."""

from __future__ import annotations

import re


def primary_language(tag: str) -> str:
    """ISO 639-1 (or a three-letter code) in lower case from `en`, `EN` or `en-US`; empty stays empty.

    Raises:
        ValueError: not a language tag.
    """
    primary = re.split("[-_]", tag.strip().lower())[0]
    if primary and not re.fullmatch("[a-z]{2,3}", primary):
        raise ValueError("not a language code")
    return primary
