"""Header values of the form `value; name=value; name="value"`, as browsers and tools really send them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from aiohttp import hdrs, web

_PARAMETER = re.compile(r""";[ \t]*([^\s;="]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"(?=[ \t]*(?:;|$))|[^;]*)""", re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')
# Python has more, whose decoders may take minutes for a MiB, and keeps each name for ever that it looks for in vain.
_CHARSETS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "iso8859-1",
    "iso8859-1": "iso8859-1",
    "latin-1": "iso8859-1",
    "latin1": "iso8859-1",
    "windows-1252": "cp1252",
    "cp1252": "cp1252",
}


def parse_parameters(header: str) -> tuple[str, dict[str, str]]:
    """Split `header` into its value, in lower case, and its parameters by lower-case name; the first of a name wins.

    Extended parameters (`name*=UTF-8''…`, RFC 8187) are decoded and replace the plain ones of that name. In a
    quoted string a backslash escapes only a quote or itself: old browsers send whole Windows paths.
    """
    value, _, _ = header.partition(";")
    parameters: dict[str, str] = {}
    extended: dict[str, str] = {}
    for match in _PARAMETER.finditer(header, len(value)):
        name, text = match.group(1).lower(), match.group(2).strip()
        if len(text) > 1 and text[0] == text[-1] == '"':
            text = _ESCAPED.sub(r"\1", text[1:-1])
        if name.endswith("*"):
            decoded = _extended(text)
            if decoded is not None:
                extended.setdefault(name[:-1], decoded)
        else:
            parameters.setdefault(name, text)
    return value.strip().lower(), parameters | extended


def content_type_of(request: web.Request) -> tuple[str, dict[str, str]]:
    """What a request's body is, and the parameters of that; an empty type where it does not say.

    aiohttp asks Python's parser of mails, which takes half a second for 8000 semicolons, and breaks on others.
    """
    return parse_parameters(request.headers.get(hdrs.CONTENT_TYPE, ""))


def codec_of(parameters: Mapping[str, str]) -> str:
    """Python's name of the charset among the parameters of a type, utf-8 where there is none.

    Raises:
        LookupError: a charset that is not known.
    """
    return _CHARSETS[(parameters.get("charset") or "utf-8").lower().replace("_", "-")]


def _extended(text: str) -> str | None:
    charset, _, rest = text.partition("'")
    _, quote, encoded = rest.partition("'")
    if not quote or charset.lower() not in ("utf-8", "iso-8859-1"):
        return None
    return unquote(encoded, encoding=charset)
