"""Every case of tests/data/ffmpeg_attacks.json against the real ffmpeg in the real cage.

Twice: through the policy, as a client would come; and what the policy refuses once more straight into the cage, as if
the policy had let it through. Cases run three at a time in one fixture; each has its own secrets, so that what was
touched is known to the case.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aiohttp.abc import ResolveResult

from services.common.errors import ReelwayError
from services.ffmpeg.addresses import AddressPolicy
from services.ffmpeg.binaries import find
from services.ffmpeg.command_policy import plan
from services.ffmpeg.command_run import CommandFailed, run_plan
from services.ffmpeg.download import DownloadFailed, DownloadLimits, Fetcher
from services.ffmpeg.isolation import detect_layers
from services.ffmpeg.limits import Limits
from services.ffmpeg.probe import probe
from services.ffmpeg.process import run_sandboxed
from services.ffmpeg.sandbox import Layers, Sandbox
from services.ffmpeg.work_folder import WorkFolder, WorkRoot
from tests.support.ffmpeg_world import ATTACKS, CANARY, ENVIRONMENT_SECRET, RunningWorld, World, case_by_id
from tests.support.programs import installed

CASES = [case["id"] for case in ATTACKS["cases"]]
LIMITS = Limits(
    wall_seconds=10, cpu_seconds=10, memory_bytes=2**30, output_bytes=20 * 2**20, output_files=40, threads=2
)
# Loading code is what only the policy (or an ffmpeg without such filters) prevents; in the cage it can do nothing more
# than the job itself could. The others have nothing to run, or nothing to break.
NOT_FOR_THE_CAGE = {"code-exec", "api-names", "ssrf", "ssrf-dns", "download-limits", "legit"}
DOWNLOADS = DownloadLimits(
    max_bytes=20 * 2**20, total_seconds=10, connect_seconds=2, grace_seconds=1, min_bytes_per_second=1024
)


@dataclass
class Outcome:
    """What a case came to."""

    submit: str = "2xx"
    final: str = "succeeded"
    why: str = ""
    """The refusal or the error, as a client would see it."""
    shown: bytes = b""
    """Everything that came out: outputs, log, message."""
    streams: list[str] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with RunningWorld(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox(installed(), find("ffprobe"), detect_layers())


class _Names:
    """Stands for the system's resolver: every name is this machine's."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        if not host.endswith(".test"):
            raise OSError("no such name")
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=2, proto=6, flags=0)]

    async def close(self) -> None:
        """Nothing is held."""


async def _as_client(world: World, sandbox: Sandbox, root: WorkRoot, case_id: str) -> Outcome:
    """Register, fetch, run: what a client's request goes through."""
    case = case_by_id(case_id)
    request = case["request"]
    name = f"client-{case_id}"
    world.place(name)
    for served, instead in case.get("serve_as", {}).items():
        world.serve_as[f"{name}/{served}"] = instead
    inputs = {key: world.fill(url, name) for key, url in request["input_files"].items()}
    policy = AddressPolicy.parse([f"127.0.0.1:{world.fixture_port}"])
    try:
        made = plan(world.fill(request["ffmpeg_command"], name), inputs, request["output_files"], LIMITS)
        for file in made.inputs:
            policy.check_url(file.url)
    except ReelwayError as error:
        assert error.kind.http_status == 400
        return Outcome(submit="4xx", final="rejected", why=error.message, shown=error.message.encode())
    folder = root.create(case_id)
    fetcher = Fetcher(policy, DOWNLOADS, _Names())
    try:
        for file in made.inputs:
            await fetcher.fetch(file.url, folder.path / file.path)
        outputs, result = await run_plan(sandbox, made, folder, lambda _: None)
        shown = [result.stderr]
        for output in outputs:
            with os.fdopen(output.descriptor, "rb") as opened:
                shown.append(opened.read())
        info = await probe(sandbox, folder, folder.path / made.outputs[0].path)
        return Outcome(shown=b"".join(shown), streams=[stream.kind for stream in info.streams])
    except (CommandFailed, DownloadFailed) as error:
        return Outcome(final="failed", why=str(error), shown=str(error).encode() + _contents(folder))
    finally:
        await fetcher.close()
        folder.remove()


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
        quick = replace(LIMITS, wall_seconds=6, cpu_seconds=4)
        result = await run_sandboxed(sandbox, argv, folder, quick, guarded=False)
        return Outcome(final=result.ended.name, shown=result.stderr + _contents(folder))
    finally:
        folder.remove()


