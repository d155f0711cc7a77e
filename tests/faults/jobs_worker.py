"""The real worker with a handler that a test scripts.

Commands run as ever. A probe's spec here: `pause` before all, `seconds` to work in a child process (`again` of them in
every later attempt), `record` a file that gets a line for each such start (the child's pid), `fault` to fail by it,
`full` a folder in which there is no room as long as it has a file `full`, `outputs` names to publish.
"""

import asyncio
import errno
import os
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import deploy.local.tether
from services.common.process import run
from services.common.task_failure import TaskFailure
from services.ffmpeg.isolation import Isolation
from services.ffmpeg.job import JobFault, Progress
from services.ffmpeg.job_state import JobKind
from services.ffmpeg.outputs import Outputs
from services.ffmpeg.plan import PlannedOutput
from services.ffmpeg.settings import WorkerSettings
from services.ffmpeg.worker.__main__ import handlers as real_handlers
from services.ffmpeg.worker.__main__ import serve_worker
from services.ffmpeg.worker.handler import Handlers, JobContext


async def act(context: JobContext, outputs: Outputs) -> Mapping[str, Any]:
    spec = context.job.spec
    await asyncio.sleep(spec.get("pause", 0))
    if "seconds" in spec:
        await act_in_child(context, spec)
    if fault := spec.get("fault"):
        raise JobFault(TaskFailure(fault), "as scripted", may_pass=spec.get("may_pass", False))
    full = Path(spec.get("full", "/"))
    if context.folder.path.is_relative_to(full) and (full / "full").exists():
        raise OSError(errno.ENOSPC, "as scripted")
    files = []
    for name in spec.get("outputs", []):
        (context.folder.path / "out" / name).write_bytes(context.job.id.encode() * 1000)
        files.append(PlannedOutput(name, name, f"out/{name}"))
    sizes = await outputs.publish(context.job.id, context.folder.collect(files), context)
    return {"outputs": sizes, "attempt": context.job.attempt}


async def act_in_child(context: JobContext, spec: Mapping[str, Any]) -> None:
    seconds = spec.get("again", spec["seconds"]) if context.job.attempt > 1 else spec["seconds"]
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-ISs", deploy.local.tether.__file__, str(os.getpid())),
        *("sleep", str(seconds)),
    )
    try:
        if record := spec.get("record"):
            with Path(record).open("a") as file:  # noqa: ASYNC230 - one short line
                file.write(f"{child.pid}\n")
        context.show(Progress(fraction=0.5))
        await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


def handlers(stack: AsyncExitStack, settings: WorkerSettings, isolation: Isolation, outputs: Outputs) -> Handlers:
    real = real_handlers(stack, settings, isolation, outputs)
    return {**real, JobKind.PROBE: lambda context: act(context, outputs)}


def main() -> None:
    run("worker", WorkerSettings, lambda settings: serve_worker(settings, handlers))
