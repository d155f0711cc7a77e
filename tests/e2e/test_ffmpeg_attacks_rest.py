"""Every case of tests/data/ffmpeg_attacks*.json as a client would try it: registered by REST on the whole system.

All at once, so that what one case does to the service would be seen in the others. What the policy refuses here is put
straight into the cage in tests/integration/test_ffmpeg_attacks.py.
"""

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.common.s3_objects import S3Objects
from tests.support.clips import described
from tests.support.ffmpeg_world import ATTACKS, CANARY, ENVIRONMENT_SECRET, RunningWorld, World, case_by_id
from tests.support.programs import installed
from tests.support.servers import S3Server
from tests.support.system import RunningSystem, start_system

CASES = [case["id"] for case in ATTACKS["cases"]]
LIMITS = {
    "COMMAND_WALL_SECONDS": "8",
    "COMMAND_CPU_SECONDS": "2",
    "COMMAND_MEMORY_BYTES": str(2**30),
    "COMMAND_INPUT_BYTES": str(20 * 2**20),
    "COMMAND_OUTPUT_BYTES": str(20 * 2**20),
    "COMMAND_THREADS": "2",
    # What may pass is not tried again: nothing here gets better.
    "JOB_TRIES": "1",
    "SLOTS_COMMAND": "6",
}
ALLOWED = {
    "rejected_or_failed": {"rejected", "failed"},
    "failed_or_harmless": {"rejected", "failed", "completed"},
    "failed_or_rejected_within_limits": {"rejected", "failed"},
    "failed": {"rejected", "failed"},
    "succeeded": {"completed"},
    "any": {"rejected", "failed", "completed"},
}
DEADLINE_SECONDS = 150.0
# With the start of all before it: who is late shall fail by the deadline, not take the whole worker of pytest along.
pytestmark = pytest.mark.timeout(300)


@dataclass
class Outcome:
    """What a client saw of a case, and what the eyes saw."""

    status: int = 0
    """Of the registration."""
    final: str = "rejected"
    words: str = ""
    """Every text that came back."""
    outputs: dict[str, bytes] = field(default_factory=dict)
    stored: list[str] = field(default_factory=list)
    """Keys in the bucket."""
    touched: list[str] = field(default_factory=list)


@dataclass
class Run:
    """All cases, and what they did to the system."""

    world: World
    folder: Path
    outcomes: dict[str, Outcome]
    slowest_answer: float


class Client:
    """One user of the gateway."""

    def __init__(self, system: RunningSystem, http: aiohttp.ClientSession) -> None:
        self._base, self._http, self._headers = system.base_url, http, system.authorization()

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        async with self._http.request(method, self._base + path, headers=self._headers, **options) as answer:
            return answer.status, await answer.text()

    async def run(self, body: dict[str, Any]) -> Outcome:
        """Register, wait, fetch."""
        status, text = await self.call("POST", "/ffmpeg/register", json=body)
        outcome = Outcome(status, words=text)
        if status != 200:
            return outcome
        task = json.loads(text)
        while task["status"] in ("pending", "running"):
            await asyncio.sleep(0.3)
            _, text = await self.call("GET", f"/ffmpeg/status/{task['task_id']}")
            task = json.loads(text)
        outcome.final, outcome.words = task["status"], outcome.words + text
        for placeholder, url in (task["output_urls"] or {}).items():
            async with self._http.get(url) as answer:
                assert answer.status == 200
                outcome.outputs[placeholder] = await answer.read()
        return outcome

    async def slowest_answer(self) -> float:
        """Asks for the health of ffmpeg until cancelled."""
        slowest = 0.0
        try:
            while True:
                started = time.monotonic()
                assert (await self.call("GET", "/ffmpeg/health"))[0] == 200
                slowest = max(slowest, time.monotonic() - started)
                await asyncio.sleep(0.5)
        except asyncio.CancelledError:
            return slowest


