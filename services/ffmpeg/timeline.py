"""How long the media is that a command writes, once the durations of its inputs are known: for progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.ffmpeg.digits import whole_number
from services.ffmpeg.graph_length import Chains, GraphLengths, longest, shortest
from services.ffmpeg.option_values import seconds_of

ValueOf = Callable[[str], str | None]
"""The value of an option by its name, as the client wrote it; None where it was not given."""


@dataclass(frozen=True)
class InputSpan:
    """What is read of an input; all in seconds."""

    start: float = 0.0
    """-ss."""
    tail: float | None = None
    """-sseof: how long before its end it begins."""
    stop: float | None = None
    """No more is read: -t, or -to less -ss."""
    plays: int | None = 1
    """How often it plays, one more than -stream_loop; None: for ever, or not known."""
    generated: Chains = ()
    """The graph of a synthetic source, of which ffmpeg tells no duration."""

    @classmethod
    def of(cls, value: ValueOf, *, endless: bool, generated: Chains) -> InputSpan:
        """From the options before an input."""
        repeats = None if endless else whole_number(value("stream_loop") or "0")
        return cls(
            start=_start(value),
            # Of -ss and -sseof, ffmpeg obeys -ss.
            tail=seconds_of((value("sseof") or "").removeprefix("-")) if value("ss") is None else None,
            stop=_stop(value),
            plays=None if repeats is None else repeats + 1,
            generated=generated,
        )

    def seconds(self, duration: float | None) -> float | None:
        """How much it gives; `duration` is that of the whole file. None where it is not known."""
        if self.generated:
            duration = longest(GraphLengths(self.generated, ()).unnamed_ends())
        if duration is None or self.plays is None:
            return self.stop
        start = self.start if self.tail is None else max(duration - self.tail, 0.0)
        return shortest(max(duration * self.plays - start, 0.0), self.stop)


@dataclass(frozen=True)
class OutputSpan:
    """What is written of what there is; in seconds."""

    start: float = 0.0
    """-ss: so much is thrown away first."""
    stop: float | None = None
    """No more is written: -t, or -to less -ss."""
    maps: tuple[str, ...] = ()
    """Of -map: `0:v`, `[label]`; empty: ffmpeg chooses."""
    shortest: bool = False
    """The first stream that ends ends it."""

    @classmethod
    def of(cls, value: ValueOf, maps: tuple[str, ...]) -> OutputSpan:
        """From the options before an output."""
        return cls(_start(value), _stop(value), maps, shortest=value("shortest") is not None)


@dataclass(frozen=True)
class Timeline:
    """All that says how long the outputs become. An estimate: see graph_length.py."""

    inputs: tuple[InputSpan, ...] = ()
    outputs: tuple[OutputSpan, ...] = ()
    chains: Chains = ()
    """Of the command's complex graphs."""

    def seconds(self, durations: Mapping[int, float]) -> float | None:
        """The longest output, from the inputs' durations by their number; None where one of them is not known."""
        inputs = [span.seconds(durations.get(number)) for number, span in enumerate(self.inputs)]
        graphs = GraphLengths(self.chains, inputs)
        written = [self._written(output, graphs, inputs) for output in self.outputs]
        return None if None in written else longest(written)

    def _written(self, output: OutputSpan, graphs: GraphLengths, inputs: list[float | None]) -> float | None:
        chosen = [graphs.of(label.strip("[]")) for label in output.maps if not label.startswith("-")]
        streams = chosen or [*graphs.unnamed_ends(), *inputs]
        whole = shortest(*streams) if output.shortest else longest(streams)
        left = None if whole is None else max(whole - output.start, 0.0)
        return shortest(left, output.stop)


def _start(value: ValueOf) -> float:
    return seconds_of(value("ss") or "") or 0.0


def _stop(value: ValueOf) -> float | None:
    # Of -t and -to, ffmpeg obeys -t.
    if (text := value("t")) is not None:
        return seconds_of(text)
    end = seconds_of(value("to") or "")
    return None if end is None else max(end - _start(value), 0.0)
