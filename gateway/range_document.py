"""How a route that answers with `range_response.respond` is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.byte_range import MAX_RANGES
from gateway.invalid_request import ErrorBody
from gateway.routing import Answer

#: Request headers such a route looks at; for `request_headers` of the route.
RANGE_REQUEST_HEADERS: Mapping[str, str] = {
    "Range": "`bytes=first-last`, open or suffix ranges, or several of them (RFC 9110 section 14); with more "
    f"than {MAX_RANGES} the answer is the whole file.",
    "If-Range": "An ETag, or the exact Last-Modified: Range is ignored unless it is current.",
    "If-Match": "Strong ETags or `*`; 412 when none is current.",
    "If-None-Match": "ETags or `*`; 304 when one is current.",
    "If-Modified-Since": "304 when nothing changed since; ignored beside If-None-Match.",
    "If-Unmodified-Since": "412 when something changed since; ignored beside If-Match.",
}

_VALIDATORS = {
    "ETag": "Strong; changes with the bytes.",
    "Last-Modified": "Time of the last change.",
    "Accept-Ranges": "`bytes`.",
    "Cache-Control": "How long, and by whom, the answer may be kept.",
}
_BODY = {
    **_VALIDATORS,
    "Content-Disposition": "inline or attachment, and the file name.",
    "Content-Length": "Exact, also for HEAD.",
    "X-Content-Type-Options": "`nosniff`.",
}


def range_answers(media_types: Sequence[str]) -> dict[int, Answer]:
    """The statuses of a route that serves bytes of one of `media_types`; for `answers` of the route.

    Range is defined for GET alone (RFC 9110 section 14.2).
    """
    return {
        200: Answer("The whole file", media_types=media_types, headers=_BODY),
        304: Answer("The client's copy is current", headers=_VALIDATORS),
        412: Answer("A precondition does not hold", ErrorBody, headers=_VALIDATORS),
        206: Answer(
            "One range, or several as multipart/byteranges",
            media_types=(*media_types, "multipart/byteranges"),
            headers={**_BODY, "Content-Range": "`bytes first-last/size`; of several ranges, in each part instead."},
            to_head=False,
        ),
        416: Answer(
            "The range is outside the file",
            ErrorBody,
            headers={**_VALIDATORS, "Content-Range": "`bytes */size`."},
            to_head=False,
        ),
    }
