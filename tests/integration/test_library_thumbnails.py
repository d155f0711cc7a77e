"""Presigned URLs of thumbnails: made once a day, unless what they are signed with does not last so long."""

import uuid
from unittest.mock import Mock

import pytest

from services.catalog.thumbnails import Thumbnails
from services.common.s3_objects import S3Objects
from services.common.settings import S3Settings
from tests.support.costs import others_run
from tests.support.foundation import TurnedClock


@pytest.mark.parametrize(("token", "reused_seconds"), [("", 86_000), ("session-token", 200)])
async def test_an_address_is_used_again_while_its_signature_lasts(
    monkeypatch: pytest.MonkeyPatch, token: str, reused_seconds: float
) -> None:
    """Nothing is asked: whoever signs needs no store. The platform's own keys come with a token, and end in hours."""
    for name, value in {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "SESSION_TOKEN": token}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    clock, signed = TurnedClock(), list[str]()
    async with S3Objects.open(S3Settings(S3_BUCKET="b", aws_access_key_id="", aws_secret_access_key="")) as objects:
        presign_get = objects.presign_get

        async def noted(*arguments: object) -> str:
            signed.append(await presign_get(*arguments))  # type: ignore[arg-type]
            return signed[-1]

        monkeypatch.setattr(objects, "presign_get", noted)
        thumbnails = Thumbnails(objects, clock)
        first = await thumbnails.url("thumbnails/x.jpg")
        assert ("X-Amz-Security-Token" in first) is bool(token)
        assert "X-Amz-Expires=604800" in first, "for days after the last time that it is given out"
        clock.ahead = reused_seconds
        assert await thumbnails.url("thumbnails/x.jpg") == first
        assert len(signed) == 1
        clock.ahead = 2 * reused_seconds
        await thumbnails.url("thumbnails/x.jpg")
        assert len(signed) == 2


async def test_an_address_that_a_clock_ahead_signed_is_made_anew_when_that_is_set_right() -> None:
    """The store refuses a signature from the future."""
    clock, objects = TurnedClock(), Mock(spec=S3Objects)
    objects.presign_get.side_effect = ["from the future", "of now"]
    thumbnails = Thumbnails(objects, clock)
    clock.ahead = 3600
    assert await thumbnails.url("thumbnails/x.jpg") == "from the future"
    clock.ahead = 0
    for _ in range(2):
        assert await thumbnails.url("thumbnails/x.jpg") == "of now"


async def test_others_run_while_a_page_is_signed() -> None:
    settings = S3Settings(S3_BUCKET="b", aws_access_key_id="key", aws_secret_access_key="secret")
    async with S3Objects.open(settings) as objects:
        thumbnails = Thumbnails(objects, TurnedClock())

        async def sign_anew() -> None:
            for _ in range(200):
                await thumbnails.url(f"thumbnails/{uuid.uuid4()}.jpg")

        await others_run(sign_anew)
