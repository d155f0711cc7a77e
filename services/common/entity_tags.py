"""The entity tags of videos: with quotes, and strong, so that bytes with one tag are the same bytes for ever.

"{32 hex}"                              a whole file: the first half of its SHA-256
"{32 hex}-{size in hex}"                the chunks of a journal: a sum of them in their order, and their size
"{32 hex}-{size in hex}-{ext}-{12 hex}" the clips of the journal with that tag, joined to one file of this kind
"""

from __future__ import annotations

import hashlib
import re

# Sizes are below 2^53; what is longer is no number that Redis, or Python's str, would take.
_JOURNAL = "[0-9a-f]{32}-([0-9a-f]{1,14})"
_OF_JOURNAL = re.compile(f'"{_JOURNAL}"')
_OF_JOINED = re.compile(f'"({_JOURNAL})-[a-z0-9]+-[0-9a-f]{{12}}"')


def of_file(sha256: str) -> str:
    """Of a file with this hexadecimal sum."""
    return f'"{sha256[:32]}"'


def of_journal(before: str, chunk_etag: str, size: int) -> str:
    """Of an upload of `size` bytes that had another tag before this chunk, as journal_commit.lua makes it.

    Made of what S3 lists, so that a journal that is restored from S3 has the tags that it had.
    """
    chain = hashlib.sha1(f"{before}{chunk_etag}{size}".encode(), usedforsecurity=False).hexdigest()[:32]
    return f'"{chain}-{size:x}"'


def of_joined(journal: str, extension: str, stored_etag: str) -> str:
    """Of what was made of the journal version with this tag; `stored_etag` is S3's.

    An encode made twice differs: who reads one must not go on in the other.
    """
    made = hashlib.sha256(stored_etag.encode()).hexdigest()[:12]
    return f'"{unquoted(journal)}-{extension}-{made}"'


def journal_size(etag: str) -> int:
    """How long the journal's version with this tag was; -1 for a tag that no journal makes."""
    found = _OF_JOURNAL.fullmatch(etag)
    return int(found[1], 16) if found else -1


def journal_of_joined(etag: str) -> str:
    """Of the version that the joined file with this tag was made of; empty for a tag that no joined file has."""
    found = _OF_JOINED.fullmatch(etag)
    return f'"{found[1]}"' if found else ""


def unquoted(etag: str) -> str:
    """As a part of an object's key, or of a task's request id."""
    return etag.strip('"')
