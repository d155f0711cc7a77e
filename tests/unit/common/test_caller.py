"""The caller in call metadata: the same on both sides, and harmless in a log line."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.caller import NOBODY, Caller, current_caller, from_metadata, new_request_id, set_caller


@given(st.text(min_size=1, max_size=255), st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True))
def test_a_caller_survives_the_wire(user: str, request_id: str) -> None:
    caller = Caller(user, request_id)
    pairs: tuple[tuple[str, str | bytes], ...] = caller.metadata()
    for key, value in pairs:
        assert isinstance(value, bytes) == key.endswith("-bin")
    assert from_metadata(pairs) == caller


def test_nobody_is_nobody_on_the_other_side() -> None:
    assert from_metadata(Caller(request_id="abc").metadata()).user == ""
    assert from_metadata(None).user == ""


@pytest.mark.parametrize("offered", ["ok", "A.b_c-9", "x" * 64])
def test_a_client_s_own_request_id_is_kept(offered: str) -> None:
    assert new_request_id(offered) == offered


@pytest.mark.parametrize("offered", [None, "", "x" * 65, "a b", "a\nb", "id=1", "ü", "<script>", "abc\n"])
def test_any_other_is_replaced(offered: str | None) -> None:
    fresh = new_request_id(offered)
    assert fresh != offered
    assert new_request_id(fresh) == fresh


async def test_each_task_has_its_own_caller() -> None:
    async def serve(user: str) -> str:
        set_caller(Caller(user))
        await asyncio.sleep(0)
        return current_caller().user

    assert list(await asyncio.gather(serve("anna"), serve("berta"))) == ["anna", "berta"]
    assert current_caller() is NOBODY
