"""SIGKILL at every step between a finished recording and its transcript: the next attempt finishes it, once."""

from pathlib import Path

import aiohttp

from tests.support.armed import arm
from tests.support.library import LibraryUser
from tests.support.object_store import keys_of
from tests.support.recorder import FINALIZE, ended, send, transcriptions, uuid_of
from tests.support.servers import S3Server
from tests.support.speech import make
from tests.support.system import start_system
from tests.support.waiting import is_alive, until, until_ended

QUICK = {
    "JOB_LEASE_SECONDS": "2",
    "JOB_RENEW_SECONDS": "0.5",
    "JOB_STALLED_CHECK_SECONDS": "0.3",
    # The catalog is away for as long as its start takes: no job may run out of tries meanwhile.
    "JOB_BACKOFF_SECONDS": "3",
}


async def test_a_kill_at_any_step_costs_nothing(juicefs_s3: S3Server, tmp_path: Path) -> None:
    """A video without sound takes the same steps, and no time."""
    media = tmp_path / "mute.webm"
    await make("-f", "lavfi", "-i", "testsrc=size=64x36:rate=5:duration=1", "-c:v", "libvpx", str(media))
    async with (
        start_system(tmp_path / "system", env=QUICK, s3=juicefs_s3) as system,
        aiohttp.ClientSession() as http,
    ):

        async def dies_at(name: str, point: str) -> None:
            await arm(system, name, point)
            await until_ended(system.process(name).pid)

        user = LibraryUser.new(system, http)
        await arm(system, "worker", "transcript.stored")
        await arm(system, "catalog", "transcript.registered")
        number = await send(user, media)
        await arm(system, "upload", "seal.recorded")

        async def dies_of_the_end() -> bool:
            # The answer to the last of them is lost, and nobody asks again. A new process is found after a moment.
            assert await user.status("POST", FINALIZE, json={"video_id": number}) == 503
            return not is_alive(system.process("upload").pid)

        await until(dies_of_the_end)
        await arm(system, "upload", "")
        await until_ended(system.process("catalog").pid)
        await arm(system, "catalog", "")
        await until_ended(system.process("worker").pid)
        await dies_at("worker", "transcript.told")
        await arm(system, "worker", "")
        assert (await ended(user, number, 30))["transcription_status"] == "completed"
        video_id = await uuid_of(system, number)
        assert await transcriptions(system, video_id) == 1
        made = await keys_of(system.s3, f"transcripts/{video_id}/")
        assert {key.rpartition(".")[2] for key in made} == {"json", "vtt"}
        assert len(made) == 2
