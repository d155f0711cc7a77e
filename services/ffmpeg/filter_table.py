"""Which filters a command may use, and what each of their options may hold.

The table itself is `filter_options.txt`; a filter or option that is not in it does not run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib import resources

from services.ffmpeg.digits import whole_number
from services.ffmpeg.filter_graph import Parts, RawFilter, RawGraph, check_expression, escape_value
from services.ffmpeg.format_table import words
from services.ffmpeg.limits import Limits
from services.ffmpeg.placeholders import FileRef, braced
from services.ffmpeg.refusal import CommandRefused


class Kind(Enum):
    """What an option's value is; see the head of filter_options.txt."""

    VALUE = ""
    SIZE = "size"
    STRING = "s"
    TEXT = "t"
    FONT = "font"
    FILE = "F"
    MEDIA = "M"
    REFUSED = "x"


@dataclass(frozen=True)
class FilterRule:
    """One line of the table."""

    name: str
    slots: tuple[tuple[str, ...], ...]
    """Names of each option that has a position, aliases together."""
    kinds: dict[str, Kind]


ResolveInput = Callable[[str, str, bool], FileRef | None]
"""(value, subject, opened as media) → the declared input that the value names whole, or None."""

# Options that libavfilter itself adds to every filter (timeline, slice threads) or to those that sync frames.
_COMMON = {
    "enable": Kind.STRING,
    "thread_type": Kind.VALUE,
    "threads": Kind.VALUE,
    "eof_action": Kind.VALUE,
    "shortest": Kind.VALUE,
    "repeatlast": Kind.VALUE,
    "ts_sync_mode": Kind.VALUE,
}
_WHY_REFUSED = {
    "sendcmd": "sends commands to other filters, which could name files",
    "asendcmd": "sends commands to other filters, which could name files",
    "zmq": "opens a network socket",
    "azmq": "opens a network socket",
    "ladspa": "loads program code",
    "lv2": "loads program code",
    "frei0r": "loads program code",
    "frei0r_src": "loads program code",
}
_FONT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,63}")
_FONT_FILE = re.compile(
    r"/usr/share/fonts/(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*\.(?:ttf|otf|ttc)"
)
_PICTURE_FILTERS = frozenset({"scale", "scale2ref", "zscale", "pad", "v360"})
SOURCES = words("""
    color testsrc testsrc2 smptebars smptehdbars rgbtestsrc yuvtestsrc pal75bars pal100bars nullsrc allrgb allyuv
    colorchart colorspectrum gradients mandelbrot sierpinski haldclutsrc mptestsrc anullsrc sine anoisesrc aevalsrc
""")
"""Filters that make what they give."""
_DURATIONS = frozenset({"d", "duration"})
_COUNT_OPTIONS = words("inputs outputs nb_inputs n v a")
_COUNTED_FILTERS = words("""
    split asplit select aselect amix amerge concat hstack vstack xstack xmedian mix interleave ainterleave join
""")
_THREAD_OPTIONS = frozenset({"threads", "dec_threads"})
_SIZE = re.compile(r"([0-9]+)x([0-9]+)")
_MAX_PADS = 64


@cache
def table() -> dict[str, FilterRule]:
    """Filter name → rule."""
    text = resources.files("services.ffmpeg").joinpath("filter_options.txt").read_text("utf-8")
    rules = (_rule(line) for line in text.splitlines() if not line.startswith("#"))
    return {rule.name: rule for rule in rules}


def _rule(line: str) -> FilterRule:
    name, *columns = line.split(" ")
    slots: list[tuple[str, ...]] = []
    kinds = dict(_COMMON)
    for column in columns:
        word, _, kind = column.partition(":")
        names = tuple(word.removeprefix("+").split("="))
        kinds.update(dict.fromkeys(names, Kind(kind)))
        if not word.startswith("+"):
            slots.append(names)
    return FilterRule(name, tuple(slots), kinds)


@dataclass(frozen=True)
class CheckedGraph:
    """A graph that may run."""

    parts: Parts
    """Its text, with files where inputs are read."""
    filters: int
    """How many filters it has."""
    endless: bool
    """It is one source filter that was given no duration."""
    chains: tuple[tuple[RawFilter, ...], ...]
    """As they were written."""


def check_graph(graph: RawGraph, resolve: ResolveInput, limits: Limits) -> CheckedGraph:
    """`graph` written out anew with each option named; raises CommandRefused naming the filter or option."""
    parts: list[str | FileRef] = [f"sws_flags={graph.scaler_flags};" if graph.scaler_flags else ""]
    filters = [raw for chain in graph.chains for raw in chain]
    for number, chain in enumerate(graph.chains):
        parts.append(";" if number else "")
        for place, raw in enumerate(chain):
            parts.append("," if place else "")
            parts.extend(_write_filter(raw, resolve, limits))
    endless = len(filters) == 1 and _is_endless(filters[0])
    return CheckedGraph(tuple(parts), len(filters), endless, graph.chains)


