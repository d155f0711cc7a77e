"""A page's token is a position in the list, and no other text is one."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common import page_token
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError


@given(st.integers(0, 2**53))
def test_a_page_token_comes_back(number: int) -> None:
    assert page_token.decode_number(page_token.encode_number(number)) == number


@given(st.text(max_size=40))
@settings(suppress_health_check=[HealthCheck.filter_too_much])
def test_any_other_token_is_refused(token: str) -> None:
    try:
        number = page_token.decode_number(token)
    except ReelwayError as error:
        assert error.reason is ErrorReason.INVALID_PAGE_TOKEN
    else:
        assert page_token.encode_number(number) == token
