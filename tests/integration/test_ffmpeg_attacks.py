"""The attacks of tests/data straight into the cage, as if the policy had let them through.

As a client would come, through the policy, they are in tests/e2e/test_ffmpeg_attacks_rest.py. Cases run some at a time
in one fixture; each has its own secrets, so that what was touched is known to the case.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from services.ffmpeg.binaries import find
from services.ffmpeg.isolation import detect_layers
from services.ffmpeg.limits import Limits
from services.ffmpeg.process import run_sandboxed
from services.ffmpeg.sandbox import Layers, Sandbox
from services.ffmpeg.work_folder import WorkFolder, WorkRoot
from tests.support.ffmpeg_world import ATTACKS, CANARY, ENVIRONMENT_SECRET, RunningWorld, World, case_by_id
from tests.support.programs import installed

LIMITS = Limits(wall_seconds=4, cpu_seconds=2, memory_bytes=2**30, output_bytes=20 * 2**20, output_files=40, threads=2)
# What reads, writes or reaches something. Loading code is what only the policy (or an ffmpeg without such filters)
# prevents; in the cage it can do nothing more than the job itself could.
CLASSES = {
    *("local-read", "write-outside", "network", "hostile-input-content", "filter-escape", "option-abbrev"),
    "more-playlists",
}
CASES = [case["id"] for case in ATTACKS["cases"] if case["class"] in CLASSES]
AT_ONCE = 4


@dataclass
class Outcome:
    """What a case came to."""

    shown: bytes = b""
    """Everything that came out: outputs and log."""
    touched: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with RunningWorld(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox(installed(), find().ffprobe, detect_layers())


def _contents(folder: WorkFolder) -> bytes:
    return b"".join(path.read_bytes() for path in (folder.path / "out").rglob("*") if path.is_file())


async def _straight_into_the_cage(world: World, sandbox: Sandbox, root: WorkRoot, case_id: str) -> Outcome:
    """The command as the client wrote it, placeholders replaced wherever they stand, no policy before it."""
    request = case_by_id(case_id)["request"]
    name = f"cage{len(world.eyes._watched)}-{case_id}"
    world.place(name)
    for served, instead in case_by_id(case_id).get("serve_as", {}).items():
        world.serve_as[f"{name}/{served}"] = instead
    folder = root.create(case_id)
    files = {}
    for key, url in request["input_files"].items():
        path = folder.path / "in" / Path(url).name
        path.write_bytes(world.fixture(name, path.name) or b"")
        files[key] = str(path)
    files |= {key: str(folder.path / "out" / output) for key, output in request["output_files"].items()}
    words = [_substituted(word, files) for word in shlex.split(world.fill(request["ffmpeg_command"], name))]
    argv = [sandbox.ffmpeg, "-y", "-nostdin", *words]
    try:
        result = await run_sandboxed(sandbox, argv, folder, LIMITS)
        return Outcome(shown=result.stderr + _contents(folder))
    finally:
        folder.remove()


def _substituted(word: str, files: dict[str, str]) -> str:
    return re.sub(r"\{\{\s*(\w+)\s*\}\}|\b(in_\d+|out_\d+)\b", lambda m: files.get(m[1] or m[2], m[0]), word)


async def _all(world: World, sandbox: Sandbox, root: WorkRoot, cases: list[str]) -> dict[str, Outcome]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(case_id: str) -> Outcome:
        async with gate:
            return await _straight_into_the_cage(world, sandbox, root, case_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.ffmpeg.process._require_whitelists", lambda argv: None)
        outcomes = dict(zip(cases, await asyncio.gather(*map(one, cases)), strict=True))
    world.eyes.look()
    for watched, names in world.eyes.seen.items():
        place, _, kind = watched.partition(":")
        case_id = place.partition("-")[2]
        if case_id in outcomes:
            outcomes[case_id].touched += [f"{kind}/{name}" for name in names]
    return outcomes


@pytest.fixture(scope="module")
async def in_the_cage(world: World, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    root = WorkRoot(tmp_path_factory.mktemp("cage") / "work")
    outcomes = await _all(world, sandbox, root, CASES)
    root.close()
    return outcomes


def _nothing_shown(outcome: Outcome, world: World) -> None:
    assert CANARY.encode() not in outcome.shown
    assert ENVIRONMENT_SECRET.encode() not in outcome.shown
    assert outcome.touched == []
    assert world.reached == []


@pytest.mark.parametrize("case_id", CASES)
def test_the_cage_alone_holds_it(case_id: str, in_the_cage: dict[str, Outcome], world: World) -> None:
    _nothing_shown(in_the_cage[case_id], world)


@pytest.mark.parametrize(
    ("case_id", "shows"),
    [("R01", "secret"), ("R09", "secret"), ("R24", "secret"), ("W01", "outside"), ("W09", "outside"),
     ("N01", "network"), ("R33", "canary env"), ("H02", "secret")],
)  # fmt: skip
async def test_without_the_cage_the_eyes_would_see_it(
    case_id: str, shows: str, world: World, sandbox: Sandbox, in_the_cage: dict[str, Outcome]
) -> None:
    """The control: the same attack with no layer up does what it is there for, and the tests above would notice."""
    bare = replace(sandbox, layers=Layers(0, seccomp=False))
    root = WorkRoot(world.root / f"bare-{case_id}")
    before = len(world.reached)
    outcome = (await _all(world, bare, root, [case_id]))[case_id]
    root.close()
    reached, world.reached[before:] = world.reached[before:], []
    match shows:
        case "network":
            assert reached == ["tcp"]
        case "canary env":
            assert b"HOME=/nonexistent" in outcome.shown
        case _:
            assert any(touched.startswith(shows) for touched in outcome.touched)