@pytest.fixture(scope="module")
async def run(juicefs_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Run]:
    folder = tmp_path_factory.mktemp("system")
    async with RunningWorld(tmp_path_factory.mktemp("world")) as world:
        env = LIMITS | {"FFMPEG_INPUT_ALLOW": f"127.0.0.1:{world.fixture_port}", "WORK_DIR": str(folder / "work")}
        async with (
            start_system(folder, env=env, s3=juicefs_s3, ffmpeg_bin=installed()) as system,
            aiohttp.ClientSession() as http,
        ):
            client = Client(system, http)
            pulse = asyncio.create_task(client.slowest_answer())
            async with asyncio.timeout(DEADLINE_SECONDS):
                found = await asyncio.gather(*(client.run(_request(world, case_id)) for case_id in CASES))
            pulse.cancel()
            outcomes = dict(zip(CASES, found, strict=True))
            world.eyes.look()
            for watched, names in world.eyes.seen.items():
                place, _, kind = watched.partition(":")
                outcomes[place].touched += [f"{kind}/{name}" for name in names]
            await _note_objects(system, outcomes)
            yield Run(world, folder, outcomes, await pulse)


def _request(world: World, case_id: str) -> dict[str, Any]:
    case = case_by_id(case_id)
    world.place(case_id)
    for served, instead in case.get("serve_as", {}).items():
        world.serve_as[f"{case_id}/{served}"] = instead
    request = case["request"]
    inputs = {key: world.fill(url, case_id) for key, url in request["input_files"].items()}
    return {
        "ffmpeg_command": world.fill(request["ffmpeg_command"], case_id),
        "input_files": inputs,
        "output_files": request["output_files"],
    }


async def _note_objects(system: RunningSystem, outcomes: dict[str, Outcome]) -> None:
    async with S3Objects.open(system.s3.settings) as objects:
        keys = [found.key async for found in objects.list("ffmpeg-outputs/")]
    for outcome in outcomes.values():
        if outcome.status == 200:
            task_id = json.loads(outcome.words.partition("}")[0] + "}")["task_id"]
            outcome.stored = [key for key in keys if f"/{task_id}/" in key]


@pytest.mark.parametrize("case_id", CASES)
def test_a_request_comes_to_what_it_must(case_id: str, run: Run) -> None:
    outcome, expected = run.outcomes[case_id], case_by_id(case_id)["expect"]
    assert outcome.status in {"2xx": {200}, "4xx": {400}, "any": {200, 400}}[expected["submit"]], outcome.words
    assert outcome.final in ALLOWED[expected["final"]], outcome.words
    shown = b"".join([outcome.words.encode(), *outcome.outputs.values()])
    assert CANARY.encode() not in shown
    assert ENVIRONMENT_SECRET.encode() not in shown
    assert outcome.touched == []
    if outcome.final == "completed":
        assert len(outcome.stored) == len(outcome.outputs) == len(case_by_id(case_id)["request"]["output_files"])
    else:
        # Nothing that was cut short can be had.
        assert (outcome.stored, outcome.outputs) == ([], {})


@pytest.mark.parametrize("case_id", [case["id"] for case in ATTACKS["cases"] if case["class"] == "legit"])
def test_what_is_legitimate_leaves_outputs_that_play(case_id: str, run: Run, tmp_path: Path) -> None:
    outcome = run.outcomes[case_id]
    assert outcome.outputs
    assert all(streams(data, tmp_path) for data in outcome.outputs.values())


def test_the_right_file_stands_for_each_placeholder(run: Run, tmp_path: Path) -> None:
    assert streams(run.outcomes["P23"].outputs["out_1"], tmp_path) == ["video", "audio", "audio"]


def streams(data: bytes, folder: Path) -> list[str]:
    """The kinds of streams of a file, each of which decodes."""
    path = folder / "output"
    path.write_bytes(data)
    subprocess.run(["ffmpeg", "-v", "error", "-xerror", "-i", str(path), "-f", "null", "-"], check=True, timeout=60)
    return [stream["codec_type"] for stream in described(path, "-show_streams")["streams"]]


def test_nobody_was_reached(run: Run) -> None:
    assert run.world.reached == []


def test_no_local_path_is_told(run: Run) -> None:
    told = {case_id: outcome.words for case_id, outcome in run.outcomes.items() if str(run.folder) in outcome.words}
    assert told == {}


def test_no_secret_is_in_the_log(run: Run) -> None:
    logs = b"".join(path.read_bytes() for path in (run.folder / "logs").glob("*.log"))
    assert logs
    assert CANARY.encode() not in logs
    assert ENVIRONMENT_SECRET.encode() not in logs


def test_the_service_answered_all_the_while(run: Run) -> None:
    assert run.slowest_answer < 15


def test_no_work_is_left(run: Run) -> None:
    left = [path for path in (run.folder / "work").glob("*/*") if path.name != "lock"]
    assert left == []
