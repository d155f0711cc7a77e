"""Runs a client's ffmpeg command: inputs in, ffmpeg in its cage, outputs out."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import Any

from services.common.errors import ReelwayError
from services.common.task_failure import TaskFailure
from services.ffmpeg.command_policy import plan
from services.ffmpeg.command_run import run_plan
from services.ffmpeg.job import JobFault
from services.ffmpeg.limits import Limits
from services.ffmpeg.outputs import Outputs
from services.ffmpeg.plan import Plan
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.worker.handler import JobContext
from services.ffmpeg.worker.inputs import Inputs


class CommandHandler:
    """Handler of JobKind.COMMAND. Spec: `command`, `input_files`, `output_files`, as CommandWork.

    Result: `outputs` (a list of placeholder, name, size_bytes), `isolation` (the layers), `seconds` (fetch, run,
    publish) and `cpu_seconds`.
    """

    def __init__(self, sandbox: Sandbox, inputs: Inputs, outputs: Outputs, limits: Limits) -> None:
        self._sandbox, self._inputs, self._outputs, self._limits = sandbox, inputs, outputs, limits

    async def __call__(self, context: JobContext) -> Mapping[str, Any]:
        """Raises JobFault, NoLongerHeld."""
        planned = self._plan(context.job.spec)
        clock = [time.monotonic()]
        folder = context.folder
        await self._inputs.bring(context.job.owner, planned.inputs, folder.path)
        clock.append(time.monotonic())
        collected, result = await run_plan(self._sandbox, planned, folder, context.show)
        clock.append(time.monotonic())
        sizes = await self._outputs.publish(context.job.id, collected, context)
        clock.append(time.monotonic())
        return {
            "outputs": [
                {"placeholder": file.placeholder, "name": file.name, "size_bytes": sizes[file.placeholder]}
                for file in planned.outputs
            ],
            "isolation": self._sandbox.layers.label,
            "seconds": [round(after - before, 3) for before, after in itertools.pairwise(clock)],
            "cpu_seconds": round(result.cpu_seconds, 2),
        }

    def _plan(self, spec: Mapping[str, Any]) -> Plan:
        # Judged again: the policy may have grown stricter since, and what Redis holds is no proof.
        try:
            return plan(spec["command"], spec["input_files"], spec["output_files"], self._limits)
        except ReelwayError as error:
            raise JobFault(TaskFailure.COMMAND_REFUSED, error.message) from None
