from __future__ import annotations

import json

import pytest

from gateway.http_errors import response_of
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError, invalid_field


def told(error: ReelwayError) -> tuple[int, object]:
    answer = response_of(error)
    assert answer.text is not None
    return answer.status, json.loads(answer.text)["detail"]


def test_a_wrong_page_token_is_a_wrong_query() -> None:
    item = {"loc": ["query", "next"], "msg": "Invalid page token", "type": "invalid_page_token"}
    assert told(ReelwayError(ErrorReason.INVALID_PAGE_TOKEN)) == (422, [item])


def test_a_wrong_field_is_named() -> None:
    item = {"loc": ["body", "video", "id"], "msg": "not one", "type": "uuid"}
    assert told(invalid_field("video.id", "not one", "uuid")) == (422, [item])


def test_what_names_no_field_is_the_body_s() -> None:
    item = {"loc": ["body"], "msg": "The file is empty", "type": "empty_file"}
    assert told(ReelwayError(ErrorReason.EMPTY_FILE)) == (422, [item])


def test_a_client_that_is_behind_is_told_where_to_go_on() -> None:
    behind = response_of(ReelwayError(ErrorReason.OFFSET_MISMATCH, metadata={"size_bytes": "17"}))
    assert (behind.status, behind.headers["Upload-Offset"]) == (409, "17")
    assert "Upload-Offset" not in response_of(ReelwayError(ErrorReason.UPLOAD_SEALED)).headers


@pytest.mark.parametrize("reason", ErrorReason)
def test_a_client_is_told_what_to_do_next(reason: ErrorReason) -> None:
    answer, (_, detail) = response_of(ReelwayError(reason)), told(ReelwayError(reason))
    assert isinstance(detail, list) == (answer.status == 422)
    assert ("Retry-After" in answer.headers) == (answer.status in (429, 503))
    assert ("WWW-Authenticate" in answer.headers) == (answer.status == 401)
