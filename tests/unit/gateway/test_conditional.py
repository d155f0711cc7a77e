"""Preconditions: each row of RFC 9110 section 13.2.2, and the comparisons they rest on."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from multidict import CIMultiDict

from gateway.conditional import Outcome, evaluate, http_date, parse_http_date

ETAG = '"v1"'
MODIFIED = datetime(2024, 5, 6, 7, 8, 9, 500_000, tzinfo=UTC)
AT = "Mon, 06 May 2024 07:08:09 GMT"
BEFORE = "Mon, 06 May 2024 07:08:08 GMT"
AFTER = "Mon, 06 May 2024 07:08:10 GMT"

PROCEED, NOT_MODIFIED, FAILED = Outcome.PROCEED, Outcome.NOT_MODIFIED, Outcome.PRECONDITION_FAILED


@pytest.mark.parametrize(
    ("headers", "outcome"),
    [
        ({}, PROCEED),
        ({"If-Match": ETAG}, PROCEED),
        ({"If-Match": "*"}, PROCEED),
        ({"If-Match": '"v0", "v1"'}, PROCEED),
        ({"If-Match": '"v0",,\t"v1" ,'}, PROCEED),
        ({"If-Match": '"a,b", "v1"'}, PROCEED),
        ({"If-Match": '"v0"'}, FAILED),
        ({"If-Match": 'W/"v1"'}, FAILED),
        ({"If-Match": "v1"}, FAILED),
        ({"If-Match": ""}, FAILED),
        ({"If-Unmodified-Since": AT}, PROCEED),
        ({"If-Unmodified-Since": AFTER}, PROCEED),
        ({"If-Unmodified-Since": BEFORE}, FAILED),
        ({"If-Unmodified-Since": "yesterday"}, PROCEED),
        # Not looked at beside If-Match.
        ({"If-Match": ETAG, "If-Unmodified-Since": BEFORE}, PROCEED),
        ({"If-None-Match": ETAG}, NOT_MODIFIED),
        ({"If-None-Match": 'W/"v1"'}, NOT_MODIFIED),
        ({"If-None-Match": '"v0", W/"v1"'}, NOT_MODIFIED),
        ({"If-None-Match": "*"}, NOT_MODIFIED),
        ({"If-None-Match": '"v0"'}, PROCEED),
        ({"If-None-Match": 'w/"v1"'}, PROCEED),
        ({"If-None-Match": '"v0" "v1"'}, PROCEED),
        ({"If-Modified-Since": AT}, NOT_MODIFIED),
        ({"If-Modified-Since": AFTER}, NOT_MODIFIED),
        ({"If-Modified-Since": BEFORE}, PROCEED),
        ({"If-Modified-Since": "0"}, PROCEED),
        # Not looked at beside If-None-Match.
        ({"If-None-Match": '"v0"', "If-Modified-Since": AFTER}, PROCEED),
        # If-Match is judged first.
        ({"If-Match": '"v0"', "If-None-Match": ETAG}, FAILED),
        ({"If-Match": ETAG, "If-None-Match": ETAG}, NOT_MODIFIED),
        ({"If-Unmodified-Since": BEFORE, "If-None-Match": ETAG}, FAILED),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_reading(method: str, headers: dict[str, str], outcome: Outcome) -> None:
    assert evaluate(method, CIMultiDict(headers), ETAG, MODIFIED).outcome is outcome


@pytest.mark.parametrize(
    ("headers", "outcome"),
    [
        ({"If-None-Match": "*"}, FAILED),
        ({"If-None-Match": ETAG}, FAILED),
        ({"If-None-Match": '"v0"'}, PROCEED),
        ({"If-Modified-Since": AFTER}, PROCEED),
    ],
)
def test_changing(headers: dict[str, str], outcome: Outcome) -> None:
    assert evaluate("DELETE", CIMultiDict(headers), ETAG, MODIFIED).outcome is outcome


def test_lines_of_one_field_are_one_list() -> None:
    headers = CIMultiDict([("If-None-Match", '"v0"'), ("If-None-Match", ETAG)])
    assert evaluate("GET", headers, ETAG, MODIFIED).outcome is NOT_MODIFIED


@pytest.mark.parametrize(
    ("if_range", "applies"),
    [
        (None, True),
        (ETAG, True),
        (f" {ETAG} ", True),
        ('"v0"', False),
        ('W/"v1"', False),
        ('"v0", "v1"', False),
        ("*", False),
        ("v1", False),
        (AT, True),
        (BEFORE, False),
        # A date has to be the very one, not a later one.
        (AFTER, False),
        ("", False),
    ],
)
def test_if_range(if_range: str | None, applies: bool) -> None:
    headers = CIMultiDict({"If-Range": if_range} if if_range is not None else {})
    decision = evaluate("GET", headers, ETAG, MODIFIED)
    assert (decision.outcome, decision.range_applies) == (PROCEED, applies)


def test_range_is_for_get_alone() -> None:
    assert not evaluate("HEAD", CIMultiDict(), ETAG, MODIFIED).range_applies


@pytest.mark.parametrize(
    "text", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
def test_dates_in_three_forms(text: str) -> None:
    assert parse_http_date(text) == datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


def test_two_digit_years_far_ahead_are_past() -> None:
    year = (datetime.now(UTC).year + 60) % 100
    parsed = parse_http_date(f"Sunday, 06-Nov-{year:02} 08:49:37 GMT")
    assert parsed is not None
    assert parsed < datetime.now(UTC)


@pytest.mark.parametrize("text", [None, "", "0", "-1", "Sun, 06 Nov 1994 08:49:37 +0100", "1994-11-06T08:49:37Z"])
def test_other_dates_are_none(text: str | None) -> None:
    assert parse_http_date(text) is None


def test_http_date() -> None:
    assert http_date(MODIFIED) == AT
