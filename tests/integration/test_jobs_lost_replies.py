"""Each answer of Redis and of the store gets lost once, in an attempt that brings an output."""

import asyncio
import itertools
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

from services.common.redis_client import connect
from services.common.settings import RedisSettings
from services.ffmpeg.job import NewJob
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.job_state import AttemptOutcome, JobKind, JobState
from services.ffmpeg.outputs import Outputs, key_of
from services.ffmpeg.plan import PlannedOutput
from services.ffmpeg.redis_job_store import RedisJobStore
from services.ffmpeg.work_folder import WorkRoot
from services.ffmpeg.worker.attempt import Attempt
from services.ffmpeg.worker.handler import JobContext
from tests.support.foundation import Foundation
from tests.support.lost_replies import reply_lost


async def test_a_lost_answer_is_no_try_and_the_output_is_there_once(
    near: Foundation, clean_redis: str, tmp_path: Path
) -> None:
    outputs, work = Outputs(near.objects, near.store), WorkRoot(tmp_path)

    async def make(context: JobContext) -> Mapping[str, Any]:
        (context.folder.path / "out" / "a.bin").write_bytes(b"bytes")
        collected = context.folder.collect([PlannedOutput("a", "a.bin", "out/a.bin")])
        return await outputs.publish(context.job.id, collected, context)

    async with connect(RedisSettings(redis_url=clean_redis)) as client:
        store = RedisJobStore(client, JobPolicy(backoff_seconds=0))
        for number in itertools.count(1):
            job, _ = await store.register(NewJob(id=str(uuid.uuid4()), kind=JobKind.COMMAND, owner="anna", spec={}))
            outcomes = list[AttemptOutcome]()
            while lease := await store.claim("worker", uuid.uuid4().hex, [JobKind.COMMAND]):
                until = time.monotonic() + 60
                attempt = Attempt(
                    lease,
                    until,
                    make,
                    store,
                    fence=outputs.abort_earlier,
                    work=work,
                    kill_seconds=60,
                    draining=asyncio.Event(),
                    die=Mock(),
                )
                with reply_lost(0 if outcomes else number) as calls:
                    outcomes.append(await attempt.run())
                is_lost = len(outcomes) > 1 or calls.made >= number
            assert outcomes in ([AttemptOutcome.COMPLETED], [AttemptOutcome.OUTAGE, AttemptOutcome.COMPLETED])
            ended = await store.get(job.id)
            assert ended is not None
            assert (ended.state, ended.tries, ended.attempt) == (JobState.COMPLETED, 0, len(outcomes))
            assert await near.bytes_of(key_of(job.id, "a.bin")) == b"bytes"
            assert await client.exists(f"{{ff}}:uploads:{job.id}", "{ff}:debris", "{ff}:active", "{ff}:owner:anna") == 0
            if not is_lost:
                break
    work.close()
