"""Runs a plan whose inputs lie in the job's folder, and hands over its outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.common.task_failure import TaskFailure
from services.ffmpeg.error_text import last_words
from services.ffmpeg.job import JobFault, Progress
from services.ffmpeg.plan import Plan
from services.ffmpeg.probe import ProbeFailed, probe
from services.ffmpeg.process import Ended, RunResult, run_sandboxed
from services.ffmpeg.progress import ProgressReader
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.work_folder import CollectedOutput, OutputMissing, WorkFolder


async def run_plan(
    sandbox: Sandbox, plan: Plan, folder: WorkFolder, report: Callable[[Progress], None]
) -> tuple[list[CollectedOutput], RunResult]:
    """The outputs, open for reading, each whole; raises JobFault, and OSError ENOSPC where the disk was full.

    A status other than 0 is a failure whatever was written: a stopped ffmpeg finishes its file as if it were done.
    """
    names = plan.names(folder.path)
    for file in plan.inputs:
        if file.read_by_filter:
            # A filter opens files past the forced whitelists; what is no plain media never gets there.
            try:
                await probe(sandbox, folder, folder.path / file.path)
            except ProbeFailed as error:
                raise JobFault(TaskFailure.FFMPEG_FAILED, f"{file.placeholder}: {error}") from None
    reader = ProgressReader(plan.timeline, report)
    argv = [sandbox.ffmpeg, *plan.argv(folder.path)]
    result = await run_sandboxed(sandbox, argv, folder, plan.limits, on_line=reader.line, on_log=reader.log)
    result.require_room()
    if result.ended is not Ended.SUCCEEDED:
        raise result.fault(_words(result, names))
    try:
        return folder.collect(plan.outputs), result
    except OutputMissing as error:
        raise JobFault(TaskFailure.FFMPEG_FAILED, f"{error.args[0]}: ffmpeg wrote nothing there") from None


def _words(result: RunResult, names: Mapping[str, str]) -> str:
    """Why the command failed, for the client."""
    if result.ended is not Ended.FAILED:
        return f"The command {result.ended.value}"
    if result.exit_code < 0:
        return f"ffmpeg was stopped by signal {-result.exit_code}"
    return last_words(result.stderr, names) or f"ffmpeg ended with status {result.exit_code}"
