"""The process that hears: one a transcription, `python -m services.ffmpeg.transcription.child`.

A process of its own, because a model's memory must be limited, must not stay, and must not take the worker down.
It holds no credentials: pieces go to its parent, which stores them.

Standard input: one line of JSON (`Request`), then one line a piece that is already known; then the end.
Standard output: one JSON object a line: first `{"model", "spans"}`, then `{"piece"}` for each missing piece in
order, or `{"failed", "detail"}`. Everything that libraries print goes to standard error.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from services.ffmpeg.disk_fault import of_the_disk
from services.ffmpeg.transcription.config import EngineConfig
from services.ffmpeg.transcription.engines import Engine, make_engine
from services.ffmpeg.transcription.failure import FailureReason, TranscriptionError
from services.ffmpeg.transcription.language import locked
from services.ffmpeg.transcription.pcm import PcmFile, cut, is_silent
from services.ffmpeg.transcription.words import Heard, Piece

NICENESS = 10
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Request:
    """What to hear."""

    parent: int
    """Process id; the child ends with it."""
    memory: int
    """Bytes of private memory, reserved or taken; 0: no limit."""
    pcm: str
    """Path of the samples."""
    language: str
    """ISO 639-1; empty: detect."""
    config: EngineConfig

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Request:
        """Inverse of `to_json`."""
        fields = json.loads(text)
        return cls(**{**fields, "config": EngineConfig(**fields["config"])})


def main() -> None:
    """Hear what is asked for on standard input."""
    # Libraries write where they like; the protocol keeps a descriptor to itself.
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    request = Request.from_json(sys.stdin.readline())
    known = [Piece.from_json(line) for line in sys.stdin]
    confine(request)
    try:
        for event in hear(request, known):
            tell(events, event)
    except TranscriptionError as error:
        tell(events, {"failed": error.reason.name, "detail": error.detail[:2000]})
    except MemoryError:
        tell(events, {"failed": FailureReason.OUT_OF_MEMORY.name, "detail": f"limit {request.memory}"})
    except OSError as error:
        if not of_the_disk(error):
            raise
        tell(events, {"failed": FailureReason.STORAGE_UNAVAILABLE.name, "detail": str(error)[:2000]})


def tell(events: TextIO, event: dict[str, Any]) -> None:
    """Send one line at once."""
    events.write(json.dumps(event, ensure_ascii=False) + "\n")
    events.flush()


def confine(request: Request) -> None:
    """Low priority, bounded memory, and no life after the parent's.

    RLIMIT_DATA counts private writable memory, also what is merely reserved: with the base model 1.6 GB on processors
    of Intel, whose library takes a tenth of its work space, 0.6 GB on others. RLIMIT_AS would count mapped models, and
    what allocators keep for later, many times more.
    """
    os.nice(NICENESS)
    if request.memory:
        resource.setrlimit(resource.RLIMIT_DATA, (request.memory, request.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != request.parent:
        # The parent died before the line above could see it.
        raise SystemExit(1)


def hear(request: Request, known: list[Piece]) -> Iterator[dict[str, Any]]:
    """The events of a transcription, the engine open while they come."""
    engine = make_engine(request.config)
    try:
        engine.open()
        if request.language not in {"", "en"} and not engine.multilingual:
            raise TranscriptionError(FailureReason.UNSUPPORTED_LANGUAGE, f"{request.language} with {engine.model}")
        with PcmFile(Path(request.pcm)) as pcm:
            spans = list(cut(pcm, engine.longest_seconds))
            yield {"model": engine.model, "spans": spans}
            yield from _missing(request, engine, pcm, spans, known)
    finally:
        engine.close()


def _missing(
    request: Request, engine: Engine, pcm: PcmFile, spans: list[tuple[int, int]], known: list[Piece]
) -> Iterator[dict[str, Any]]:
    heard_before = {piece.span: piece.heard for piece in known if piece.model == engine.model}
    all_heard: list[Heard] = []
    for span in spans:
        heard = heard_before.get(span)
        if heard is None:
            samples = pcm.read(*span)
            language = request.language or locked(all_heard)
            heard = Heard() if is_silent(samples) else engine.run(samples, language)
            yield {"piece": asdict(Piece(*span, engine.model, heard))}
        all_heard.append(heard)


if __name__ == "__main__":
    main()
