"""How much a filter graph gives, in seconds, from the lengths of its inputs: for progress.

Only filters that join or cut are looked at. Any other is taken to give as much as the longest of its inputs: where one
changes the speed or ends early, that is an estimate.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from services.ffmpeg.digits import whole_number
from services.ffmpeg.filter_graph import RawFilter
from services.ffmpeg.filter_table import SOURCES, named_options
from services.ffmpeg.option_values import seconds_of

Chains = tuple[tuple[RawFilter, ...], ...]
_Place = tuple[int, int]  # of a filter: the number of its chain, and its place there

_STREAM = re.compile(r"(\d{1,3})(?::|\?|$)", re.ASCII)
_FADE_SECONDS = 1.0  # of acrossfade, where it is told none


class GraphLengths:
    """The lengths in one command's graphs; None: not known, or without an end."""

    def __init__(self, chains: Chains, inputs: Sequence[float | None]) -> None:
        """`chains` of all graphs together, and the length of each input file."""
        self._chains = chains
        self._inputs = inputs
        self._made: dict[_Place, float | None] = {}
        filters = {(n, place): raw for n, chain in enumerate(chains) for place, raw in enumerate(chain)}
        self._makers = {label: at for at, raw in filters.items() for label in raw.outputs}
        feeds = {at: self._feeds(at) for at in filters}
        before = {at: [feed for feed in found if not isinstance(feed, str)] for at, found in feeds.items()}
        # A graph that goes in a circle is refused by ffmpeg: nothing is known of it.
        with contextlib.suppress(CycleError):
            # Sorted, not by recursion: Python's stack is not deep enough for as many filters as there may be.
            for at in TopologicalSorter(before).static_order():
                self._made[at] = self._given(filters[at], [self._length(feed) for feed in feeds[at]])

    def of(self, label: str) -> float | None:
        """The length of a label without its brackets: of a graph's output, or of an input's stream such as `0:v`."""
        return self._length(self._makers.get(label, label))

    def unnamed_ends(self) -> list[float | None]:
        """The lengths of the outputs without a label, which ffmpeg gives to its first output file."""
        return [self._made.get((n, len(chain) - 1)) for n, chain in enumerate(self._chains) if not chain[-1].outputs]

    def _feeds(self, at: _Place) -> list[_Place | str]:
        """What a filter takes, in its order: other filters, or streams of the inputs."""
        number, place = at
        chain = self._chains[number]
        feeds: list[_Place | str] = [self._makers.get(label, label) for label in chain[place].inputs]
        return [*feeds, (number, place - 1)] if place and not chain[place - 1].outputs else feeds

    def _length(self, feed: _Place | str) -> float | None:
        if not isinstance(feed, str):
            return self._made.get(feed)
        match = _STREAM.match(feed)
        return self._inputs[int(match[1])] if match and int(match[1]) < len(self._inputs) else None

    def _given(self, raw: RawFilter, taken: Sequence[float | None]) -> float | None:
        options = dict(named_options(raw))
        # Where a filter is given nothing, ffmpeg itself chooses inputs, in their order.
        chosen = taken or self._inputs
        match raw.name:
            case name if name in SOURCES:
                return _seconds(options, "duration", "d")
            case "movie" | "amovie":
                return None
            case "concat":
                return self._joined(options, taken)
            case "xfade" if len(chosen) >= 2 and chosen[1] is not None:
                return (_seconds(options, "offset") or 0.0) + chosen[1]
            case "acrossfade" if len(chosen) >= 2:
                fade, whole = _seconds(options, "duration", "d"), _sum(chosen[:2])
                return None if whole is None else max(whole - (_FADE_SECONDS if fade is None else fade), 0.0)
            case "trim" | "atrim":
                return _cut(longest(chosen), options)
            case _:
                return longest(chosen)

    def _joined(self, options: Mapping[str, str], taken: Sequence[float | None]) -> float | None:
        segments = whole_number(options.get("n", "2"))
        video, audio = whole_number(options.get("v", "1")), whole_number(options.get("a", "0"))
        if segments is None or video is None or audio is None:
            return None
        if not taken:
            # ffmpeg takes the inputs in their order.
            return _sum(self._inputs[:segments]) if segments <= len(self._inputs) else None
        streams = video + audio
        if not streams or len(taken) != segments * streams:
            return None
        return _sum(longest(taken[at : at + streams]) for at in range(0, len(taken), streams))


def longest(lengths: Iterable[float | None]) -> float | None:
    """The longest that is known."""
    return max((length for length in lengths if length is not None), default=None)


def shortest(*lengths: float | None) -> float | None:
    """The shortest that is known."""
    return min((length for length in lengths if length is not None), default=None)


def _sum(lengths: Iterable[float | None]) -> float | None:
    total = 0.0
    for length in lengths:
        if length is None:
            return None
        total += length
    return total


def _cut(length: float | None, options: Mapping[str, str]) -> float | None:
    start = _seconds(options, "start", "starti") or 0.0
    end = shortest(length, _seconds(options, "end", "endi"))
    left = None if end is None else max(end - start, 0.0)
    return shortest(left, _seconds(options, "duration", "durationi"))


def _seconds(options: Mapping[str, str], *names: str) -> float | None:
    return next((seconds_of(options[name]) for name in names if name in options), None)
