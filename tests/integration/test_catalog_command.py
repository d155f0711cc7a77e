"""`python -m services.catalog rebuild`."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from services.catalog.__main__ import main
from tests.integration.catalog_rig import catalogue, fill
from tests.support.foundation import Foundation, Store


async def run_command(environment: dict[str, str], *arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.catalog",
        *arguments,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    out, told = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out.decode(), told.decode()


async def test_the_command_rebuilds_and_tells_what_it_found(
    juicefs_store: Store, near: Foundation, clean_redis: str
) -> None:
    await fill(near)
    before = await catalogue(near)
    await near.redis.flushall()
    environment = juicefs_store.server.environment | {"REDIS_URL": clean_redis}
    status, out, _ = await run_command(environment, "rebuild")
    assert status == 0
    assert json.loads(out) == {"videos": 4, "tombstones": 1, "unreadable": 0, "without_bytes": 0}
    assert await catalogue(near) == before
    assert await near.rebuild_lease().take(), "it gave its lease back"


async def test_the_command_says_in_one_line_why_it_cannot(juicefs_store: Store) -> None:
    status, _, told = await run_command(
        juicefs_store.server.environment | {"REDIS_URL": "redis://127.0.0.1:1/0"}, "rebuild"
    )
    assert status == 1
    assert [line for line in told.splitlines() if not line.startswith("{")] == [
        "rebuild: Storage is not available right now"
    ]


def test_a_command_that_there_is_not_is_told_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["services.catalog", "rebiuld"])
    # Told on standard error, with status 1, as every SystemExit with a text.
    with pytest.raises(SystemExit, match=r"^usage: python -m services\.catalog \[rebuild\]$"):
        main()