def named_options(raw: RawFilter) -> list[tuple[str, str]]:
    """Option names and values of a filter of the table; a value that has a position gets its name.

    Raises CommandRefused for a value behind the last position.
    """
    rule = table()[raw.name]
    named: list[tuple[str, str]] = []
    position = 0
    for option in raw.options:
        if option.key is not None:
            # Behind a named option libavfilter takes no more unnamed ones.
            named.append((option.key, option.value))
            position = len(rule.slots)
        elif position < len(rule.slots):
            named.append((rule.slots[position][0], option.value))
            position += 1
        else:
            raise CommandRefused(f"filter {raw.name}", f"the value '{option.value[:40]}' has no option's name")
    return named


def _is_endless(raw: RawFilter) -> bool:
    return raw.name in SOURCES and not any(key in _DURATIONS for key, _ in named_options(raw))


def _write_filter(raw: RawFilter, resolve: ResolveInput, limits: Limits) -> list[str | FileRef]:
    rule = table().get(raw.name)
    if rule is None:
        why = _WHY_REFUSED.get(raw.name, "this filter is not allowed")
        raise CommandRefused(f"filter {raw.name}", why)
    parts: list[str | FileRef] = [f"[{label}]" for label in raw.inputs]
    parts.append(raw.name + raw.instance)
    named = named_options(raw)
    _check_picture(raw.name, named, limits)
    for number, (key, value) in enumerate(named):
        parts += [":" if number else "=", f"{key}=", _check_value(rule, key, value, resolve, limits)]
    parts.extend(f"[{label}]" for label in raw.outputs)
    return parts


def _check_value(rule: FilterRule, key: str, value: str, resolve: ResolveInput, limits: Limits) -> str | FileRef:
    subject = f"filter {rule.name}, option {key}"
    kind = rule.kinds.get(key)
    if kind is None:
        raise CommandRefused(subject, "this option is not known here")
    if kind is Kind.REFUSED:
        raise CommandRefused(subject, "this option is not allowed: it could read or write a file")
    if kind in (Kind.FILE, Kind.MEDIA) or (key == "fontfile" and braced(value)):
        ref = resolve(value, subject, kind is Kind.MEDIA)
        if ref is None:
            raise CommandRefused(subject, "only a declared input can be named here, as {{in_1}}")
        return ref
    if stray := braced(value):
        raise CommandRefused(subject, f"the placeholder {{{{{stray}}}}} cannot stand here")
    if kind is Kind.FONT:
        _check_font(key, value, subject)
    elif kind is not Kind.TEXT or "%{" in value:  # drawtext evaluates what stands in %{…}
        _check_plain(rule, key, value, subject, limits)
    return escape_value(value)


def _check_font(key: str, value: str, subject: str) -> None:
    pattern = _FONT_FILE if key == "fontfile" else _FONT_NAME
    if not pattern.fullmatch(value):
        raise CommandRefused(subject, "only a plain font name, a file under /usr/share/fonts or a declared input")


def _check_plain(rule: FilterRule, key: str, value: str, subject: str, limits: Limits) -> None:
    check_expression(value, subject)
    if rule.kinds[key] is Kind.SIZE:
        check_size(f"filter {rule.name}", value, limits)
    count = whole_number(value)
    if key in _THREAD_OPTIONS and (count is None or count > limits.threads):
        raise CommandRefused(subject, f"at most {limits.threads}")
    if rule.name in _COUNTED_FILTERS and key in _COUNT_OPTIONS and (count is None or count > _MAX_PADS):
        raise CommandRefused(subject, f"at most {_MAX_PADS}")


def _check_picture(name: str, named: Sequence[tuple[str, str]], limits: Limits) -> None:
    """Refuse a picture whose sides are both written as numbers and make too many pixels."""

    def last(*keys: str) -> str:
        return next((value for key, value in reversed(named) if key in keys), "")

    if name in _PICTURE_FILTERS:
        subject, width = f"filter {name}", last("w", "width")
        _check_sides(subject, width, last("h", "height"), limits)
        # Scalers take both sides at once, too, in an option of its own or in that of the width.
        for size in (width, last("s", "size")):
            check_size(subject, size, limits)


def _check_sides(subject: str, width: str, height: str, limits: Limits) -> None:
    """Refuse a picture whose sides, as far as they are written as numbers, make too many pixels."""
    wide, high = whole_number(width) or 0, whole_number(height) or 0
    if max(wide, high) > limits.max_side or wide * high > limits.max_pixels:
        why = f"{wide}x{high} is more than {limits.max_pixels} pixels, or more than {limits.max_side} on a side"
        raise CommandRefused(subject, why)


def check_size(subject: str, size: str, limits: Limits) -> None:
    """The same for a size that is written as WxH; a size's name is left to ffmpeg."""
    if match := _SIZE.fullmatch(size):
        _check_sides(subject, match[1], match[2], limits)
