"""Runs a plan whose inputs lie in the job's folder, and hands over its outputs."""

from __future__ import annotations

from collections.abc import Callable

from services.ffmpeg.error_text import last_words
from services.ffmpeg.job import Progress
from services.ffmpeg.plan import Plan
from services.ffmpeg.probe import ProbeFailed, probe
from services.ffmpeg.process import Ended, RunResult, run_sandboxed
from services.ffmpeg.progress import ProgressReader
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.work_folder import CollectedOutput, OutputMissing, WorkFolder


class CommandFailed(Exception):
    """The command did not do what it should; `args[0]` is for the client."""

    def __init__(self, message: str, *, ended: Ended = Ended.FAILED) -> None:
        super().__init__(message)
        self.ended = ended

    @property
    def transient(self) -> bool:
        """The machine is at fault: nothing is said about the command itself."""
        return not self.ended.conclusive


async def run_plan(
    sandbox: Sandbox, plan: Plan, folder: WorkFolder, report: Callable[[Progress], None]
) -> tuple[list[CollectedOutput], RunResult]:
    """The outputs, open for reading, each whole; raises CommandFailed, and OSError ENOSPC where the disk was full.

    A status other than 0 is a failure whatever was written: a stopped ffmpeg finishes its file and calls it a day.
    """
    names = plan.names(folder.path)
    for file in plan.inputs:
        if file.read_by_filter:
            # A filter opens files past the forced whitelists; what is no plain media never gets there.
            try:
                await probe(sandbox, folder, folder.path / file.path)
            except ProbeFailed as error:
                raise CommandFailed(f"{file.placeholder}: {error}") from None
    reader = ProgressReader(plan.timeline, report)
    argv = [sandbox.ffmpeg, *plan.argv(folder.path)]
    result = await run_sandboxed(sandbox, argv, folder, plan.limits, on_line=reader.line, on_log=reader.log)
    result.require_room()
    if not result.ended.conclusive:
        raise CommandFailed(f"the command {result.ended.value}", ended=result.ended)
    if result.ended is not Ended.SUCCEEDED:
        raise _failure(result, last_words(result.stderr, names))
    try:
        return folder.collect(plan.outputs), result
    except OutputMissing as error:
        raise CommandFailed(f"{error.args[0]}: ffmpeg wrote nothing there") from None


def _failure(result: RunResult, words: str) -> CommandFailed:
    if result.ended is not Ended.FAILED:
        return CommandFailed(f"The command {result.ended.value}", ended=result.ended)
    if result.exit_code < 0:
        return CommandFailed(f"ffmpeg was stopped by signal {-result.exit_code}")
    return CommandFailed(words or f"ffmpeg ended with status {result.exit_code}")