def _substituted(word: str, files: dict[str, str]) -> str:
    return re.sub(r"\{\{\s*(\w+)\s*\}\}|\b(in_\d+|out_\d+)\b", lambda m: files.get(m[1] or m[2], m[0]), word)


async def _all(
    run: Callable[[str], Awaitable[Outcome]], world: World, cases: list[str], prefix: str
) -> dict[str, Outcome]:
    gate = asyncio.Semaphore(3)

    async def one(case_id: str) -> Outcome:
        async with gate:
            return await run(case_id)

    outcomes = dict(zip(cases, await asyncio.gather(*map(one, cases)), strict=True))
    world.eyes.look()
    for watched, names in world.eyes.seen.items():
        place, _, kind = watched.partition(":")
        case_id = place.partition("-")[2]
        if place.startswith(prefix) and case_id in outcomes:
            outcomes[case_id].touched += [f"{kind}/{name}" for name in names]
    return outcomes


@pytest.fixture(scope="module")
async def as_client(world: World, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    root = WorkRoot(tmp_path_factory.mktemp("client") / "work")

    async def run(case_id: str) -> Outcome:
        return await _as_client(world, sandbox, root, case_id)

    outcomes = await _all(run, world, CASES, "client")
    root.close()
    return outcomes


@pytest.fixture(scope="module")
async def in_the_cage(
    world: World, sandbox: Sandbox, as_client: dict[str, Outcome], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Outcome]:
    root = WorkRoot(tmp_path_factory.mktemp("cage") / "work")
    cases = [case["id"] for case in ATTACKS["cases"] if case["class"] not in NOT_FOR_THE_CAGE]

    async def run(case_id: str) -> Outcome:
        return await _straight_into_the_cage(world, sandbox, root, case_id)

    outcomes = await _all(run, world, cases, "cage")
    root.close()
    return outcomes


def _nothing_shown(outcome: Outcome, world: World) -> None:
    assert CANARY.encode() not in outcome.shown
    assert ENVIRONMENT_SECRET.encode() not in outcome.shown
    assert outcome.touched == []
    assert world.reached == []


@pytest.mark.parametrize("case_id", CASES)
def test_a_request_comes_to_what_it_must(case_id: str, as_client: dict[str, Outcome], world: World) -> None:
    outcome, case = as_client[case_id], case_by_id(case_id)
    expected = case["expect"]
    assert expected["submit"] in ("any", outcome.submit), outcome.why
    allowed = {
        "rejected_or_failed": {"rejected", "failed"},
        "failed_or_harmless": {"rejected", "failed", "succeeded"},
        "failed_or_rejected_within_limits": {"rejected", "failed"},
        "failed": {"rejected", "failed"},
        "succeeded": {"succeeded"},
        "any": {"rejected", "failed", "succeeded"},
    }
    assert outcome.final in allowed[expected["final"]], outcome.why
    _nothing_shown(outcome, world)
    assert str(world.root) not in outcome.why or case_id in outcome.why


@pytest.mark.parametrize("case_id", [case["id"] for case in ATTACKS["cases"] if case["class"] not in NOT_FOR_THE_CAGE])
def test_the_cage_alone_holds_it(case_id: str, in_the_cage: dict[str, Outcome], world: World) -> None:
    _nothing_shown(in_the_cage[case_id], world)


def test_the_right_file_stands_for_each_placeholder(as_client: dict[str, Outcome]) -> None:
    assert as_client["P23"].streams == ["video", "audio", "audio"]


def test_a_name_of_this_machine_is_refused_as_its_address(as_client: dict[str, Outcome]) -> None:
    for case_id in ("S60", "S62"):
        assert "not a public one" in as_client[case_id].why


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

    async def run(one: str) -> Outcome:
        return await _straight_into_the_cage(world, bare, root, one)

    before = len(world.reached)
    outcomes = await _all(run, world, [case_id], "cage")
    outcome = outcomes[case_id]
    root.close()
    reached, world.reached[before:] = world.reached[before:], []
    match shows:
        case "network":
            assert reached == ["tcp"]
        case "canary env":
            assert b"HOME=/nonexistent" in outcome.shown
        case _:
            assert any(touched.startswith(shows) for touched in outcome.touched)
