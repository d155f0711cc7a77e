"""What the gateway's tests share."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.unit.gateway.stall_rig import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """By which whoever is slow is judged: a machine with much to do makes nobody slow."""
    made = Clock()
    monkeypatch.setattr("gateway.stall_watch.asyncio", SimpleNamespace(get_running_loop=lambda: made))
    return made
