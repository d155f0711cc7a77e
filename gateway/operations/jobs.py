"""ffmpeg tasks, whatever dialect they came by."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from reelway.v1 import ffmpeg_pb2

from gateway.ffmpeg_backend import FfmpegBackend


@dataclass(frozen=True)
class Command:
    """What a client wants to run."""

    command: str
    inputs: Mapping[str, str]
    """Placeholder to address."""
    outputs: Mapping[str, str]
    """Placeholder to file name."""

    @property
    def work(self) -> ffmpeg_pb2.CommandWork:
        """As the service takes it."""
        return ffmpeg_pb2.CommandWork(command=self.command, input_files=self.inputs, output_files=self.outputs)


@dataclass(frozen=True)
class Verdict:
    """A command that may run."""

    arguments: list[str]
    limits: dict[str, float]


@dataclass(frozen=True)
class FfmpegHealth:
    """What the service can run."""

    installed: bool
    ready: bool
    version: str
    isolation: dict[str, Any]
    """Every layer and the self-test, for operators."""


class Jobs:
    """ReelwayError as FfmpegService says, from every method."""

    def __init__(self, backend: FfmpegBackend) -> None:
        self._backend = backend

    async def register(self, command: Command, idempotency_key: str) -> ffmpeg_pb2.Task:
        """The task, acknowledged: it will run."""
        return await self._backend.register(command.work, idempotency_key)

    async def plan(self, command: Command) -> Verdict:
        """The verdict on a command, without running it."""
        answer = await self._backend.plan(command.work)
        return Verdict(list(answer.arguments), dict(answer.limits))

    async def get(self, task_id: str) -> ffmpeg_pb2.Task:
        """One task."""
        return await self._backend.get(task_id)

    async def page(self, size: int, token: str) -> tuple[list[ffmpeg_pb2.Task], str]:
        """The caller's tasks, newest first, and the token of the next page."""
        answer = await self._backend.list(size, token)
        return list(answer.tasks), answer.next_page_token

    async def cancel(self, task_id: str) -> ffmpeg_pb2.Task:
        """The task after the cancel."""
        return await self._backend.cancel(task_id)

    def watch(self, task_id: str) -> AsyncGenerator[ffmpeg_pb2.Task, None]:
        """The task now and whenever it changes, until it has ended."""
        return self._backend.watch(task_id)

    async def health(self) -> FfmpegHealth:
        """What the service found at its start."""
        answer = await self._backend.health()
        isolation: dict[str, Any] = json.loads(answer.isolation_json or "{}")
        # Where the binary lies is nobody's business outside.
        isolation.get("ffmpeg", {}).pop("path", None)
        return FfmpegHealth(answer.available, answer.isolated, answer.version, isolation)
