"""Call tokens where the clocks are not what they were: set forward or back, or asleep."""

import time
from dataclasses import dataclass

import jwt
import pytest

from services.common import call_token
from services.common.call_token import CallTokens

SECRET = "s" * 32


@dataclass
class Clocks:
    """Stands for the module `time`."""

    wall: float
    since_start: float = 1000.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.since_start


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    found = Clocks(time.time())
    monkeypatch.setattr(call_token, "time", found)
    return found


@pytest.mark.parametrize(
    ("wall", "since_start", "again"),
    [
        (0, 0, False),
        (59, 59, False),
        (61, 61, True),
        (600, 0, True),  # set forward, or asleep: the token has expired for those who check it
        (-600, 0, True),  # set back: it would be refused as one that lives too long
        (0, 61, True),
    ],
)
def test_a_token_is_made_again_where_either_clock_says_so(
    clocks: Clocks, wall: float, since_start: float, again: bool
) -> None:
    tokens = CallTokens(SECRET)
    clocks.wall += 1000
    first = tokens.make("somebody")
    clocks.wall += wall
    clocks.since_start += since_start
    second = tokens.make("somebody")
    assert (tokens.make("somebody") is second) and ((second is not first) is again)


def test_a_token_of_another_library_is_taken_where_its_clock_is_ahead() -> None:
    now = int(time.time())
    token = jwt.encode({"aud": "reelway", "sub": "somebody", "iat": now + 10, "exp": now + 70}, SECRET, "HS256")
    assert CallTokens(SECRET).user(token) == "somebody"
